"""The full check of a database before a command works on it, and its migration."""

from collections.abc import Sequence

from asyncpg import PostgresError
from sqlalchemy.exc import DBAPIError

from config.queue_terms import queues_of
from config.settings import SettingsError
from models.connections import DatabaseLostError
from models.periodic.retention import ForbiddenPolicyError
from models.schema.migrate import check, recorded, upgrade
from models.schema.migrations.grants import PRODUCERS, READERS
from models.schema.migrations.result import UpgradeResult
from pipelines.providers.terms import model_terms
from pipelines.settings import Settings
from workers.cli.failures import CommandError, CommandUsageError
from workers.cli.reporting import database_place
from workers.periodic.registry import UnknownScheduleError, periodic_tasks
from workers.periodic.schedule import InvalidScheduleError
from workers.process.compose import migration_engine, require_usable
from workers.services.services import Services

_REPAIRED_BY_UPGRADE = frozenset(
    {
        "not_installed",
        "behind",
        "not_recorded",
        "object_missing",
        "object_differs",
        "trigger_missing",
        "trigger_differs",
        "sequence_behind",
    }
)
_LASTING = frozenset({"rights_missing", "rows_hidden", "rows_refused"})
"""Problems that neither `db upgrade` nor waiting mends."""


def require_known_schedules(settings: Settings) -> None:
    """Check DARKROOM_SCHEDULES and DARKROOM_RETENTION against the periodic tasks, which reading the settings can't.

    Raises:
        SettingsError: a name isn't a task's, a schedule can't be read, or a table's time column isn't named.
    """
    try:
        periodic_tasks(settings)
    except UnknownScheduleError as error:
        raise SettingsError(str(error)) from None
    except InvalidScheduleError as error:
        raise SettingsError(f"DARKROOM_SCHEDULES: {error}") from None
    except ForbiddenPolicyError as error:
        raise SettingsError(f"DARKROOM_RETENTION: {error}") from None


async def require_migrated(settings: Settings, services: Services) -> None:
    """Upgrade an embedded database that this release would change. Any other database is only checked, never migrated.

    Raises:
        CommandError: the database doesn't answer.
        CommandUsageError: a database that isn't embedded isn't migrated.
        MigrationError: the embedded database can't be migrated.
    """
    engine = migration_engine(services)
    try:
        problems = [problem for problem in await check(engine) if problem.kind != "ahead"]
    finally:
        await engine.dispose()
    if services.is_embedded and any(problem.kind in _REPAIRED_BY_UPGRADE for problem in problems):
        await upgrade_database(settings, services)
        return
    for problem in problems:
        if problem.kind == "unreachable":
            message = problem.message.replace("PostgreSQL", database_place(), 1)
            raise CommandError(f"{message}; check DATABASE_URL and the server, or run `darkroom doctor`")
        if problem.kind in {
            "rights_missing",
            "not_installed",
            "behind",
            "not_recorded",
            "sequence_behind",
            "rows_hidden",
            "rows_refused",
        }:
            raise CommandUsageError(problem.message)


async def require_allowed(settings: Settings, services: Services) -> None:
    """Check, before a process starts, that it may work on this database with its configuration.

    Only faults that stay until somebody removes them are checked. If the server doesn't answer, or `db upgrade` hasn't
    migrated the database yet, this check passes, and the process waits after its start.

    Raises:
        CommandUsageError: the role lacks rights, row-level security hides rows from it, or a table can't take the rows
            that Darkroom writes.
        ModeMismatchError: TOKENS isn't what `db upgrade` recorded.
    """
    engine = migration_engine(services)
    try:
        problems = [problem for problem in await check(engine) if problem.kind != "ahead"]
    finally:
        await engine.dispose()
    if lasting := [problem.message for problem in problems if problem.kind in _LASTING]:
        raise CommandUsageError("; ".join(lasting))
    if not problems:
        await require_usable(settings, services, wait=False)


async def require_known_queues(settings: Settings, services: Services, queues: Sequence[str]) -> None:
    """Check that jobs enter each of some queues: a worker of any other would claim nothing, and nobody would notice.

    Queues may be recorded by `db upgrade`, or be named by this environment, whose upgrade is still to come. If the
    server doesn't answer, or wasn't migrated yet, this check passes.

    Raises:
        CommandUsageError: there is a queue among them that no job enters.
    """
    known = await serving_all(settings, services)
    unknown = [name for name in queues if name not in known] if known is not None else []
    if unknown:
        named = " and no queue ".join(unknown)
        raise CommandUsageError(
            f"there is no queue {named}; jobs enter {', '.join(known or ())}, and DARKROOM_STAGE_QUEUES names more"
        )


async def serving_all(settings: Settings, services: Services) -> list[str] | None:
    """Return every queue that jobs enter, as recorded or by this environment; None if the record can't be read."""
    engine = migration_engine(services)
    try:
        known = await recorded(engine)
    except (DatabaseLostError, DBAPIError, PostgresError):
        return None
    finally:
        await engine.dispose()
    if known is None:
        return None
    return list(dict.fromkeys((*queues_of(known.stage_queues), *queues_of(settings.stage_queues or {}))))


def granted_functions(result: UpgradeResult) -> list[tuple[str, Sequence[str]]]:
    """Return the roles that have rights after an upgrade, each with the functions that it may call."""
    return [
        (role, rights.functions)
        for roles, rights in ((result.producers, PRODUCERS), (result.readers, READERS))
        for role in roles
    ]


async def upgrade_database(
    settings: Settings,
    services: Services,
    grant_role: str | None = None,
    grant_read_role: str | None = None,
    revoke_role: str | None = None,
    *,
    with_application: bool = False,
) -> UpgradeResult:
    """Migrate the database to this release, with the settings' mode, prices, cost column, regeneration and models.

    In an embedded database, the application's tables are made even if other relations are there.

    Raises:
        MigrationError: the migration was refused, and the database wasn't changed.
    """
    engine = migration_engine(services)
    try:
        return await upgrade(
            engine,
            mode=settings.tokens,
            prices=settings.prices,
            applications=settings.application,
            cost_column=settings.cost_column,
            max_retries=settings.max_retries,
            regeneration=settings.regeneration_terms(),
            link_pipelines=settings.link_pipelines,
            fetch_allow_loopback=settings.fetch_allow_loopback,
            models=model_terms(settings),
            fair_terms=settings.fair_terms(),
            grant_role=grant_role,
            grant_read_role=grant_read_role,
            revoke_role=revoke_role,
            with_application=with_application or services.is_embedded,
        )
    finally:
        await engine.dispose()
