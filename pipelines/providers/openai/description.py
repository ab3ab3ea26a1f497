"""Description of the provider openai, an OpenAI-compatible images API: its settings and its prices."""

from typing import Final

from pydantic import Field, SecretStr

from config.provider_settings import ProviderSettings
from config.setting_group import contract_field
from config.setting_types import BaseUrlText, ModelName
from pipelines.providers.description import ProviderDescription

MOST_SIDE_PX: Final = 1536
"""The longest side that gpt-image-1 makes, by its parameter `size`."""


class OpenAISettings(ProviderSettings):
    """Settings of calls to an OpenAI-compatible images API."""

    openai_api_key: SecretStr | None = contract_field(
        "OPENAI_API_KEY", None, "Key of an OpenAI-compatible images API; sent in a header only"
    )
    openai_base_url: BaseUrlText = contract_field(
        "OPENAI_BASE_URL",
        "https://api.openai.com",
        "Where an OpenAI-compatible images API answers, without /v1; https, except on loopback",
    )
    openai_image_model: ModelName = Field(default="gpt-image-1", description="Model asked by PROVIDER=openai")


OPENAI: Final = ProviderDescription(
    name="openai",
    opens="pipelines.providers.openai.provider:OpenAIProvider",
    settings=OpenAISettings,
    key="openai_api_key",
    model_settings={"generate": "openai_image_model"},
    prefixes=("gpt-image-", "dall-e-", "chatgpt-image-"),  # as of 2026-11-20
    prices={  # OpenAI's price page for gpt-image-1 at high quality, as of April 2025: check them before use
        "gpt-image-1/1K": 0.25,
        "gpt-image-1/in": 10,
        "gpt-image-1/out": 40,
        "gpt-image-1/image_out": 40,
    },
    most_side_px=MOST_SIDE_PX,
)
