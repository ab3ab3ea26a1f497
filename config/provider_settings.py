"""Settings that hold for every provider: prices, limits, budgets, and the largest answer that is accepted."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from config.gate_terms import BUDGETS, RATES, WARNING_FRACTION
from config.setting_group import SettingGroup
from config.setting_types import PositiveNumber, number_by_name

_Budgets = Annotated[
    Mapping[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]],
    BeforeValidator(number_by_name({}, allowed=BUDGETS)),
]
_ProviderLimits = Annotated[
    Mapping[str, PositiveNumber], BeforeValidator(number_by_name({}, allowed=RATES, after_slash=True))
]


class ProviderSettings(SettingGroup):
    """Settings that every provider shares; the group of a provider's own settings derives from this one."""

    unknown_model_usd: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(
        default=None,
        description="USD that a call to a model without a price counts in budgets. Unset: a job that asks for such a "
        "model is refused when it is submitted, and its calls before anything is paid",
    )
    provider_limits: _ProviderLimits = Field(
        default={},
        description="Limits of a provider for all workers together, PROVIDER/NAME=number,...: requests_per_minute, "
        "requests_per_day, images_per_minute, images_per_day, concurrency (64), first_concurrency (16; doubled when "
        "so many calls at a time were answered, until the first 429), breaker_failures (5), breaker_s (10)",
    )
    budgets: _Budgets = Field(
        default={},
        description="Budgets of paid calls, NAME=number,...: total_usd, day_usd, user_day_usd, anonymous_day_usd, the "
        "same with _calls, and free_user_day_calls for a user's jobs of tier FREE, which cost no tokens; days are "
        "UTC's. Not named: no limit",
    )
    max_answer_bytes: Annotated[int, Field(ge=40_000_000)] = Field(
        default=100_000_000,
        description="Largest file of a picture that is accepted from a provider, in bytes, at least 40,000,000 (a 4K "
        "picture as PNG). DARKROOM_MAX_IMAGE_BYTES doesn't hold for it, since it is paid for",
    )
    max_answer_pixels: Annotated[int, Field(ge=20_000_000)] = Field(
        default=64_000_000,
        description="Largest picture that is accepted from a provider, in pixels, at least 20,000,000 (4K of any "
        "ratio)",
    )
    over_size: Literal["enlarge", "refuse"] = Field(
        default="enlarge",
        description="What happens to a tier whose size the model can't make: enlarge (the model's largest picture, as "
        "the job's treatments say) or refuse (such a job is refused, uncharged, when it is submitted or inserted). "
        "`darkroom db upgrade` records it",
    )
    budget_warning_fraction: Annotated[float, Field(gt=0, le=1)] = Field(
        default=WARNING_FRACTION, description="Fraction of a budget after which a warning is logged, once per period"
    )
    over_budget: Literal["snooze", "refuse"] = Field(
        default="snooze",
        description="What happens to a job whose budget is spent: snooze (it waits for the next day) or refuse (it "
        "ends, refunded)",
    )
