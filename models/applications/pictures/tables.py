"""All tables of the application by name. Importing this module registers them in the metadata."""

import sqlalchemy as sa

from models.applications.pictures import albums, images, jobs, logs, pipelines, subscriptions, tokens, users, vouchers
from models.applications.pictures.columns import metadata

__all__ = ["TABLES", "metadata"]

TABLES: dict[str, sa.Table] = {
    table.name: table
    for table in (
        users.users,
        users.sessions,
        users.verification_tokens,
        users.api_keys,
        tokens.user_token_balances,
        tokens.token_transactions,
        images.enhanced_images,
        pipelines.enhancement_pipelines,
        jobs.image_enhancement_jobs,
        jobs.mcp_generation_jobs,
        albums.albums,
        albums.album_images,
        subscriptions.subscriptions,
        subscriptions.subscription_plans,
        vouchers.vouchers,
        vouchers.voucher_redemptions,
        logs.audit_logs,
        logs.error_logs,
        logs.merch_webhook_events,
        logs.campaign_metrics_cache,
    )
}
