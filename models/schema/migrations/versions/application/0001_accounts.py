"""Accounts: users, tokens, subscriptions, vouchers and logs.

A snapshot: what these tables were at this revision, whatever models.applications.pictures says later.
"""

import sqlalchemy as sa
from alembic import op

from models.schema.migrations.ddl import (
    BOOLEAN,
    INTEGER,
    JSONB,
    TEXT,
    TIMESTAMP,
    UTC_NOW,
    column,
    create_enums,
    drop_enums,
    enum,
    foreign_key,
)

revision = "application_0001"
down_revision = None
branch_labels = ("application",)
depends_on = None

ENUM_LABELS = {
    "UserRole": ("USER", "ADMIN", "SUPER_ADMIN"),
    "SubscriptionTier": ("FREE", "BASIC", "STANDARD", "PREMIUM"),
    "SubscriptionStatus": ("ACTIVE", "CANCELED", "PAST_DUE", "UNPAID", "TRIALING"),
    "TokenTransactionType": (
        "EARN_REGENERATION",
        "EARN_PURCHASE",
        "EARN_BONUS",
        "EARN_ADMIN_ADJUSTMENT",
        "SPEND_ENHANCEMENT",
        "SPEND_MCP_GENERATION",
        "SPEND_BOX_CREATION",
        "REFUND",
    ),
    "VoucherType": ("FIXED_TOKENS", "PERCENTAGE_BONUS", "SUBSCRIPTION_TRIAL"),
    "VoucherStatus": ("ACTIVE", "INACTIVE", "EXPIRED", "DEPLETED"),
    "AuditAction": (
        "ROLE_CHANGE",
        "TOKEN_ADJUSTMENT",
        "VOUCHER_CREATE",
        "VOUCHER_UPDATE",
        "VOUCHER_DELETE",
        "USER_DELETE",
        "ADMIN_LOGIN",
    ),
    "ErrorEnvironment": ("FRONTEND", "BACKEND"),
}
TABLES = (
    "users",
    "sessions",
    "verification_tokens",
    "api_keys",
    "user_token_balances",
    "token_transactions",
    "subscriptions",
    "subscription_plans",
    "vouchers",
    "voucher_redemptions",
    "audit_logs",
    "error_logs",
    "merch_webhook_events",
    "campaign_metrics_cache",
)


def upgrade() -> None:
    create_enums(ENUM_LABELS)
    _create_users()
    _create_tokens()
    _create_subscriptions()
    _create_vouchers()
    _create_logs()
    _create_caches()


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_table(table)
    drop_enums(ENUM_LABELS)


def _create_users() -> None:
    op.create_table(
        "users",
        column("id", TEXT),
        column("name", TEXT, null=True),
        column("email", TEXT, null=True),
        column("emailVerified", TIMESTAMP, null=True),
        column("image", TEXT, null=True),
        column("createdAt", TIMESTAMP, default=UTC_NOW),
        column("updatedAt", TIMESTAMP),
        column("stripeCustomerId", TEXT, null=True),
        column("role", enum("UserRole"), default="'USER'"),
        column("referralCode", TEXT, null=True),
        column("referredById", TEXT, null=True),
        column("referralCount", INTEGER, default="0"),
        column("passwordHash", TEXT, null=True),
        sa.PrimaryKeyConstraint("id", name="users_pkey"),
        foreign_key("users_referredById_fkey", "referredById", "users.id", ondelete="SET NULL"),
    )
    op.create_index("users_email_key", "users", ["email"], unique=True)
    op.create_index("users_stripeCustomerId_key", "users", ["stripeCustomerId"], unique=True)
    op.create_index("users_referralCode_key", "users", ["referralCode"], unique=True)
    op.create_table(
        "sessions",
        column("id", TEXT),
        column("sessionToken", TEXT),
        column("userId", TEXT),
        column("expires", TIMESTAMP),
        sa.PrimaryKeyConstraint("id", name="sessions_pkey"),
        foreign_key("sessions_userId_fkey", "userId", "users.id", ondelete="CASCADE"),
    )
    op.create_index("sessions_sessionToken_key", "sessions", ["sessionToken"], unique=True)
    op.create_table(
        "verification_tokens",
        column("identifier", TEXT),
        column("token", TEXT),
        column("expires", TIMESTAMP),
    )
    op.create_index("verification_tokens_token_key", "verification_tokens", ["token"], unique=True)
    op.create_index(
        "verification_tokens_identifier_token_key", "verification_tokens", ["identifier", "token"], unique=True
    )
    op.create_table(
        "api_keys",
        column("id", TEXT),
        column("userId", TEXT),
        column("name", TEXT),
        column("keyHash", TEXT),
        column("keyPrefix", TEXT),
        column("lastUsedAt", TIMESTAMP, null=True),
        column("isActive", BOOLEAN, default="true"),
        column("createdAt", TIMESTAMP, default=UTC_NOW),
        column("updatedAt", TIMESTAMP),
        sa.PrimaryKeyConstraint("id", name="api_keys_pkey"),
        foreign_key("api_keys_userId_fkey", "userId", "users.id", ondelete="CASCADE"),
    )
    op.create_index("api_keys_keyHash_key", "api_keys", ["keyHash"], unique=True)
    op.create_index("api_keys_userId_isActive_idx", "api_keys", ["userId", "isActive"])


