"""Types and defaults of the settings for periodic tasks: schedules, regeneration of tokens, retention."""

import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from config.setting_types import ColumnName, PositiveInt, PositiveNumber, json_value, number_by_name

RETENTION_DAYS: Final = {
    "error_logs": 30,
    "merch_webhook_events": 90,
    "stage_runs": 30,
    "ticks": 30,
    "provider_calls": 400,
    "artifacts": 400,
    "checkpoints": 30,
    "submissions": 400,
    "batches": 400,
    "album_batches": 400,
    "job_hours": 400,
    "stage_hours": 400,
    "queue_hours": 400,
    "pipeline_links": 400,
    "limits": 35,
    "sessions": 0,
    "verification_tokens": 0,
    "campaign_metrics_cache": 0,
    "temporary_objects": 30,
}
# money, audits and unfinished jobs are never deleted, nor rows whose deletion would delete them by a foreign key
KEPT_FOREVER: Final = frozenset(
    (
        *("token_transactions", "audit_logs", "job_money", "job_queue", "opening_balances", "subscription_periods"),
        *("token_entries", "earlier_money", "image_enhancement_jobs", "mcp_generation_jobs", "user_token_balances"),
        *("subscriptions", "users", "enhanced_images", "api_keys", "vouchers", "voucher_redemptions"),
        "operator_actions",
    )
)
MONEY_NAMES: Final = re.compile(
    r"(^|_)(transactions?|ledgers?|balances?|payments?|payouts?|invoices?|orders?|purchases?|refunds?|charges?|billing|"
    r"credits?|wallets?|vouchers?|coupons?|subscriptions?|plans|prices|audits?)($|_)"
)
"""Pattern of the names of an application's tables that hold money or an audit; retention never deletes from them."""

ALLOWANCES_TOKENS: Final = {"FREE": 10, "BASIC": 20, "STANDARD": 50, "PREMIUM": 100}
DRIP_INTERVAL_S: Final = 900
DRIP_AMOUNT_TOKENS: Final = 1
DRIP_INTERVALS_S: Final = dict.fromkeys(ALLOWANCES_TOKENS, DRIP_INTERVAL_S)
DRIP_AMOUNTS_TOKENS: Final = dict.fromkeys(ALLOWANCES_TOKENS, DRIP_AMOUNT_TOKENS)
UsageMeasure = Literal["jobs", "pictures", "tokens", "provider_calls", "cost_usd", "bytes_stored"]
USAGE_MEASURES: Final[tuple[UsageMeasure, ...]] = get_args(UsageMeasure)

_TABLE = re.compile(r"[a-z_][a-z0-9_]{0,62}")


def _table(value: str) -> str:
    if not _TABLE.fullmatch(value):
        raise ValueError(f"{value!r} must be a table's bare name, in lower case: no schema, no quotes")
    if value not in RETENTION_DAYS and MONEY_NAMES.search(value):
        raise ValueError(
            f"{value} must not be named here: by its name it holds money or an audit, which are kept for ever"
        )
    return value


TableName = Annotated[str, AfterValidator(_table)]


class RetentionPolicy(BaseModel):
    """How long a table's rows are kept: `days` days after the time in `column`.

    Only rows for which the SQL condition `where` holds are deleted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    column: ColumnName
    days: Annotated[int, Field(ge=0)]
    where: str = "true"


class ScheduleTerms(BaseModel):
    """When a periodic task runs. A field that isn't given has the task's default."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    schedule: str | None = None
    time_zone: str | None = None
    missed: Literal["skip", "coalesce", "catch_up"] | None = None


def _schedules(value: object) -> object:
    value = json_value(value) if isinstance(value, str) else value
    if not isinstance(value, Mapping):
        return value
    return {name: {"schedule": terms} if isinstance(terms, str) else terms for name, terms in value.items()}


Schedules = Annotated[Mapping[str, ScheduleTerms], BeforeValidator(_schedules)]
RetentionDays = Annotated[
    Mapping[TableName, Annotated[int, Field(ge=0)] | RetentionPolicy],
    BeforeValidator(number_by_name(RETENTION_DAYS, forbidden=KEPT_FOREVER)),
]
TokensByTier = Annotated[
    Mapping[str, Annotated[int, Field(ge=0, le=1_000_000_000)]],
    BeforeValidator(number_by_name(ALLOWANCES_TOKENS, only_known=True)),
]
DripAmounts = Annotated[
    Mapping[str, Annotated[int, Field(ge=0, le=1_000_000)]],
    BeforeValidator(number_by_name(DRIP_AMOUNTS_TOKENS, only_known=True)),
]
DripIntervals = Annotated[Mapping[str, PositiveInt], BeforeValidator(number_by_name(DRIP_INTERVALS_S, only_known=True))]
UsageLimits = Annotated[
    Mapping[UsageMeasure, PositiveNumber],
    BeforeValidator(number_by_name({})),
]
