"""The gate's rules, and which pauses stop which provider."""

from config.settings import load_settings
from pipelines.imaging.header import DecodeLimits
from pipelines.imaging.pool import PixelPool
from pipelines.providers.registry import PROVIDERS
from workers.gate.rules import FREE


def test_free_providers_are_those_that_say_so():
    settings = load_settings({})
    pixels, limits = PixelPool.__new__(PixelPool), DecodeLimits()

    assert {name for name, make in PROVIDERS.items() if not make(settings, pixels, limits).is_paid} == FREE
