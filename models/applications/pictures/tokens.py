"""Tables of users' token balances, and of the ledger that records every change of a balance."""

import sqlalchemy as sa

from models.applications.pictures import enums
from models.applications.pictures.columns import JSON, TIMESTAMP, UTC_NOW, metadata

user_token_balances = sa.Table(
    "user_token_balances",
    metadata,
    sa.Column("id", sa.Text(), primary_key=True),
    sa.Column("userId", sa.Text(), sa.ForeignKey("users.id", ondelete="CASCADE", onupdate="CASCADE"), nullable=False),
    sa.Column("balance", sa.Integer(), nullable=False, server_default=sa.text("0")),
    sa.Column("lastRegeneration", TIMESTAMP, nullable=False, server_default=UTC_NOW),
    sa.Column("tier", enums.subscription_tier, nullable=False, server_default="FREE"),
    sa.Column("createdAt", TIMESTAMP, nullable=False, server_default=UTC_NOW),
    sa.Column("updatedAt", TIMESTAMP, nullable=False),
    sa.Index("user_token_balances_userId_key", "userId", unique=True),
    sa.Index("user_token_balances_tier_idx", "tier"),
)

token_transactions = sa.Table(
    "token_transactions",
    metadata,
    sa.Column("id", sa.Text(), primary_key=True),
    sa.Column("userId", sa.Text(), sa.ForeignKey("users.id", ondelete="CASCADE", onupdate="CASCADE"), nullable=False),
    sa.Column("amount", sa.Integer(), nullable=False),
    sa.Column("type", enums.token_transaction_type, nullable=False),
    sa.Column("source", sa.Text()),
    sa.Column("sourceId", sa.Text()),
    sa.Column("balanceAfter", sa.Integer(), nullable=False),
    sa.Column("metadata", JSON),
    sa.Column("createdAt", TIMESTAMP, nullable=False, server_default=UTC_NOW),
    sa.Index("token_transactions_userId_createdAt_idx", "userId", "createdAt"),
    sa.Index("token_transactions_sourceId_idx", "sourceId"),
)
