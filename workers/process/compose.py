"""The composition root of processes: creates the parts that the settings name. Every process opens the same Runtime.

A part is created here, in `workers.process.runtime`, which needs no migrations, or in `workers.process.tools`, which
makes pictures, and nowhere else. `darkroom doctor` creates the parts one by one, to find out which of them fails.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from dramatiq import Middleware
from dramatiq.broker import Broker
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from config.logger import EventLogger
from config.postgres_url import parse_postgres_url
from config.service_settings import MOST_BESIDE_WORKERS
from models.applications.recorded import use_recorded
from models.connections import DatabaseLostError
from models.database import Database
from models.queue.listening import cannot_listen
from models.schema.migrate import recorded, wait_until_ready
from models.schema.migrations.installation import Recorded
from models.schema.migrations.problems import Problem
from pipelines.settings import Settings
from workers.process import wake_up
from workers.process.receiving import Lanes
from workers.process.repeated_line import RepeatedLine
from workers.process.runtime import ModeMismatchError, Runtime, make_database, make_storage
from workers.services.services import Services

log = EventLogger(__name__)

CONNECTION_LOOK_S = 0.5
"""Seconds between tries of a process that starts to get a connection from PostgreSQL."""


def migration_engine(services: Services) -> AsyncEngine:
    """Return an engine for migrations: without a pooler, and keeping no connection. The caller disposes of it.

    If the URL leads to a transaction pooler, the engine works nevertheless, whether the URL says so or not.
    """
    url, arguments = parse_postgres_url(services.database_direct_url).sqlalchemy_arguments()
    return create_async_engine(url, connect_args=arguments, poolclass=NullPool)


def make_broker(url: str, *, middleware: Sequence[Middleware] = (), lanes: Lanes | None = None) -> Broker:
    """Return the broker of a URL; the caller closes it.

    Args:
        url: of Redis or RabbitMQ.
        middleware: dramatiq's middleware, for a process that receives.
        lanes: tells whether a process that receives has room for a job.
    """
    return wake_up.make_broker(url, middleware=list(middleware), lanes=lanes)


async def require_usable(settings: Settings, services: Services, *, wait: bool) -> Recorded:
    """Check that this process may work on the database; return what `db upgrade` recorded.

    Args:
        settings: the settings, for the mode of money.
        services: where the database is.
        wait: wait for the server and for `darkroom db upgrade`, as workers and schedulers do at their start.

    Raises:
        ModeMismatchError: TOKENS isn't what `db upgrade` recorded.
        ApplicationMismatchError: DARKROOM_APPLICATION isn't.
        RightsMissingError: the role lacks rights; only with `wait`.
        DatabaseLostError, DBAPIError: the server doesn't answer; not raised with `wait`.
    """
    engine, waiting = migration_engine(services), RepeatedLine()

    def on_wait(problems: Sequence[Problem]) -> None:
        if not waiting.is_due():
            return
        first = problems[0]
        if first.kind == "unreachable":
            place = parse_postgres_url(services.database_direct_url).place
            log.warning("connection_awaited", error=first.message.replace("PostgreSQL", f"PostgreSQL at {place}", 1))
        else:
            log.info("migration_awaited", problem=first.message)

    try:
        while True:
            if wait:
                await wait_until_ready(engine, on_wait=on_wait)
            try:
                installed = await recorded(engine)
                break
            except (DatabaseLostError, DBAPIError):  # it became unreachable since the check before
                if not wait:
                    raise
    finally:
        await engine.dispose()
    if installed is None:
        return Recorded(mode="managed", prices={}, cost_column=settings.cost_column)
    use_recorded(installed.applications, settings.application)
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
        settings: the settings.
        services: where everything is.
        wait_for_migration: wait for `darkroom db upgrade` and for connections, as workers and schedulers do.
        installed: what `require_usable` returned; if None, `require_usable` is called here.
        database: opened here, and closed at the end; None makes one with the few connections of a command or a
            scheduler, of which one is kept for LISTEN.

    Raises:
        ModeMismatchError: TOKENS isn't what `db upgrade` recorded.
        RightsMissingError: the role lacks rights.
        ValueError: STORAGE_URL has no backend or its folder can't be created.
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
    """At a start, log if producers' notifications can't arrive; if PostgreSQL is unreachable, log nothing."""
    with contextlib.suppress(DatabaseLostError):
        if await cannot_listen(database):
            log.warning("notify_unheard")


async def _open(database: Database, *, wait: bool) -> None:
    """Open the pool; with `wait`, wait for its first connection, and log that."""
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
