"""The description of the local engine: its settings, and the models that it has."""

from typing import Annotated, Final

from pydantic import Field

from config.provider_settings import ProviderSettings
from pipelines.providers.description import ProviderDescription


class LocalSettings(ProviderSettings):
    """Limits of the local engine."""

    learned_cpu_s: Annotated[float, Field(ge=0, le=600, allow_inf_nan=False)] = Field(
        default=20,
        description="CPU seconds that trained networks may take for one picture of the local engine, by the speed in "
        "docs/quality.md: what is larger, or meets a busy machine, is treated without them; 0 turns them off",
    )


LOCAL: Final = ProviderDescription(
    name="local",
    opens="pipelines.providers.local.provider:open_local",
    settings=LocalSettings,
    is_paid=False,
    analyzes=True,
    models=("local", "realesrgan-x4plus"),  # a test compares them with its networks
)
