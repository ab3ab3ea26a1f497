"""Tables of albums: collections of a user's pictures, in an order."""

import sqlalchemy as sa

from config.tiers import DEFAULT_TIER
from models.applications.pictures import enums
from models.applications.pictures.columns import TIMESTAMP, UTC_NOW, metadata

albums = sa.Table(
    "albums",
    metadata,
    sa.Column("id", sa.Text(), primary_key=True),
    sa.Column("userId", sa.Text(), sa.ForeignKey("users.id", ondelete="CASCADE", onupdate="CASCADE"), nullable=False),
    sa.Column("name", sa.Text(), nullable=False),
    sa.Column("description", sa.Text()),
    sa.Column("coverImageId", sa.Text()),
    sa.Column("privacy", enums.album_privacy, nullable=False, server_default="PRIVATE"),
    sa.Column("defaultTier", enums.enhancement_tier, nullable=False, server_default=DEFAULT_TIER),
    sa.Column("shareToken", sa.Text()),
    sa.Column("sortOrder", sa.Integer(), nullable=False, server_default=sa.text("0")),
    sa.Column("createdAt", TIMESTAMP, nullable=False, server_default=UTC_NOW),
    sa.Column("updatedAt", TIMESTAMP, nullable=False),
    sa.Column(
        "pipelineId", sa.Text(), sa.ForeignKey("enhancement_pipelines.id", ondelete="SET NULL", onupdate="CASCADE")
    ),
    sa.Index("albums_shareToken_key", "shareToken", unique=True),
    sa.Index("albums_userId_createdAt_idx", "userId", "createdAt"),
    sa.Index("albums_privacy_idx", "privacy"),
    sa.Index("albums_shareToken_idx", "shareToken"),
    sa.Index("albums_pipelineId_idx", "pipelineId"),
    sa.Index("albums_userId_name_privacy_key", "userId", "name", "privacy", unique=True),
)

album_images = sa.Table(
    "album_images",
    metadata,
    sa.Column("id", sa.Text(), primary_key=True),
    sa.Column("albumId", sa.Text(), sa.ForeignKey("albums.id", ondelete="CASCADE", onupdate="CASCADE"), nullable=False),
    sa.Column(
        "imageId",
        sa.Text(),
        sa.ForeignKey("enhanced_images.id", ondelete="CASCADE", onupdate="CASCADE"),
        nullable=False,
    ),
    sa.Column("sortOrder", sa.Integer(), nullable=False, server_default=sa.text("0")),
    sa.Column("addedAt", TIMESTAMP, nullable=False, server_default=UTC_NOW),
    sa.Index("album_images_albumId_sortOrder_idx", "albumId", "sortOrder"),
    sa.Index("album_images_imageId_idx", "imageId"),
    sa.Index("album_images_albumId_addedAt_idx", "albumId", "addedAt"),
    sa.Index("album_images_albumId_imageId_key", "albumId", "imageId", unique=True),
)
