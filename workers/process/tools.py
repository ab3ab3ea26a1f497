"""The part of the composition root for what makes pictures: pixel children, providers, the gate, and their needs.

It is separate from `workers.process.compose`, because importing it takes half a second, and most commands need none
of it.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from models.database import Database
from pipelines.fetching import PictureFetcher
from pipelines.imaging.header import DecodeLimits
from pipelines.imaging.pool import PixelPool
from pipelines.limits import answer_limits, upload_limits
from pipelines.providers.catalogue import ModelCatalogue
from pipelines.providers.local.provider import CHILD_IMPORTS, LocalProvider
from pipelines.providers.opening import open_providers
from pipelines.providers.provider import Provider
from pipelines.providers.terms import model_terms
from pipelines.settings import Settings
from workers.gate.gate import Gate
from workers.metrics.recording import Recording


@dataclass(frozen=True, slots=True)
class Tools:
    """What a worker needs in addition to its Runtime.

    Attributes:
        pixels: the pool of pixel children, which decode and encode.
        limits: how large a user's picture may be.
        answer_limits: how large a provider's picture may be.
        providers: the providers, in the order of PROVIDER.
        gate: the gate between running jobs and the providers.
        fetcher: fetches pictures by URL.
        models: the models that calls may name.
        provider_identity: the identity of the configured providers; results are reused only under the same identity.
    """

    pixels: PixelPool
    limits: DecodeLimits
    answer_limits: DecodeLimits
    providers: Sequence[Provider]
    gate: Gate
    fetcher: PictureFetcher
    models: ModelCatalogue
    provider_identity: str


def make_pixels() -> PixelPool:
    """Return the pool of pixel children, without starting one; the caller enters it as a context."""
    return PixelPool(imports=CHILD_IMPORTS)


def make_preview_pixels() -> PixelPool:
    """Return a pool of one pixel child that makes pictures for people; the caller closes it."""
    return PixelPool(size=1)


def make_providers(settings: Settings, pixels: PixelPool) -> list[Provider]:
    """Return the providers that PROVIDER names, in its order; the caller closes them."""
    return open_providers(settings, pixels, upload_limits(settings))


@asynccontextmanager
async def open_tools(
    settings: Settings, database: Database, pixels: PixelPool, recording: Recording | None = None
) -> AsyncIterator[Tools]:
    """Open the tools, beside the pool of pixel children; leaving the context closes them.

    Args:
        settings: the settings.
        database: the open database, where the gate records calls and limits.
        pixels: the pool of pixel children, which the caller closes.
        recording: counts the calls of providers.
    """
    async with AsyncExitStack() as stack:
        providers = make_providers(settings, pixels)
        for provider in providers:
            stack.push_async_callback(provider.aclose)
        limits = upload_limits(settings)
        yield Tools(
            pixels=pixels,
            limits=limits,
            answer_limits=answer_limits(settings),
            providers=providers,
            gate=Gate(database, providers, LocalProvider(pixels, limits), settings, recording),
            fetcher=PictureFetcher(allow_loopback=settings.fetch_allow_loopback),
            models=ModelCatalogue(model_terms(settings)),
            provider_identity=" ".join(f"{one.name} {one.identity}" for one in providers),
        )
