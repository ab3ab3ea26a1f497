"""What a command opens before it works: settings, services, the database, the runtime.

Modules that are slow to import are imported only when a command calls one of their functions.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import asyncpg

from config.log import configure_logging, log_uncaught
from config.service_settings import MOST_BESIDE_WORKERS
from models.applications.recorded import use_recorded
from models.applications.registry import applications, has_pictures
from models.database import Database
from models.schema.readiness import Installed, quick_look, read_recorded
from pipelines.settings import Settings, load_settings
from pipelines.storage.backends import checked_opener
from workers.cli.failures import CommandUsageError
from workers.cli.lazy import later
from workers.cli.leaving import cancels
from workers.process.runtime import ModeMismatchError, Runtime, make_database
from workers.services.services import Services, embedded_services

T = TypeVar("T")

require_known_stages = later("pipelines.job_types:require_known_stages")
require_known_schedules = later("workers.cli.migrating:require_known_schedules")
require_migrated = later("workers.cli.migrating:require_migrated")


def known_settings() -> Settings:
    """Return the settings of the environment, with the names of stages and of periodic tasks checked.

    Raises:
        SettingsError: a variable is unknown, malformed or missing.
    """
    settings = load_settings()
    if settings.stage_deadlines or settings.stage_queues:
        require_known_stages(settings)
    if settings.model_fields_set & {"schedules", "retention"}:
        require_known_schedules(settings)
    return settings


def open_settings(*, is_service: bool) -> Settings:
    """Return the settings of the environment, and set up logging.

    A command that runs processes logs all events; other commands log only errors.

    Raises:
        SettingsError: a variable is unknown, malformed or missing.
    """
    settings = known_settings()
    level = settings.log_level if is_service or "log_level" in settings.model_fields_set else "warning"
    configure_logging(settings.model_copy(update={"log_level": level}))
    if is_service:
        log_uncaught()
    return settings


def run_with_runtime(
    work: Callable[[Runtime], Awaitable[int]], *, submits: bool = False, for_pictures: bool = False
) -> int:
    """Open everything, run a command's work, close everything; return the work's exit code.

    Args:
        work: the command's work.
        submits: whether the command submits jobs. Then everything that jobs need is checked; for other commands it is
            only checked whether the database is migrated, which takes a tenth of the time.
        for_pictures: whether it is about rows that only the application `pictures` has.

    Raises:
        CommandError: the database isn't migrated or doesn't answer.
        CommandUsageError: the command is about `pictures`, and only other applications are drained.
    """
    settings = open_settings(is_service=False)
    with embedded_services(settings) as services:
        return run_async(_run(settings, services, work, submits=submits, for_pictures=for_pictures))


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine as asyncio.run does, except that a signal cancels it even where SIGINT is ignored.

    Cancelling lets the coroutine clean up; a KeyboardInterrupt, raised wherever the event loop is at that moment,
    wouldn't.

    Raises:
        KeyboardInterrupt: a signal cancelled it.
    """

    async def cancellable() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def cancel() -> bool:
            if task is None or task.cancelling():
                return False
            task.cancel()
            loop.call_soon_threadsafe(lambda: None)  # wakes the event loop if it waits
            return True

        cancels.append(cancel)
        try:
            return await work
        finally:
            cancels.remove(cancel)

    try:
        return asyncio.run(cancellable())
    except asyncio.CancelledError as error:
        raise KeyboardInterrupt from error


async def _run(
    settings: Settings,
    services: Services,
    work: Callable[[Runtime], Awaitable[int]],
    *,
    submits: bool,
    for_pictures: bool,
) -> int:
    require_storage(settings, services)
    if submits:
        await require_migrated(settings, services)
    most = min(settings.connections, MOST_BESIDE_WORKERS)  # one of these is kept for LISTEN
    database = make_database(settings, services, most_connections=most - 1)
    await database.open()
    try:
        installed = await _installed(settings, services, database)
        if for_pictures:
            _require_pictures()
    except BaseException:
        await database.close()
        raise
    runtime = Runtime(settings, services, database, installed.installation)
    try:
        return await work(runtime)
    except asyncpg.InsufficientPrivilegeError:
        await require_migrated(settings, services)  # its message names the missing rights
        raise
    finally:
        await runtime.aclose()


def _require_pictures() -> None:
    if not has_pictures():
        drained = ", ".join(one.name for one in applications())
        raise CommandUsageError(f"this command is about the application pictures, and this database is for {drained}")


async def _installed(settings: Settings, services: Services, database: Database) -> Installed:
    """Return what `db upgrade` recorded; check that the database is migrated, and in the mode that TOKENS names.

    Raises:
        CommandError: it isn't migrated.
        ModeMismatchError: TOKENS isn't what `db upgrade` recorded.
        ApplicationMismatchError: DARKROOM_APPLICATION isn't.
    """
    try:
        installed = await database.run(quick_look)
    except asyncpg.PostgresError:  # no such schema, or no right to read it
        installed = None
    if installed is None:
        await require_migrated(settings, services)
        installed = await database.run(read_recorded)
    use_recorded(installed.applications, settings.application)
    if settings.tokens is not None and installed.mode != settings.tokens:
        raise ModeMismatchError(settings.tokens, installed.mode)
    return installed


def require_storage(settings: Settings, services: Services) -> None:
    """Check that STORAGE_URL names a storage.

    Raises:
        CommandUsageError: it doesn't.
    """
    try:
        checked_opener(services.storage_url, settings.storage_public_url)
    except ValueError as error:
        raise CommandUsageError(str(error)) from error
