"""Columns of the application's tables that can hold an object's key or a URL of an object."""

from collections.abc import Mapping
from typing import Final

from models.applications.pictures.job_tables import TABLES

OBJECT_COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "users": ("image",),
    "enhanced_images": ("description", "originalUrl", "originalR2Key"),
    **{table.relation: table.object_columns for table in TABLES},
    "enhancement_pipelines": ("description", "analysisConfig", "autoCropConfig", "promptConfig", "generationConfig"),
    "albums": ("description", "coverImageId"),
    "token_transactions": ("metadata",),
    "vouchers": ("metadata",),
    "merch_webhook_events": ("payload",),
    "campaign_metrics_cache": ("metrics",),
}
"""The columns that can hold an object's key or URL, by table, including JSON columns.

No other documented column of the twenty tables can hold a key. Log entries (`error_logs`, `audit_logs`) mention keys,
but the objects that they mention may be deleted. A table or column that isn't documented, such as
`merch_order_items."imageR2Key"`, carts, galleries and audio, is always searched, whatever its name: an application may
add such columns at any time, and one of them may name the picture of a paid order.
"""
