"""Tables of vouchers, codes that give tokens, and of their redemptions."""

import sqlalchemy as sa

from models.applications.pictures import enums
from models.applications.pictures.columns import JSON, TIMESTAMP, UTC_NOW, metadata

vouchers = sa.Table(
    "vouchers",
    metadata,
    sa.Column("id", sa.Text(), primary_key=True),
    sa.Column("code", sa.Text(), nullable=False),
    sa.Column("type", enums.voucher_type, nullable=False),
    sa.Column("value", sa.Integer(), nullable=False),
    sa.Column("maxUses", sa.Integer()),
    sa.Column("currentUses", sa.Integer(), nullable=False, server_default=sa.text("0")),
    sa.Column("expiresAt", TIMESTAMP),
    sa.Column("status", enums.voucher_status, nullable=False, server_default="ACTIVE"),
    sa.Column("metadata", JSON),
    sa.Column("createdAt", TIMESTAMP, nullable=False, server_default=UTC_NOW),
    sa.Column("updatedAt", TIMESTAMP, nullable=False),
    sa.Index("vouchers_code_key", "code", unique=True),
    sa.Index("vouchers_status_expiresAt_idx", "status", "expiresAt"),
)

voucher_redemptions = sa.Table(
    "voucher_redemptions",
    metadata,
    sa.Column("id", sa.Text(), primary_key=True),
    sa.Column(
        "voucherId", sa.Text(), sa.ForeignKey("vouchers.id", ondelete="CASCADE", onupdate="CASCADE"), nullable=False
    ),
    sa.Column("userId", sa.Text(), sa.ForeignKey("users.id", ondelete="CASCADE", onupdate="CASCADE"), nullable=False),
    sa.Column("tokensGranted", sa.Integer(), nullable=False),
    sa.Column("redeemedAt", TIMESTAMP, nullable=False, server_default=UTC_NOW),
    sa.Index("voucher_redemptions_userId_redeemedAt_idx", "userId", "redeemedAt"),
    sa.Index("voucher_redemptions_voucherId_userId_key", "voucherId", "userId", unique=True),
)
