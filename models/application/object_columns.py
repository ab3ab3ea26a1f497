"""Which columns of the application's tables can hold an object's key or a URL of it."""

from collections.abc import Mapping
from typing import Final

from models.job_tables.registry import JOB_TABLES

OBJECT_COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "users": ("image",),
    "enhanced_images": ("description", "originalUrl", "originalR2Key"),
    **{table.relation: table.object_columns for table in JOB_TABLES},
    "enhancement_pipelines": ("description", "analysisConfig", "autoCropConfig", "promptConfig", "generationConfig"),
    "albums": ("description", "coverImageId"),
    "token_transactions": ("metadata",),
    "vouchers": ("metadata",),
    "merch_webhook_events": ("payload",),
    "campaign_metrics_cache": ("metrics",),
}
"""Table -> its columns that can, in JSON too; no other documented column of the twenty tables can.

Log entries (`error_logs`, `audit_logs`) mention keys and rely on none. A table or column that isn't documented, such
as `merch_order_items."imageR2Key"`, carts, galleries and audio, is looked at whatever it is called: an application
adds such columns without telling anybody, and a paid order's picture may stand in one.
"""
