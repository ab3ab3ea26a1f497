"""The providers: a name and how to open it. One line each; a test finds one on disk that isn't here."""

from collections.abc import Callable

from config.settings import Settings
from pipelines.errors import ProviderNotConfiguredError
from pipelines.imaging.header import DecodeLimits
from pipelines.imaging.pool import PixelPool
from pipelines.providers.gemini.provider import GeminiProvider
from pipelines.providers.local.provider import LocalProvider
from pipelines.providers.openai.provider import OpenAIProvider
from pipelines.providers.provider import Provider

PROVIDERS: dict[str, Callable[[Settings, PixelPool, DecodeLimits], Provider]] = {
    "gemini": GeminiProvider,
    "local": lambda _settings, pixels, limits: LocalProvider(pixels, limits),
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