def _create_tokens() -> None:
    op.create_table(
        "user_token_balances",
        column("id", TEXT),
        column("userId", TEXT),
        column("balance", INTEGER, default="0"),
        column("lastRegeneration", TIMESTAMP, default=UTC_NOW),
        column("tier", enum("SubscriptionTier"), default="'FREE'"),
        column("createdAt", TIMESTAMP, default=UTC_NOW),
        column("updatedAt", TIMESTAMP),
        sa.PrimaryKeyConstraint("id", name="user_token_balances_pkey"),
        foreign_key("user_token_balances_userId_fkey", "userId", "users.id", ondelete="CASCADE"),
    )
    op.create_index("user_token_balances_userId_key", "user_token_balances", ["userId"], unique=True)
    op.create_index("user_token_balances_tier_idx", "user_token_balances", ["tier"])
    op.create_table(
        "token_transactions",
        column("id", TEXT),
        column("userId", TEXT),
        column("amount", INTEGER),
        column("type", enum("TokenTransactionType")),
        column("source", TEXT, null=True),
        column("sourceId", TEXT, null=True),
        column("balanceAfter", INTEGER),
        column("metadata", JSONB, null=True),
        column("createdAt", TIMESTAMP, default=UTC_NOW),
        sa.PrimaryKeyConstraint("id", name="token_transactions_pkey"),
        foreign_key("token_transactions_userId_fkey", "userId", "users.id", ondelete="CASCADE"),
    )
    op.create_index("token_transactions_userId_createdAt_idx", "token_transactions", ["userId", "createdAt"])
    op.create_index("token_transactions_sourceId_idx", "token_transactions", ["sourceId"])


def _create_subscriptions() -> None:
    op.create_table(
        "subscriptions",
        column("id", TEXT),
        column("userId", TEXT),
        column("stripeSubscriptionId", TEXT),
        column("stripePriceId", TEXT),
        column("status", enum("SubscriptionStatus")),
        column("tier", enum("SubscriptionTier"), default="'BASIC'"),
        column("currentPeriodStart", TIMESTAMP),
        column("currentPeriodEnd", TIMESTAMP),
        column("cancelAtPeriodEnd", BOOLEAN, default="false"),
        column("downgradeTo", enum("SubscriptionTier"), null=True),
        column("tokensPerMonth", INTEGER),
        column("rolloverTokens", INTEGER, default="0"),
        column("maxRollover", INTEGER, default="0"),
        column("createdAt", TIMESTAMP, default=UTC_NOW),
        column("updatedAt", TIMESTAMP),
        sa.PrimaryKeyConstraint("id", name="subscriptions_pkey"),
        foreign_key("subscriptions_userId_fkey", "userId", "users.id", ondelete="CASCADE"),
    )
    op.create_index("subscriptions_userId_key", "subscriptions", ["userId"], unique=True)
    op.create_index("subscriptions_stripeSubscriptionId_key", "subscriptions", ["stripeSubscriptionId"], unique=True)
    op.create_index("subscriptions_status_idx", "subscriptions", ["status"])
    op.create_index("subscriptions_tier_idx", "subscriptions", ["tier"])
    op.create_table(
        "subscription_plans",
        column("id", TEXT),
        column("name", TEXT),
        column("tokensPerMonth", INTEGER),
        column("priceGBP", sa.Numeric(10, 2)),
        column("stripePriceId", TEXT),
        column("maxRollover", INTEGER, default="0"),
        column("priority", BOOLEAN, default="false"),
        column("apiAccess", BOOLEAN, default="false"),
        column("active", BOOLEAN, default="true"),
        column("sortOrder", INTEGER, default="0"),
        column("createdAt", TIMESTAMP, default=UTC_NOW),
        column("updatedAt", TIMESTAMP),
        sa.PrimaryKeyConstraint("id", name="subscription_plans_pkey"),
    )
    op.create_index("subscription_plans_stripePriceId_key", "subscription_plans", ["stripePriceId"], unique=True)
    op.create_index("subscription_plans_active_sortOrder_idx", "subscription_plans", ["active", "sortOrder"])


