"""Table of uploaded pictures."""

import sqlalchemy as sa

from models.applications.pictures.columns import TIMESTAMP, UTC_NOW, metadata

enhanced_images = sa.Table(
    "enhanced_images",
    metadata,
    sa.Column("id", sa.Text(), primary_key=True),
    sa.Column("userId", sa.Text(), sa.ForeignKey("users.id", ondelete="CASCADE", onupdate="CASCADE"), nullable=False),
    sa.Column("name", sa.Text(), nullable=False),
    sa.Column("description", sa.Text()),
    sa.Column("originalUrl", sa.Text(), nullable=False),
    sa.Column("originalR2Key", sa.Text(), nullable=False),
    sa.Column("originalWidth", sa.Integer(), nullable=False),
    sa.Column("originalHeight", sa.Integer(), nullable=False),
    sa.Column("originalSizeBytes", sa.Integer(), nullable=False),
    sa.Column("originalFormat", sa.Text(), nullable=False),
    sa.Column("isPublic", sa.Boolean(), nullable=False, server_default=sa.false()),
    sa.Column("viewCount", sa.Integer(), nullable=False, server_default=sa.text("0")),
    sa.Column("createdAt", TIMESTAMP, nullable=False, server_default=UTC_NOW),
    sa.Column("updatedAt", TIMESTAMP, nullable=False),
    sa.Column("shareToken", sa.Text()),
    sa.Index("enhanced_images_shareToken_key", "shareToken", unique=True),
    sa.Index("enhanced_images_userId_createdAt_idx", "userId", "createdAt"),
    sa.Index("enhanced_images_isPublic_createdAt_idx", "isPublic", "createdAt"),
    sa.Index("enhanced_images_shareToken_idx", "shareToken"),
)
