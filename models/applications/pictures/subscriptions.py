"""Tables of subscription plans and of users' subscriptions."""

import sqlalchemy as sa

from models.applications.pictures import enums
from models.applications.pictures.columns import TIMESTAMP, UTC_NOW, metadata

subscriptions = sa.Table(
    "subscriptions",
    metadata,
    sa.Column("id", sa.Text(), primary_key=True),
    sa.Column("userId", sa.Text(), sa.ForeignKey("users.id", ondelete="CASCADE", onupdate="CASCADE"), nullable=False),
    sa.Column("stripeSubscriptionId", sa.Text(), nullable=False),
    sa.Column("stripePriceId", sa.Text(), nullable=False),
    sa.Column("status", enums.subscription_status, nullable=False),
    sa.Column("tier", enums.subscription_tier, nullable=False, server_default="BASIC"),
    sa.Column("currentPeriodStart", TIMESTAMP, nullable=False),
    sa.Column("currentPeriodEnd", TIMESTAMP, nullable=False),
    sa.Column("cancelAtPeriodEnd", sa.Boolean(), nullable=False, server_default=sa.false()),
    sa.Column("downgradeTo", enums.subscription_tier),
    sa.Column("tokensPerMonth", sa.Integer(), nullable=False),
    sa.Column("rolloverTokens", sa.Integer(), nullable=False, server_default=sa.text("0")),
    sa.Column("maxRollover", sa.Integer(), nullable=False, server_default=sa.text("0")),
    sa.Column("createdAt", TIMESTAMP, nullable=False, server_default=UTC_NOW),
    sa.Column("updatedAt", TIMESTAMP, nullable=False),
    sa.Index("subscriptions_userId_key", "userId", unique=True),
    sa.Index("subscriptions_stripeSubscriptionId_key", "stripeSubscriptionId", unique=True),
    sa.Index("subscriptions_status_idx", "status"),
    sa.Index("subscriptions_tier_idx", "tier"),
)

subscription_plans = sa.Table(
    "subscription_plans",
    metadata,
    sa.Column("id", sa.Text(), primary_key=True),
    sa.Column("name", sa.Text(), nullable=False),
    sa.Column("tokensPerMonth", sa.Integer(), nullable=False),
    sa.Column("priceGBP", sa.Numeric(10, 2), nullable=False),
    sa.Column("stripePriceId", sa.Text(), nullable=False),
    sa.Column("maxRollover", sa.Integer(), nullable=False, server_default=sa.text("0")),
    sa.Column("priority", sa.Boolean(), nullable=False, server_default=sa.false()),
    sa.Column("apiAccess", sa.Boolean(), nullable=False, server_default=sa.false()),
    sa.Column("active", sa.Boolean(), nullable=False, server_default=sa.true()),
    sa.Column("sortOrder", sa.Integer(), nullable=False, server_default=sa.text("0")),
    sa.Column("createdAt", TIMESTAMP, nullable=False, server_default=UTC_NOW),
    sa.Column("updatedAt", TIMESTAMP, nullable=False),
    sa.Index("subscription_plans_stripePriceId_key", "stripePriceId", unique=True),
    sa.Index("subscription_plans_active_sortOrder_idx", "active", "sortOrder"),
)
