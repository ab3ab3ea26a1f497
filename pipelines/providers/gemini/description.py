"""Description of the provider Gemini: its settings, its prices, and when its day of quota begins."""

from typing import Final, Literal

from pydantic import Field, SecretStr

from config.provider_settings import ProviderSettings
from config.setting_group import contract_field
from config.setting_types import BaseUrlText, ModelName
from pipelines.providers.description import ProviderDescription


class GeminiSettings(ProviderSettings):
    """Settings of calls to the Gemini REST API."""

    gemini_api_key: SecretStr | None = contract_field(
        "GEMINI_API_KEY", None, "Key of the Gemini REST API; sent in a header only"
    )
    gemini_base_url: BaseUrlText = contract_field(
        "GEMINI_BASE_URL",
        "https://generativelanguage.googleapis.com",
        "Where the Gemini REST API answers; https, except on loopback",
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


GEMINI: Final = ProviderDescription(
    name="gemini",
    opens="pipelines.providers.gemini.provider:GeminiProvider",
    settings=GeminiSettings,
    key="gemini_api_key",
    is_default=True,
    analyzes=True,
    model_settings={"generate": "gemini_image_model", "analyze": "gemini_analysis_model"},
    prefixes=("gemini-",),  # as of 2026-11-20
    prices={  # dated 2026-10-08, from secondary sources that quote Google's price page
        "gemini-nano-banana-2.1/1K": 0.0336,
        "gemini-nano-banana-2.1/2K": 0.0504,
        "gemini-nano-banana-2.1/4K": 0.1134,
        "gemini-nano-banana-2.1/in": 1.5,
        "gemini-nano-banana-2.1/out": 7.5,
        "gemini-nano-banana-2.1/image_out": 30,
        "gemini-3-pro-image/1K": 0.134,
        "gemini-3-pro-image/2K": 0.134,
        "gemini-3-pro-image/4K": 0.24,
        "gemini-3-pro-image/in": 2,
        "gemini-3-pro-image/out": 12,
        "gemini-3-pro-image/image_out": 120,
        "gemini-3.1-flash-lite-image/1K": 0.0336,
        "gemini-3.1-flash-lite-image/in": 0.25,
        "gemini-3.1-flash-lite-image/out": 1.5,
        "gemini-3.1-flash-lite-image/image_out": 30,
        "gemini-3.8-flash/in": 0.75,
        "gemini-3.8-flash/out": 3.75,
        "gemini-3.5-flash/in": 1.5,
        "gemini-3.5-flash/out": 9,
        "gemini-3.5-flash-lite/in": 0.3,
        "gemini-3.5-flash-lite/out": 2.5,
    },
    quota_zone="America/Los_Angeles",  # the day begins at midnight Pacific time, read 2026-11-20
)
