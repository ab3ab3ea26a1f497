"""The gate's rules, and which pauses stop which provider."""

from pipelines.imaging.header import DecodeLimits
from pipelines.imaging.pool import PixelPool
from pipelines.providers.opening import open_provider
from pipelines.providers.registry import PROVIDERS
from pipelines.settings import load_settings


def test_free_providers_are_those_that_say_so():
    settings = load_settings({})
    pixels, limits = PixelPool.__new__(PixelPool), DecodeLimits()

    free = {name for name, one in PROVIDERS.items() if not one.is_paid}
    assert {name for name in PROVIDERS if not open_provider(name, settings, pixels, limits).is_paid} == free
