"""Settings of providers: who is asked, with which key and model, at which price, within which limits and budgets."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from config.gate_terms import WARNING_FRACTION
from config.model_prices import BUDGETS, MODEL_PRICES_USD, RATES
from config.setting_types import BaseUrlText, ModelName, Names, PositiveSeconds, number_by_name

PREFIX: Final = "DARKROOM_"

ModelPrices = Annotated[
    Mapping[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]], BeforeValidator(number_by_name(MODEL_PRICES_USD))
]
Budgets = Annotated[
    Mapping[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]],
    BeforeValidator(number_by_name({}, allowed=BUDGETS)),
]
ProviderLimits = Annotated[
    Mapping[str, PositiveSeconds], BeforeValidator(number_by_name({}, allowed=RATES, after_slash=True))
]


def contract_field(name: str, default: Any, meaning: str) -> Any:
    """A variable that other programs know by the same name, so without our prefix."""
    return Field(default, validation_alias=name, description=meaning)


class ProviderSettings(BaseModel):
    """The part of `Settings` that is about providers."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, validate_default=True, hide_input_in_errors=True
    )

    provider: Names = contract_field(
        "PROVIDER",
        (),
        "Who analyzes and generates: local, gemini, or an ordered list for fallback (gemini,local). "
        "Unset: gemini if its key is set, else local on embedded services",
    )
    gemini_api_key: SecretStr | None = contract_field(
        "GEMINI_API_KEY", None, "Key of the Gemini REST API; sent in a header only"
    )
    gemini_base_url: BaseUrlText = contract_field(
        "GEMINI_BASE_URL",
        "https://generativelanguage.googleapis.com",
        "Where the Gemini REST API answers; https, except on loopback",
    )
    openai_api_key: SecretStr | None = contract_field(
        "OPENAI_API_KEY", None, "Key of an OpenAI-compatible images API; sent in a header only"
    )
    openai_base_url: BaseUrlText = contract_field(
        "OPENAI_BASE_URL",
        "https://api.openai.com",
        "Where an OpenAI-compatible images API answers, without /v1; https, except on loopback",
    )
    gemini_api_version: Literal["v1", "v1beta"] = Field(
        default="v1beta", description="Version of the Gemini REST API that is spoken: v1 or v1beta"
    )
    gemini_image_model: ModelName = Field(
        default="gemini-nano-banana-2.1",
        description="Gemini model that makes pictures, as of 2026-11-20; models are retired within a year",
    )
    gemini_analysis_model: ModelName = Field(
        default="gemini-3.5-flash",
        description="Gemini model that analyzes pictures, as of 2026-11-20; image models can't answer in JSON",
    )
    openai_image_model: ModelName = Field(default="gpt-image-1", description="Model asked by PROVIDER=openai")
    model_prices: ModelPrices = Field(
        default=MODEL_PRICES_USD,
        description="USD by model, as of 2026-10-08: MODEL/1K, /2K, /4K for a picture, MODEL/in, /out, /image_out for "
        "a million units, NAME=usd,...; those not named keep theirs",
    )
    unknown_model_usd: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(
        default=None,
        description="USD that a call of a model without a price counts. Unset: such a model is refused by its name, "
        "where a job is submitted and before anything is paid",
    )
    provider_limits: ProviderLimits = Field(
        default={},
        description="Limits of a provider for the whole fleet, PROVIDER/NAME=number,...: requests_per_minute, "
        "requests_per_day, images_per_minute, images_per_day, concurrency (64), breaker_failures (5), breaker_s (10)",
    )
    budgets: Budgets = Field(
        default={},
        description="Budgets of paid calls, NAME=number,...: total_usd, day_usd, user_day_usd, anonymous_day_usd, the "
        "same with _calls, and free_user_day_calls for a user's jobs of tier FREE, which cost no tokens; days are "
        "UTC's. Not named: no limit",
    )
    max_answer_bytes: Annotated[int, Field(ge=40_000_000)] = Field(
        default=100_000_000,
        description="Largest encoded picture taken from a provider, in bytes: it is paid for, so no limit of uploads "
        "binds it; at least 40,000,000 (a 4K picture as PNG)",
    )
    max_answer_pixels: Annotated[int, Field(ge=20_000_000)] = Field(
        default=64_000_000,
        description="Largest picture taken from a provider, width times height; at least 20,000,000 (4K of any ratio)",
    )
    over_size: Literal["enlarge", "refuse"] = Field(
        default="enlarge",
        description="What becomes of a tier whose size the model can't make: enlarge (its largest picture, which the "
        "job's treatments say) or refuse (a job of it is refused when it is submitted or inserted, uncharged). "
        "`darkroom db upgrade` records it",
    )
    budget_warning_fraction: Annotated[float, Field(gt=0, le=1)] = Field(
        default=WARNING_FRACTION, description="Part of a budget after which a warning is logged, once a window"
    )
    over_budget: Literal["snooze", "refuse"] = Field(
        default="snooze",
        description="What becomes of a job whose budget is spent: snooze (it waits for the next day) or refuse (it "
        "ends, refunded)",
    )
