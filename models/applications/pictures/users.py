"""Tables of users and of how they sign in."""

import sqlalchemy as sa

from models.applications.pictures import enums
from models.applications.pictures.columns import TIMESTAMP, UTC_NOW, metadata

users = sa.Table(
    "users",
    metadata,
    sa.Column("id", sa.Text(), primary_key=True),
    sa.Column("name", sa.Text()),
    sa.Column("email", sa.Text()),
    sa.Column("emailVerified", TIMESTAMP),
    sa.Column("image", sa.Text()),
    sa.Column("createdAt", TIMESTAMP, nullable=False, server_default=UTC_NOW),
    sa.Column("updatedAt", TIMESTAMP, nullable=False),
    sa.Column("stripeCustomerId", sa.Text()),
    sa.Column("role", enums.user_role, nullable=False, server_default="USER"),
    sa.Column("referralCode", sa.Text()),
    sa.Column("referredById", sa.Text(), sa.ForeignKey("users.id", ondelete="SET NULL", onupdate="CASCADE")),
    sa.Column("referralCount", sa.Integer(), nullable=False, server_default=sa.text("0")),
    sa.Column("passwordHash", sa.Text()),
    sa.Index("users_email_key", "email", unique=True),
    sa.Index("users_stripeCustomerId_key", "stripeCustomerId", unique=True),
    sa.Index("users_referralCode_key", "referralCode", unique=True),
)

sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("id", sa.Text(), primary_key=True),
    sa.Column("sessionToken", sa.Text(), nullable=False),
    sa.Column("userId", sa.Text(), sa.ForeignKey("users.id", ondelete="CASCADE", onupdate="CASCADE"), nullable=False),
    sa.Column("expires", TIMESTAMP, nullable=False),
    sa.Index("sessions_sessionToken_key", "sessionToken", unique=True),
)

verification_tokens = sa.Table(
    "verification_tokens",
    metadata,
    sa.Column("identifier", sa.Text(), nullable=False),
    sa.Column("token", sa.Text(), nullable=False),
    sa.Column("expires", TIMESTAMP, nullable=False),
    sa.Index("verification_tokens_token_key", "token", unique=True),
    sa.Index("verification_tokens_identifier_token_key", "identifier", "token", unique=True),
)

api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("id", sa.Text(), primary_key=True),
    sa.Column("userId", sa.Text(), sa.ForeignKey("users.id", ondelete="CASCADE", onupdate="CASCADE"), nullable=False),
    sa.Column("name", sa.Text(), nullable=False),
    sa.Column("keyHash", sa.Text(), nullable=False),
    sa.Column("keyPrefix", sa.Text(), nullable=False),
    sa.Column("lastUsedAt", TIMESTAMP),
    sa.Column("isActive", sa.Boolean(), nullable=False, server_default=sa.true()),
    sa.Column("createdAt", TIMESTAMP, nullable=False, server_default=UTC_NOW),
    sa.Column("updatedAt", TIMESTAMP, nullable=False),
    sa.Index("api_keys_keyHash_key", "keyHash", unique=True),
    sa.Index("api_keys_userId_isActive_idx", "userId", "isActive"),
)
