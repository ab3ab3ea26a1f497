"""The providers: a name and how to open it. One line each; a test finds one on disk that isn't here."""

from collections.abc import Callable

from config.settings import Settings
from pipelines.errors import ProviderNotConfiguredError
from pipelines.imaging.header import DecodeLimits
from pipelines.imaging.pool import PixelPool
from pipelines.providers.gemini.provider import GeminiProvider
from pipelines.providers.local.learned import FAITHFUL, missing
from pipelines.providers.local.provider import LocalProvider
from pipelines.providers.openai.provider import OpenAIProvider
from pipelines.providers.provider import Provider
from pipelines.stages.generate import GENERATE

PROVIDERS: dict[str, Callable[[Settings, PixelPool, DecodeLimits], Provider]] = {
    "gemini": GeminiProvider,
    "local": lambda settings, pixels, limits: LocalProvider(
        pixels,
        limits,
        learned_cpu_s=settings.learned_cpu_s,
        deadline_s=GENERATE.deadline_of(settings.stage_deadlines),
    ),
    "openai": OpenAIProvider,
}
"""Name, as in PROVIDER -> how to open it."""


def open_providers(settings: Settings, pixels: PixelPool, limits: DecodeLimits) -> list[Provider]:
    """Open the providers that are configured, in the order in which they are asked; the caller closes them.

    Raises:
        ProviderNotConfiguredError: there is no provider of a name.
    """
    for name in settings.providers:
        if name not in PROVIDERS:
            raise ProviderNotConfiguredError(
                f"PROVIDER={name}: there is none of this name; known: {', '.join(PROVIDERS)}"
            )
    return [PROVIDERS[name](settings, pixels, limits) for name in settings.providers]


def enlarger(settings: Settings) -> str:
    """Name what the local engine enlarges with: a result is reused only for the same."""
    return FAITHFUL.name if settings.learned_cpu_s > 0 and missing(FAITHFUL) is None else "Lanczos"
