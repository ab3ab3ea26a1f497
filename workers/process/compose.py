"""The composition root of processes: makes every part that settings name. Every process opens the same Runtime.

A part is made here, in `workers.process.runtime`, which needs no migrations, or in `workers.process.tools`, which makes
pictures, and nowhere else. `darkroom doctor` makes the parts one by one, to say which of them fails.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import structlog
from dramatiq import Middleware
from dramatiq.broker import Broker
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from config.postgres_url import parse_postgres_url
from config.service_settings import MOST_BESIDE_WORKERS
from models.connections import DatabaseLostError
from models.database import Database
from models.queue.listening import cannot_listen
from models.schema.migrate import recorded, wait_until_ready
from models.schema.migrations.installation import Recorded
from models.schema.migrations.problems import Problem
from pipelines.settings import Settings
from workers.process import wake_up
from workers.process.repeated_line import RepeatedLine
from workers.process.runtime import ModeMismatchError, Runtime, make_database, make_storage
from workers.services.services import Services

log = structlog.get_logger(__name__)

CONNECTION_LOOK_S = 0.5
"""How often a process looks whether PostgreSQL has a connection for it now, while it starts."""


def migration_engine(services: Services) -> AsyncEngine:
    """Return an engine for migrations: past the pooler, no connection kept; the caller disposes of it.

    It works through a transaction pooler too, whether the URL says so or not.
    """
    url, arguments = parse_postgres_url(services.database_direct_url).sqlalchemy_arguments()
    return create_async_engine(url, connect_args=arguments, poolclass=NullPool)


def make_broker(url: str, *, middleware: Sequence[Middleware] = (), lanes: wake_up.Lanes | None = None) -> Broker:
    """Return the broker of a URL; the caller closes it.

    Args:
        url: of Redis or RabbitMQ.
        middleware: of dramatiq, for a process that receives.
        lanes: say whether a process that receives has room for a job.
    """
    return wake_up.make_broker(url, middleware=list(middleware), lanes=lanes)


async def require_usable(settings: Settings, services: Services, *, wait: bool) -> Recorded:
    """See that this process may work on the database; return what `db upgrade` recorded.

    Args:
        settings: for the mode of money.
        services: where the database is.
        wait: wait for the server and for `darkroom db upgrade`, as processes do that are started beside them.

    Raises:
        ModeMismatchError: TOKENS isn't what `db upgrade` recorded.
        RightsMissingError: the role lacks rights; only with `wait`.
        DatabaseLostError, DBAPIError: the server doesn't answer; only without `wait`.
    """
    engine, waiting = migration_engine(services), RepeatedLine()

    def on_wait(problems: Sequence[Problem]) -> None:
        if not waiting.is_due():
            return
        first = problems[0]
        if first.kind == "unreachable":
            log.warning("connection_awaited", error=first.message)
        else:
            log.info("migration_awaited", problem=first.message)

    try:
        while True:
            if wait:
                await wait_until_ready(engine, on_wait=on_wait)
            try:
                installed = await recorded(engine)
                break
            except (DatabaseLostError, DBAPIError):  # gone again since the look before
                if not wait:
                    raise
    finally:
        await engine.dispose()
    if installed is None:
        return Recorded(mode="managed", prices={}, cost_column=settings.cost_column)
    if settings.tokens is not None and installed.mode != settings.tokens:
        raise ModeMismatchError(settings.tokens, installed.mode)
    return installed


@contextlib.asynccontextmanager
async def open_runtime(
    settings: Settings,
    services: Services,
    *,
    wait_for_migration: bool = True,
    installed: Recorded | None = None,
    database: Database | None = None,
) -> AsyncIterator[Runtime]:
    """Open the runtime, once the database is migrated.

    Args:
        settings: as the environment says.
        services: where everything is.
        wait_for_migration: wait for `darkroom db upgrade` and for connections, as processes do that are started
            beside it.
        installed: what `require_usable` returned; None has it called.
        database: to be opened, and closed at the end; None makes one with the few connections of a command or a
            scheduler, one of DARKROOM_CONNECTIONS being kept for LISTEN.

    Raises:
        ModeMismatchError: TOKENS isn't what `db upgrade` recorded.
        RightsMissingError: the role lacks rights.
        ValueError: STORAGE_URL has no backend or its folder can't be made.
    """
    if installed is None:
        installed = await require_usable(settings, services, wait=wait_for_migration)
    storage = make_storage(settings, services, is_patient=wait_for_migration)
    if database is None:
        most = min(settings.connections, MOST_BESIDE_WORKERS)
        database = make_database(settings, services, most_connections=most - 1)
    await _open(database, wait=wait_for_migration)
    runtime = Runtime(settings, services, database, installed.installation, storage)
    try:
        yield runtime
    finally:
        await runtime.aclose()


async def warn_if_unheard(database: Database) -> None:
    """Say at a start that nobody hears what producers notify; with PostgreSQL gone again, say nothing."""
    with contextlib.suppress(DatabaseLostError):
        if await cannot_listen(database):
            log.warning("notify_unheard")


async def _open(database: Database, *, wait: bool) -> None:
    """Open the pool; a process waits for its first connection, and says so."""
    waiting = RepeatedLine()
    while True:
        try:
            await database.open()
        except DatabaseLostError as error:
            if not wait:
                raise
            if waiting.is_due():
                log.warning("connection_awaited", error=str(error))
            await asyncio.sleep(CONNECTION_LOOK_S)
        else:
            return
