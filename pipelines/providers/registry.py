"""The providers: a name and how to open it. One line each; a test finds one on disk that isn't here."""

from collections.abc import Callable, Sequence

from pipelines.errors import ProviderNotConfiguredError
from pipelines.imaging.header import DecodeLimits
from pipelines.imaging.pool import PixelPool
from pipelines.providers.local.provider import LocalProvider
from pipelines.providers.provider import Provider

PROVIDERS: dict[str, Callable[[PixelPool, DecodeLimits], Provider]] = {
    "local": LocalProvider,
}
"""Name, as in PROVIDER -> how to open it."""


def open_provider(names: Sequence[str], pixels: PixelPool, limits: DecodeLimits) -> Provider:
    """Open the first provider named.

    Raises:
        ProviderNotConfiguredError: there is no provider of this name.
    """
    name = names[0]
    if name not in PROVIDERS:
        raise ProviderNotConfiguredError(f"PROVIDER={name}: there is none of this name; known: {', '.join(PROVIDERS)}")
    return PROVIDERS[name](pixels, limits)