def _create_vouchers() -> None:
    op.create_table(
        "vouchers",
        column("id", TEXT),
        column("code", TEXT),
        column("type", enum("VoucherType")),
        column("value", INTEGER),
        column("maxUses", INTEGER, null=True),
        column("currentUses", INTEGER, default="0"),
        column("expiresAt", TIMESTAMP, null=True),
        column("status", enum("VoucherStatus"), default="'ACTIVE'"),
        column("metadata", JSONB, null=True),
        column("createdAt", TIMESTAMP, default=UTC_NOW),
        column("updatedAt", TIMESTAMP),
        sa.PrimaryKeyConstraint("id", name="vouchers_pkey"),
    )
    op.create_index("vouchers_code_key", "vouchers", ["code"], unique=True)
    op.create_index("vouchers_status_expiresAt_idx", "vouchers", ["status", "expiresAt"])
    op.create_table(
        "voucher_redemptions",
        column("id", TEXT),
        column("voucherId", TEXT),
        column("userId", TEXT),
        column("tokensGranted", INTEGER),
        column("redeemedAt", TIMESTAMP, default=UTC_NOW),
        sa.PrimaryKeyConstraint("id", name="voucher_redemptions_pkey"),
        foreign_key("voucher_redemptions_userId_fkey", "userId", "users.id", ondelete="CASCADE"),
        foreign_key("voucher_redemptions_voucherId_fkey", "voucherId", "vouchers.id", ondelete="CASCADE"),
    )
    op.create_index("voucher_redemptions_userId_redeemedAt_idx", "voucher_redemptions", ["userId", "redeemedAt"])
    op.create_index(
        "voucher_redemptions_voucherId_userId_key", "voucher_redemptions", ["voucherId", "userId"], unique=True
    )


def _create_logs() -> None:
    op.create_table(
        "audit_logs",
        column("id", TEXT),
        column("userId", TEXT),
        column("action", enum("AuditAction")),
        column("targetId", TEXT, null=True),
        column("metadata", JSONB, null=True),
        column("ipAddress", TEXT, null=True),
        column("createdAt", TIMESTAMP, default=UTC_NOW),
        sa.PrimaryKeyConstraint("id", name="audit_logs_pkey"),
        foreign_key("audit_logs_userId_fkey", "userId", "users.id", ondelete="CASCADE"),
    )
    op.create_index("audit_logs_userId_idx", "audit_logs", ["userId"])
    op.create_index("audit_logs_action_idx", "audit_logs", ["action"])
    op.create_index("audit_logs_targetId_idx", "audit_logs", ["targetId"])
    op.create_index("audit_logs_createdAt_idx", "audit_logs", ["createdAt"])
    op.create_table(
        "error_logs",
        column("id", TEXT),
        column("timestamp", TIMESTAMP, default=UTC_NOW),
        column("message", TEXT),
        column("stack", TEXT, null=True),
        column("sourceFile", TEXT, null=True),
        column("sourceLine", INTEGER, null=True),
        column("sourceColumn", INTEGER, null=True),
        column("callerName", TEXT, null=True),
        column("userId", TEXT, null=True),
        column("route", TEXT, null=True),
        column("environment", enum("ErrorEnvironment")),
        column("errorType", TEXT, null=True),
        column("errorCode", TEXT, null=True),
        column("metadata", JSONB, null=True),
        sa.PrimaryKeyConstraint("id", name="error_logs_pkey"),
    )
    op.create_index("error_logs_timestamp_idx", "error_logs", ["timestamp"])
    op.create_index("error_logs_sourceFile_idx", "error_logs", ["sourceFile"])
    op.create_index("error_logs_errorType_idx", "error_logs", ["errorType"])
    op.create_index("error_logs_environment_idx", "error_logs", ["environment"])


def _create_caches() -> None:
    op.create_table(
        "merch_webhook_events",
        column("id", TEXT),
        column("provider", TEXT),
        column("eventId", TEXT),
        column("eventType", TEXT),
        column("processed", BOOLEAN, default="false"),
        column("payload", JSONB),
        column("processedAt", TIMESTAMP, null=True),
        column("createdAt", TIMESTAMP, default=UTC_NOW),
        sa.PrimaryKeyConstraint("id", name="merch_webhook_events_pkey"),
    )
    op.create_index("merch_webhook_events_eventId_key", "merch_webhook_events", ["eventId"], unique=True)
    op.create_index("merch_webhook_events_provider_eventType_idx", "merch_webhook_events", ["provider", "eventType"])
    op.create_index("merch_webhook_events_processed_createdAt_idx", "merch_webhook_events", ["processed", "createdAt"])
    op.create_table(
        "campaign_metrics_cache",
        column("id", TEXT),
        column("cacheKey", TEXT),
        column("metrics", JSONB),
        column("computedAt", TIMESTAMP, default=UTC_NOW),
        column("expiresAt", TIMESTAMP),
        sa.PrimaryKeyConstraint("id", name="campaign_metrics_cache_pkey"),
    )
    op.create_index("campaign_metrics_cache_cacheKey_key", "campaign_metrics_cache", ["cacheKey"], unique=True)
    op.create_index("campaign_metrics_cache_expiresAt_idx", "campaign_metrics_cache", ["expiresAt"])
