"""Pictures: images, pipelines, jobs and albums.

A snapshot: what these tables were at this revision, whatever models.applications.pictures says later.
"""

import sqlalchemy as sa
from alembic import op

from models.schema.migrations.ddl import (
    BOOLEAN,
    DOUBLE,
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

revision = "application_0002"
down_revision = "application_0001"
branch_labels = None
depends_on = None

ENUM_LABELS = {
    "EnhancementTier": ("FREE", "TIER_1K", "TIER_2K", "TIER_4K"),
    "JobStatus": ("PENDING", "PROCESSING", "COMPLETED", "FAILED", "REFUNDED", "CANCELLED"),
    "PipelineStage": ("ANALYZING", "CROPPING", "PROMPTING", "GENERATING"),
    "PipelineVisibility": ("PRIVATE", "PUBLIC", "LINK"),
    "AlbumPrivacy": ("PRIVATE", "UNLISTED", "PUBLIC"),
    "McpJobType": ("GENERATE", "MODIFY"),
}
TABLES = (
    "enhanced_images",
    "enhancement_pipelines",
    "image_enhancement_jobs",
    "mcp_generation_jobs",
    "albums",
    "album_images",
)


def upgrade() -> None:
    create_enums(ENUM_LABELS)
    _create_images()
    _create_enhancement_jobs()
    _create_generation_jobs()
    _create_albums()


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_table(table)
    drop_enums(ENUM_LABELS)


def _create_images() -> None:
    op.create_table(
        "enhanced_images",
        column("id", TEXT),
        column("userId", TEXT),
        column("name", TEXT),
        column("description", TEXT, null=True),
        column("originalUrl", TEXT),
        column("originalR2Key", TEXT),
        column("originalWidth", INTEGER),
        column("originalHeight", INTEGER),
        column("originalSizeBytes", INTEGER),
        column("originalFormat", TEXT),
        column("isPublic", BOOLEAN, default="false"),
        column("viewCount", INTEGER, default="0"),
        column("createdAt", TIMESTAMP, default=UTC_NOW),
        column("updatedAt", TIMESTAMP),
        column("shareToken", TEXT, null=True),
        sa.PrimaryKeyConstraint("id", name="enhanced_images_pkey"),
        foreign_key("enhanced_images_userId_fkey", "userId", "users.id", ondelete="CASCADE"),
    )
    op.create_index("enhanced_images_shareToken_key", "enhanced_images", ["shareToken"], unique=True)
    op.create_index("enhanced_images_userId_createdAt_idx", "enhanced_images", ["userId", "createdAt"])
    op.create_index("enhanced_images_isPublic_createdAt_idx", "enhanced_images", ["isPublic", "createdAt"])
    op.create_index("enhanced_images_shareToken_idx", "enhanced_images", ["shareToken"])
    op.create_table(
        "enhancement_pipelines",
        column("id", TEXT),
        column("name", TEXT),
        column("description", TEXT, null=True),
        column("userId", TEXT, null=True),
        column("visibility", enum("PipelineVisibility"), default="'PRIVATE'"),
        column("shareToken", TEXT, null=True),
        column("tier", enum("EnhancementTier"), default="'TIER_1K'"),
        column("analysisConfig", JSONB, null=True),
        column("autoCropConfig", JSONB, null=True),
        column("promptConfig", JSONB, null=True),
        column("generationConfig", JSONB, null=True),
        column("usageCount", INTEGER, default="0"),
        column("createdAt", TIMESTAMP, default=UTC_NOW),
        column("updatedAt", TIMESTAMP),
        sa.PrimaryKeyConstraint("id", name="enhancement_pipelines_pkey"),
        foreign_key("enhancement_pipelines_userId_fkey", "userId", "users.id", ondelete="CASCADE"),
    )
    op.create_index("enhancement_pipelines_shareToken_key", "enhancement_pipelines", ["shareToken"], unique=True)
    op.create_index("enhancement_pipelines_userId_idx", "enhancement_pipelines", ["userId"])
    op.create_index("enhancement_pipelines_visibility_idx", "enhancement_pipelines", ["visibility"])


def _create_enhancement_jobs() -> None:
    op.create_table(
        "image_enhancement_jobs",
        column("id", TEXT),
        column("imageId", TEXT),
        column("userId", TEXT),
        column("tier", enum("EnhancementTier")),
        column("tokensCost", INTEGER),
        column("status", enum("JobStatus")),
        column("currentStage", enum("PipelineStage"), null=True),
        column("enhancedUrl", TEXT, null=True),
        column("enhancedR2Key", TEXT, null=True),
        column("enhancedWidth", INTEGER, null=True),
        column("enhancedHeight", INTEGER, null=True),
        column("enhancedSizeBytes", INTEGER, null=True),
        column("errorMessage", TEXT, null=True),
        column("retryCount", INTEGER, default="0"),
        column("maxRetries", INTEGER, default="3"),
        column("geminiPrompt", TEXT, null=True),
        column("geminiModel", TEXT, null=True),
        column("geminiTemp", DOUBLE, null=True),
        column("processingStartedAt", TIMESTAMP, null=True),
        column("processingCompletedAt", TIMESTAMP, null=True),
        column("createdAt", TIMESTAMP, default=UTC_NOW),
        column("updatedAt", TIMESTAMP),
        column("workflowRunId", TEXT, null=True),
        column("analysisResult", JSONB, null=True),
        column("analysisSource", TEXT, null=True),
        column("wasCropped", BOOLEAN, default="false"),
        column("cropDimensions", JSONB, null=True),
        column("pipelineId", TEXT, null=True),
        column("sourceImageId", TEXT, null=True),
        column("isBlend", BOOLEAN, default="false"),
        column("isAnonymous", BOOLEAN, default="false"),
        sa.PrimaryKeyConstraint("id", name="image_enhancement_jobs_pkey"),
        foreign_key("image_enhancement_jobs_imageId_fkey", "imageId", "enhanced_images.id", ondelete="CASCADE"),
        foreign_key("image_enhancement_jobs_userId_fkey", "userId", "users.id", ondelete="CASCADE"),
        foreign_key(
            "image_enhancement_jobs_pipelineId_fkey", "pipelineId", "enhancement_pipelines.id", ondelete="SET NULL"
        ),
        foreign_key(
            "image_enhancement_jobs_sourceImageId_fkey", "sourceImageId", "enhanced_images.id", ondelete="SET NULL"
        ),
    )
    op.create_index(
        "image_enhancement_jobs_userId_status_createdAt_idx",
        "image_enhancement_jobs",
        ["userId", "status", "createdAt"],
    )
    op.create_index("image_enhancement_jobs_imageId_idx", "image_enhancement_jobs", ["imageId"])
    op.create_index("image_enhancement_jobs_status_updatedAt_idx", "image_enhancement_jobs", ["status", "updatedAt"])
    op.create_index("image_enhancement_jobs_workflowRunId_idx", "image_enhancement_jobs", ["workflowRunId"])
    op.create_index("image_enhancement_jobs_pipelineId_idx", "image_enhancement_jobs", ["pipelineId"])
    op.create_index(
        "image_enhancement_jobs_status_currentStage_idx", "image_enhancement_jobs", ["status", "currentStage"]
    )


def _create_generation_jobs() -> None:
    op.create_table(
        "mcp_generation_jobs",
        column("id", TEXT),
        column("userId", TEXT),
        column("apiKeyId", TEXT, null=True),
        column("type", enum("McpJobType")),
        column("tier", enum("EnhancementTier")),
        column("tokensCost", INTEGER),
        column("status", enum("JobStatus")),
        column("prompt", TEXT),
        column("inputImageUrl", TEXT, null=True),
        column("inputImageR2Key", TEXT, null=True),
        column("outputImageUrl", TEXT, null=True),
        column("outputImageR2Key", TEXT, null=True),
        column("outputWidth", INTEGER, null=True),
        column("outputHeight", INTEGER, null=True),
        column("outputSizeBytes", INTEGER, null=True),
        column("errorMessage", TEXT, null=True),
        column("geminiModel", TEXT, null=True),
        column("processingStartedAt", TIMESTAMP, null=True),
        column("processingCompletedAt", TIMESTAMP, null=True),
        column("createdAt", TIMESTAMP, default=UTC_NOW),
        column("updatedAt", TIMESTAMP),
        sa.PrimaryKeyConstraint("id", name="mcp_generation_jobs_pkey"),
        foreign_key("mcp_generation_jobs_userId_fkey", "userId", "users.id", ondelete="CASCADE"),
        foreign_key("mcp_generation_jobs_apiKeyId_fkey", "apiKeyId", "api_keys.id", ondelete="SET NULL"),
    )
    op.create_index(
        "mcp_generation_jobs_userId_status_createdAt_idx", "mcp_generation_jobs", ["userId", "status", "createdAt"]
    )
    op.create_index("mcp_generation_jobs_apiKeyId_idx", "mcp_generation_jobs", ["apiKeyId"])
    op.create_index("mcp_generation_jobs_status_updatedAt_idx", "mcp_generation_jobs", ["status", "updatedAt"])


def _create_albums() -> None:
    op.create_table(
        "albums",
        column("id", TEXT),
        column("userId", TEXT),
        column("name", TEXT),
        column("description", TEXT, null=True),
        column("coverImageId", TEXT, null=True),
        column("privacy", enum("AlbumPrivacy"), default="'PRIVATE'"),
        column("defaultTier", enum("EnhancementTier"), default="'TIER_1K'"),
        column("shareToken", TEXT, null=True),
        column("sortOrder", INTEGER, default="0"),
        column("createdAt", TIMESTAMP, default=UTC_NOW),
        column("updatedAt", TIMESTAMP),
        column("pipelineId", TEXT, null=True),
        sa.PrimaryKeyConstraint("id", name="albums_pkey"),
        foreign_key("albums_userId_fkey", "userId", "users.id", ondelete="CASCADE"),
        foreign_key("albums_pipelineId_fkey", "pipelineId", "enhancement_pipelines.id", ondelete="SET NULL"),
    )
    op.create_index("albums_shareToken_key", "albums", ["shareToken"], unique=True)
    op.create_index("albums_userId_createdAt_idx", "albums", ["userId", "createdAt"])
    op.create_index("albums_privacy_idx", "albums", ["privacy"])
    op.create_index("albums_shareToken_idx", "albums", ["shareToken"])
    op.create_index("albums_pipelineId_idx", "albums", ["pipelineId"])
    op.create_index("albums_userId_name_privacy_key", "albums", ["userId", "name", "privacy"], unique=True)
    op.create_table(
        "album_images",
        column("id", TEXT),
        column("albumId", TEXT),
        column("imageId", TEXT),
        column("sortOrder", INTEGER, default="0"),
        column("addedAt", TIMESTAMP, default=UTC_NOW),
        sa.PrimaryKeyConstraint("id", name="album_images_pkey"),
        foreign_key("album_images_albumId_fkey", "albumId", "albums.id", ondelete="CASCADE"),
        foreign_key("album_images_imageId_fkey", "imageId", "enhanced_images.id", ondelete="CASCADE"),
    )
    op.create_index("album_images_albumId_sortOrder_idx", "album_images", ["albumId", "sortOrder"])
    op.create_index("album_images_imageId_idx", "album_images", ["imageId"])
    op.create_index("album_images_albumId_addedAt_idx", "album_images", ["albumId", "addedAt"])
    op.create_index("album_images_albumId_imageId_key", "album_images", ["albumId", "imageId"], unique=True)
