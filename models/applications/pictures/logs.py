"""Log tables: audit, errors, webhooks of other systems, and a cache of metrics."""

import sqlalchemy as sa

from models.applications.pictures import enums
from models.applications.pictures.columns import JSON, TIMESTAMP, UTC_NOW, metadata

audit_logs = sa.Table(
    "audit_logs",
    metadata,
    sa.Column("id", sa.Text(), primary_key=True),
    sa.Column("userId", sa.Text(), sa.ForeignKey("users.id", ondelete="CASCADE", onupdate="CASCADE"), nullable=False),
    sa.Column("action", enums.audit_action, nullable=False),
    sa.Column("targetId", sa.Text()),
    sa.Column("metadata", JSON),
    sa.Column("ipAddress", sa.Text()),
    sa.Column("createdAt", TIMESTAMP, nullable=False, server_default=UTC_NOW),
    sa.Index("audit_logs_userId_idx", "userId"),
    sa.Index("audit_logs_action_idx", "action"),
    sa.Index("audit_logs_targetId_idx", "targetId"),
    sa.Index("audit_logs_createdAt_idx", "createdAt"),
)

error_logs = sa.Table(
    "error_logs",
    metadata,
    sa.Column("id", sa.Text(), primary_key=True),
    sa.Column("timestamp", TIMESTAMP, nullable=False, server_default=UTC_NOW),
    sa.Column("message", sa.Text(), nullable=False),
    sa.Column("stack", sa.Text()),
    sa.Column("sourceFile", sa.Text()),
    sa.Column("sourceLine", sa.Integer()),
    sa.Column("sourceColumn", sa.Integer()),
    sa.Column("callerName", sa.Text()),
    sa.Column("userId", sa.Text()),
    sa.Column("route", sa.Text()),
    sa.Column("environment", enums.error_environment, nullable=False),
    sa.Column("errorType", sa.Text()),
    sa.Column("errorCode", sa.Text()),
    sa.Column("metadata", JSON),
    sa.Index("error_logs_timestamp_idx", "timestamp"),
    sa.Index("error_logs_sourceFile_idx", "sourceFile"),
    sa.Index("error_logs_errorType_idx", "errorType"),
    sa.Index("error_logs_environment_idx", "environment"),
)

merch_webhook_events = sa.Table(
    "merch_webhook_events",
    metadata,
    sa.Column("id", sa.Text(), primary_key=True),
    sa.Column("provider", sa.Text(), nullable=False),
    sa.Column("eventId", sa.Text(), nullable=False),
    sa.Column("eventType", sa.Text(), nullable=False),
    sa.Column("processed", sa.Boolean(), nullable=False, server_default=sa.false()),
    sa.Column("payload", JSON, nullable=False),
    sa.Column("processedAt", TIMESTAMP),
    sa.Column("createdAt", TIMESTAMP, nullable=False, server_default=UTC_NOW),
    sa.Index("merch_webhook_events_eventId_key", "eventId", unique=True),
    sa.Index("merch_webhook_events_provider_eventType_idx", "provider", "eventType"),
    sa.Index("merch_webhook_events_processed_createdAt_idx", "processed", "createdAt"),
)

campaign_metrics_cache = sa.Table(
    "campaign_metrics_cache",
    metadata,
    sa.Column("id", sa.Text(), primary_key=True),
    sa.Column("cacheKey", sa.Text(), nullable=False),
    sa.Column("metrics", JSON, nullable=False),
    sa.Column("computedAt", TIMESTAMP, nullable=False, server_default=UTC_NOW),
    sa.Column("expiresAt", TIMESTAMP, nullable=False),
    sa.Index("campaign_metrics_cache_cacheKey_key", "cacheKey", unique=True),
    sa.Index("campaign_metrics_cache_expiresAt_idx", "expiresAt"),
)
