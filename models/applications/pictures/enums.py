"""The application's enum types, with their labels in the order of the schema document.

They are plain labels and not Python enum classes: SQLAlchemy would name a type after its class
in lower case and store member names, and no code here needs the classes. Never sort or compare by
these labels: in an adopted database their order depends on its history.
"""

from sqlalchemy.dialects.postgresql import ENUM

from config.tiers import Tier
from models.applications.pictures.columns import metadata

user_role = ENUM("USER", "ADMIN", "SUPER_ADMIN", name="UserRole", metadata=metadata)
subscription_tier = ENUM("FREE", "BASIC", "STANDARD", "PREMIUM", name="SubscriptionTier", metadata=metadata)
subscription_status = ENUM(
    "ACTIVE", "CANCELED", "PAST_DUE", "UNPAID", "TRIALING", name="SubscriptionStatus", metadata=metadata
)
token_transaction_type = ENUM(
    "EARN_REGENERATION",
    "EARN_PURCHASE",
    "EARN_BONUS",
    "EARN_ADMIN_ADJUSTMENT",
    "SPEND_ENHANCEMENT",
    "SPEND_MCP_GENERATION",
    "SPEND_BOX_CREATION",
    "REFUND",
    name="TokenTransactionType",
    metadata=metadata,
)
enhancement_tier = ENUM(*Tier, name="EnhancementTier", metadata=metadata)
job_status = ENUM(
    "PENDING", "PROCESSING", "COMPLETED", "FAILED", "REFUNDED", "CANCELLED", name="JobStatus", metadata=metadata
)
pipeline_stage = ENUM("ANALYZING", "CROPPING", "PROMPTING", "GENERATING", name="PipelineStage", metadata=metadata)
pipeline_visibility = ENUM("PRIVATE", "PUBLIC", "LINK", name="PipelineVisibility", metadata=metadata)
album_privacy = ENUM("PRIVATE", "UNLISTED", "PUBLIC", name="AlbumPrivacy", metadata=metadata)
mcp_job_type = ENUM("GENERATE", "MODIFY", name="McpJobType", metadata=metadata)
voucher_type = ENUM("FIXED_TOKENS", "PERCENTAGE_BONUS", "SUBSCRIPTION_TRIAL", name="VoucherType", metadata=metadata)
voucher_status = ENUM("ACTIVE", "INACTIVE", "EXPIRED", "DEPLETED", name="VoucherStatus", metadata=metadata)
audit_action = ENUM(
    "ROLE_CHANGE",
    "TOKEN_ADJUSTMENT",
    "VOUCHER_CREATE",
    "VOUCHER_UPDATE",
    "VOUCHER_DELETE",
    "USER_DELETE",
    "ADMIN_LOGIN",
    name="AuditAction",
    metadata=metadata,
)
error_environment = ENUM("FRONTEND", "BACKEND", name="ErrorEnvironment", metadata=metadata)
