"""Checks that providers answer, and of the settings that say which URLs may be fetched."""

import asyncio
from typing import Final

from pipelines.errors import ProviderNotConfiguredError, StageError
from pipelines.imaging.pool import PixelPool
from pipelines.providers.provider import Provider
from pipelines.settings import Settings
from workers.operations.checks.check import Check
from workers.process.tools import make_providers

PROVIDER_TIMEOUT_S: Final = 5.0


async def check_providers(settings: Settings, pixels: PixelPool) -> list[Check]:
    """Check that each provider knows its configured models. Nothing is bought."""
    return list(await asyncio.gather(*(_provider(provider) for provider in make_providers(settings, pixels))))


async def _provider(provider: Provider) -> Check:
    try:
        async with asyncio.timeout(PROVIDER_TIMEOUT_S):
            await provider.check()
    except ProviderNotConfiguredError as error:
        return Check("provider", "fail", f"{provider.name}: {error}", "see `darkroom config` for its key and models")
    except (StageError, TimeoutError) as error:
        reason = str(error) or f"no answer within {PROVIDER_TIMEOUT_S:g} s"
        return Check(
            "provider", "warn", f"{provider.name} can't be asked: {reason}", "check its address and the network"
        )
    finally:
        await provider.aclose()
    return Check("provider", "ok", provider.name)


def check_fetcher(settings: Settings) -> Check:
    """Check whether URLs of inputs may lead to this machine's own addresses."""
    if settings.fetch_allow_loopback:
        message = "DARKROOM_FETCH_ALLOW_LOOPBACK is on: a user's URL may lead to this machine's own servers"
        return Check("input URLs", "warn", message, "unset it: it is for tests only")
    return Check("input URLs", "ok", "fetched from public addresses only")
