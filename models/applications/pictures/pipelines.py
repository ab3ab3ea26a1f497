"""Table of pipelines: how jobs treat pictures, as the pipelines' owners configured it."""

import sqlalchemy as sa

from config.tiers import DEFAULT_TIER
from models.applications.pictures import enums
from models.applications.pictures.columns import JSON, TIMESTAMP, UTC_NOW, metadata

enhancement_pipelines = sa.Table(
    "enhancement_pipelines",
    metadata,
    sa.Column("id", sa.Text(), primary_key=True),
    sa.Column("name", sa.Text(), nullable=False),
    sa.Column("description", sa.Text()),
    sa.Column("userId", sa.Text(), sa.ForeignKey("users.id", ondelete="CASCADE", onupdate="CASCADE")),
    sa.Column("visibility", enums.pipeline_visibility, nullable=False, server_default="PRIVATE"),
    sa.Column("shareToken", sa.Text()),
    sa.Column("tier", enums.enhancement_tier, nullable=False, server_default=DEFAULT_TIER),
    sa.Column("analysisConfig", JSON),
    sa.Column("autoCropConfig", JSON),
    sa.Column("promptConfig", JSON),
    sa.Column("generationConfig", JSON),
    sa.Column("usageCount", sa.Integer(), nullable=False, server_default=sa.text("0")),
    sa.Column("createdAt", TIMESTAMP, nullable=False, server_default=UTC_NOW),
    sa.Column("updatedAt", TIMESTAMP, nullable=False),
    sa.Index("enhancement_pipelines_shareToken_key", "shareToken", unique=True),
    sa.Index("enhancement_pipelines_userId_idx", "userId"),
    sa.Index("enhancement_pipelines_visibility_idx", "visibility"),
)
