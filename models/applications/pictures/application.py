"""The application `pictures`: the first one, whose tables Darkroom also makes where there are none."""

from typing import Final

from models.applications.application import Application
from models.applications.pictures import job_tables as pictures

_PERIODIC_TASKS: Final = frozenset(
    {
        *("regenerate-tokens", "renew-subscriptions", "expire-vouchers", "roll-up-usage"),
        *("prune-error_logs", "prune-merch_webhook_events", "prune-sessions", "prune-verification_tokens"),
        *("prune-campaign_metrics_cache", "prune-album_batches", "prune-pipeline_links"),
    }
)

PICTURES: Final = Application(
    name="pictures", schema="public", tables=pictures.TABLES, needs={}, periodic_tasks=_PERIODIC_TASKS
)
"""Its tables always stand in `public`. What it needs of them is checked by `models.schema.migrations.adoption`."""
