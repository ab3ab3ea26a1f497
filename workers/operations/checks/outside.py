"""Checks of what Darkroom leans on outside of PostgreSQL: broker, storage, providers, and what fetching allows."""

import asyncio
import hashlib
import time
import uuid
from contextlib import suppress
from typing import Final

from config.embedded.services import Services
from config.settings import Settings
from pipelines.errors import ProviderNotConfiguredError, StageError
from pipelines.imaging.pool import PixelPool
from pipelines.limits import upload_limits
from pipelines.providers.provider import Provider
from pipelines.providers.registry import open_providers
from pipelines.storage.backends import open_storage
from workers import doorbell
from workers.operations.checks.check import Check

BROKER_TIMEOUT_S: Final = 10.0
PROVIDER_TIMEOUT_S: Final = 5.0


async def check_broker(services: Services) -> Check:
    """Ring a bell as producers do: one more costs a worker an empty look."""
    scheme = services.broker_url.split(":", 1)[0]
    started_s = time.monotonic()

    def ring() -> None:
        broker = doorbell.make_broker(services.broker_url, middleware=[])
        try:
            doorbell.ring(broker, "default")
        finally:
            with suppress(Exception):
                broker.close()

    try:
        await asyncio.wait_for(asyncio.to_thread(ring), BROKER_TIMEOUT_S)
    except Exception as error:  # noqa: BLE001 - each broker has errors of its own, and a diagnosis reports them all
        reason = str(error) or type(error).__name__
        advice = "check BROKER_URL or REDIS_URL; until then workers look once a second"
        return Check("broker", "fail", f"{scheme} doesn't answer: {reason}", advice)
    return Check("broker", "ok", f"{scheme} took a bell in {1000 * (time.monotonic() - started_s):.0f} ms")


async def check_storage(settings: Settings, services: Services) -> Check:
    """Write, read and delete one object."""
    data = uuid.uuid4().bytes
    key = f"doctor/{data.hex()}.bin"
    try:
        storage = open_storage(services.storage_url, settings.storage_public_url)
        await storage.put(key, data, "application/octet-stream", hashlib.sha256(data).hexdigest())
        is_same = await storage.get(key) == data
        await storage.delete(key)
        await storage.aclose()
    except (ValueError, StageError, OSError) as error:
        return Check("storage", "fail", str(error), "check STORAGE_URL, its rights and its free space")
    if not is_same:
        return Check("storage", "fail", "an object came back changed", "check STORAGE_URL")
    return Check("storage", "ok", f"{services.storage_url.split(':', 1)[0]}: takes, gives and deletes")


async def check_providers(settings: Settings) -> list[Check]:
    """Ask each provider for its configured models: nothing is bought."""
    async with PixelPool() as pixels:
        limits = upload_limits(settings)
        try:
            providers = open_providers(settings, pixels, limits)
        except ProviderNotConfiguredError as error:
            return [Check("provider", "fail", str(error), "check PROVIDER")]
        return [await _provider(provider) for provider in providers]


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
    """Say whether input URLs may lead inside."""
    if settings.fetch_allow_loopback:
        message = "DARKROOM_FETCH_ALLOW_LOOPBACK is on: a stranger's URL may lead to this machine's own servers"
        return Check("input URLs", "warn", message, "unset it: it is for tests only")
    return Check("input URLs", "ok", "fetched from public addresses only")
