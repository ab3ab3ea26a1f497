"""Opening of the configured providers."""

from pkgutil import resolve_name

from pipelines.imaging.header import DecodeLimits
from pipelines.imaging.pool import PixelPool
from pipelines.providers.provider import Provider
from pipelines.providers.registry import PROVIDERS
from pipelines.settings import Settings


def open_provider(name: str, settings: Settings, pixels: PixelPool, limits: DecodeLimits) -> Provider:
    """Open one of the registered providers; the caller closes it.

    Args:
        name: its name in PROVIDER.
        settings: the settings, which include the provider's own.
        pixels: the pool in which it decodes pictures; the caller owns it.
        limits: the limits of users' pictures.
    """
    provider: Provider = resolve_name(PROVIDERS[name].opens)(settings, pixels, limits)
    return provider


def open_providers(settings: Settings, pixels: PixelPool, limits: DecodeLimits) -> list[Provider]:
    """Open the configured providers, in the order in which they are asked; the caller closes them."""
    return [open_provider(name, settings, pixels, limits) for name in settings.providers]
