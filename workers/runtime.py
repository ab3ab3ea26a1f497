"""The composition root: picks the adapters that settings name. Every process opens the same Runtime."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import structlog
from dramatiq.broker import Broker
from dramatiq.errors import BrokerError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from config.embedded.services import Services
from config.postgres_url import parse_postgres_url
from config.settings import Settings
from models.database import Database
from models.migrate import recorded, wait_until_ready
from pipelines.storage.backends import open_storage
from pipelines.storage.storage import Storage
from workers import doorbell

log = structlog.get_logger(__name__)


class ModeMismatchError(Exception):
    """TOKENS differs from the mode that `db upgrade` recorded, where the triggers see it."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """What every process works with.

    Workers add their own on top (claim loop, provider, pixel children): the
    command line needs none of that to submit and to show.
    """

    settings: Settings
    services: Services
    database: Database
    storage: Storage
    broker: Broker

    async def ring(self, queue: str = "default") -> None:
        """Ring a queue's bell; with the broker down workers still look once a second."""
        try:
            await asyncio.to_thread(doorbell.ring, self.broker, queue)
        except BrokerError as error:
            log.warning("bell_failed", queue=queue, error=str(error))


def migration_engine(services: Services) -> AsyncEngine:
    """Return an engine for migrations: past the pooler, no connection kept; the caller disposes of it."""
    url, arguments = parse_postgres_url(services.database_direct_url).sqlalchemy_arguments()
    return create_async_engine(url, connect_args=arguments, poolclass=NullPool)


@contextlib.asynccontextmanager
async def open_runtime(
    settings: Settings, services: Services, *, most_connections: int = 4, wait_for_migration: bool = True
) -> AsyncIterator[Runtime]:
    """Open the runtime, once the database is migrated.

    Args:
        settings: as the environment says.
        services: where everything is.
        most_connections: of the pool to PostgreSQL.
        wait_for_migration: wait for `darkroom db upgrade`, as processes do that are started beside it.

    Raises:
        ModeMismatchError: TOKENS isn't what `db upgrade` recorded.
        ValueError: STORAGE_URL has no backend or its folder can't be made.
    """
    engine = migration_engine(services)
    try:
        if wait_for_migration:
            await wait_until_ready(
                engine, on_wait=lambda problems: log.info("migration_awaited", problem=str(problems))
            )
        await _require_mode(settings, engine)
    finally:
        await engine.dispose()
    storage = open_storage(services.storage_url, settings.storage_public_url)
    database = Database(
        parse_postgres_url(services.database_url, direct_url=settings.database_direct_url),
        direct_url=parse_postgres_url(services.database_direct_url),
        most_connections=most_connections,
    )
    await database.open()
    broker = doorbell.make_broker(services.broker_url, middleware=[])
    try:
        yield Runtime(
            settings=settings,
            services=services,
            database=database,
            storage=storage,
            broker=broker,
        )
    finally:
        broker.close()
        await database.close()
        await storage.aclose()


async def _require_mode(settings: Settings, engine: AsyncEngine) -> None:
    installed = await recorded(engine)
    if installed is not None and settings.tokens is not None and installed.mode != settings.tokens:
        raise ModeMismatchError(
            f"TOKENS={settings.tokens}, but the database is in mode {installed.mode}; "
            f"unset TOKENS, or run `TOKENS={settings.tokens} darkroom db upgrade` while the queue is empty"
        )
