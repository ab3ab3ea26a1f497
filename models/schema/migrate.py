"""Migration of a database to this release, and checks whether it is migrated (`darkroom db upgrade`, `db check`).

Each function takes the caller's engine or a URL; connections that it opens by a URL are closed before it returns.
An upgrade is one transaction, so that a refused one leaves nothing behind.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from asyncpg import PostgresError
from sqlalchemy import Connection, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool
from tenacity import AsyncRetrying, RetryError, retry_if_exception, stop_after_attempt, wait_random_exponential

from models.applications import registry
from models.applications.recorded import KEY
from models.connections import DatabaseLostError, losses_translated
from models.database_message import database_message
from models.schema.migrations import comments, grants, installation, problems, repeatable, session, tables, triggers
from models.schema.migrations.adoption import require_usable_tables
from models.schema.migrations.applications import settle
from models.schema.migrations.errors import DatabaseBusyError, NotReadyError, RightsMissingError, TableLockedError
from models.schema.migrations.installation import Mode, Recorded
from models.schema.migrations.problems import Problem
from models.schema.migrations.requirements import (
    has_relation,
    require_nothing_in_the_way,
    require_nothing_of_others,
    require_role,
    require_rows_shown,
    require_server,
)
from models.schema.migrations.result import UpgradeResult
from models.schema.migrations.search_path import keep_role_out_of_our_schema
from models.schema.migrations.sequences import set_past_tables
from models.schema.readiness import REVISIONS

Result = TypeVar("Result")

ADVISORY_LOCK: Final = 0x6461726B726F6F6D
"""Key of the advisory lock ('darkroom' in ASCII) that lets one migration at a time run in a database."""

TURN_TIMEOUT_S: Final = 600
"""How long, in seconds, to wait until another migration of the same database has ended."""

LOCK_ATTEMPTS: Final = 6
LOCK_CONFLICTS: Final = frozenset({"55P03", "40P01", "40001"})
"""SQLSTATEs of a lock timeout, a deadlock and a serialization failure, after which the upgrade is tried again."""

UNREACHABLE: Final = frozenset({"57P03", "57P01", "57P02", "53300", "3D000"})
"""SQLSTATEs of a server that is starting, stopping or full, and of a database that doesn't exist yet."""


async def upgrade(
    engine_or_url: AsyncEngine | str,
    *,
    mode: str | None = None,
    prices: Mapping[str, int],
    applications: Sequence[str] | None = None,
    cost_column: str = session.OUR_COST_COLUMN,
    max_retries: int = 3,
    regeneration: Mapping[str, object] | None = None,
    link_pipelines: str | None = None,
    models: Mapping[str, object] | None = None,
    fetch_allow_loopback: bool | None = None,
    fair_terms: Mapping[str, object] | None = None,
    grant_role: str | None = None,
    grant_read_role: str | None = None,
    revoke_role: str | None = None,
    with_application: bool = False,
) -> UpgradeResult:
    """Migrate a database to this release, and record its triggers' settings. Idempotent; several processes may run it.

    An empty database gets both branches. Where another tool made the application's tables, they are checked and only
    our own schema is applied.

    Args:
        engine_or_url: with the rights to create a schema, and triggers on the application's tables.
        mode: the mode of money; None keeps the recorded one, and means managed for tables that we make.
        prices: tokens by tier, for each of the four.
        applications: the entries of DARKROOM_APPLICATION; None keeps the recorded ones, or recognises one.
        cost_column: the name of the cost's column in both job tables.
        max_retries: attempts after the first for jobs whose table has no such column.
        regeneration: the terms of regeneration, as `Settings.regeneration_terms` returns; None keeps the recorded ones.
        link_pipelines: `owner` or `trust`, for inserted jobs. None means trust where another tool made the tables, as
            its application checks share tokens itself, and owner on our own.
        models: the models that may be asked, as `pipelines.providers.terms` returns; None keeps the recorded ones.
        fetch_allow_loopback: whether workers may fetch from loopback addresses; None keeps the recorded value.
        fair_terms: terms of queues and their order to record, as `Settings.fair_terms` returns; others keep theirs.
        grant_role: a role to allow submitting, cancelling and polling by our SQL functions.
        grant_read_role: a role to allow polling.
        revoke_role: a role to take back from what an earlier upgrade allowed it, before anything is granted.
        with_application: make the application's tables even where `public` holds relations of another program.

    Raises:
        ModeRequiredError: another tool made the tables, and a mode is neither given nor recorded.
        ModeChangeError: the mode differs from the recorded one while jobs are queued.
        InvalidSettingError: the mode, a price or the cost column is invalid.
        ApplicationError: an application doesn't fit the database (`models.schema.migrations.applications`).
        UnusableSchemaError: another tool's tables lack what Darkroom needs.
        HiddenRowsError: row-level security hides rows of a table from Darkroom's role.
        UnrelatedRelationsError: `public` holds another program's relations, and no application.
        NewerDatabaseError: a newer Darkroom has migrated this database.
        RoleNotFoundError: the role doesn't exist.
        RoleNotGrantedError: no upgrade granted rights to the role to take them from.
        UnsupportedServerError: PostgreSQL is older than 14.
        DatabaseBusyError: another program held a lock for too long, several times.
    """
    installation.require_valid_settings(mode, prices)

    def run(connection: Connection) -> UpgradeResult:
        result = _upgrade(
            connection,
            mode=mode,
            prices=prices,
            applications=applications,
            cost_column=cost_column,
            grant_role=grant_role,
            grant_read_role=grant_read_role,
            revoke_role=revoke_role,
            with_application=with_application,
            fair_terms=fair_terms or {},
        )
        others: dict[str, object] = {"max_retries": max_retries, "fetch_allow_loopback": fetch_allow_loopback}
        others |= {"regeneration": regeneration, "models": models}
        others |= {"link_pipelines": link_pipelines or ("trust" if result.is_adopted else "owner")}
        installation.record_known(connection, others)
        return result

    return await _in_turn(engine_or_url, run)


async def downgrade(engine_or_url: AsyncEngine | str, branch: str) -> None:
    """Remove one branch: `darkroom`, or `application` with all data in its tables.

    Raises:
        DatabaseBusyError: another program held a lock for too long, several times.
    """
    await _in_turn(engine_or_url, lambda connection: session.downgrade_branch(connection, branch))


async def check(engine_or_url: AsyncEngine | str) -> list[Problem]:
    """Return the differences between a database and what this release makes; empty if there are none.

    A server that can't be reached is returned as a problem, not raised.
    """
    try:
        async with _engine(engine_or_url) as engine, _connected(engine) as connection, connection.begin():
            return await connection.run_sync(lambda sync: list(problems.problems(sync)))
    except (DatabaseLostError, DBAPIError, PostgresError) as error:
        if not _is_unreachable(error):
            raise
        return [Problem("unreachable", f"PostgreSQL {database_message(original_of(error))}")]


async def recorded(engine_or_url: AsyncEngine | str) -> Recorded | None:
    """Return the mode, prices and cost column that the triggers use; None before the first upgrade."""
    async with _engine(engine_or_url) as engine, _connected(engine) as connection:
        return await connection.run_sync(installation.recorded)


async def wait_until_ready(
    engine_or_url: AsyncEngine | str,
    *,
    timeout_s: float | None = None,
    poll_s: float = 1.0,
    on_wait: Callable[[Sequence[Problem]], None] | None = None,
) -> None:
    """Wait until a process may work on this database: until it is migrated, and the server can be reached.

    Args:
        engine_or_url: the database.
        timeout_s: None waits without a limit.
        poll_s: the pause between two looks.
        on_wait: called after each look that found a reason to wait.

    Raises:
        NotReadyError: the time limit is exceeded; the message says what was still wrong.
        RightsMissingError: the role lacks rights, which waiting won't change.
    """
    started = time.monotonic()
    while True:
        waiting_for = [problem for problem in await check(engine_or_url) if problem.is_reason_to_wait]
        if not waiting_for:
            return
        if waiting_for[0].kind == "rights_missing":
            raise RightsMissingError(waiting_for[0].message)
        if timeout_s is not None and time.monotonic() - started + poll_s > timeout_s:
            raise NotReadyError(timeout_s, [problem.message for problem in waiting_for])
        if on_wait is not None:
            on_wait(waiting_for)
        await asyncio.sleep(poll_s)


def _upgrade(
    connection: Connection,
    *,
    mode: str | None,
    prices: Mapping[str, int],
    applications: Sequence[str] | None,
    cost_column: str,
    grant_role: str | None,
    grant_read_role: str | None,
    revoke_role: str | None,
    with_application: bool,
    fair_terms: Mapping[str, object],
) -> UpgradeResult:
    require_server(connection)
    require_role(connection, grant_role)
    require_role(connection, grant_read_role)
    require_rows_shown(connection)  # the upgrade depends on what is recorded, so no row of it may be hidden
    problems.require_known_revisions(connection)
    held = grants.held(connection)
    keep_role_out_of_our_schema(connection)
    stamped = session.stamped_revisions(connection)
    before = installation.recorded(connection)
    application, darkroom = REVISIONS["application"], REVISIONS["darkroom"]
    drained = settle(connection, applications)
    has_pictures = registry.has_pictures()
    is_adopted = not has_pictures or (stamped.isdisjoint(application) and has_relation(connection, "users"))
    now_mode = installation.settled_mode(connection, mode, is_adopted=is_adopted)
    if not is_adopted:
        if stamped.isdisjoint(application):
            require_nothing_in_the_way(connection)
            if not with_application:
                require_nothing_of_others(connection)
        session.upgrade_branch(connection, "application")
    session.prepare(connection)
    if has_pictures:
        require_usable_tables(connection, cost_column, now_mode)
    triggers.lock_tables(connection, cost_column)
    session.upgrade_branch(connection, "darkroom")
    replaced = [*tables.mend(connection), *repeatable.apply(connection, cost_column)]
    replaced += [f"job_queue.{name}" for name in connection.scalars(text("SELECT darkroom.make_queue_triggers()"))]
    connection.execute(text("SELECT darkroom.add_weeks(log, now(), 6) FROM (VALUES ('stage_runs'), ('ticks')) l (log)"))
    require_rows_shown(connection)
    sequences = set_past_tables(connection)
    after = session.stamped_revisions(connection)
    terms: dict[str, object] = {
        "mode": now_mode,
        "prices": dict(prices),
        "cost_column": cost_column,
        "is_adopted": is_adopted,
    }
    terms |= {KEY: drained}
    installation.record_known(connection, terms | dict(fair_terms))
    installation.record_installation(connection)
    connection.execute(text("SELECT darkroom.make_queues(), darkroom.settle_virtual_time()"))
    grants.restore_grants(connection, held)
    still_callable = () if revoke_role is None else grants.revoke(connection, revoke_role)
    grants.grant(connection, grants.PRODUCERS, grant_role)
    grants.grant(connection, grants.READERS, grant_read_role)
    opening_balances = _record_opening_balances(connection, before, now_mode)
    changed = triggers.apply(connection, cost_column)
    if changed:  # by a trigger that stands now, no later change is missed
        opening_balances += _record_opening_balances(connection, before, now_mode)
    dropped = repeatable.drop_obsolete(connection, cost_column)
    comments.apply(connection, cost_column)
    return UpgradeResult(
        is_adopted=is_adopted,
        applied=_between(application, stamped, after) + _between(darkroom, stamped, after),
        mode=now_mode,
        mode_before=None if before is None else before.mode,
        opening_balances=opening_balances,
        sequences=tuple(one.sequence for one in sequences),
        replaced=(*replaced, *changed, *dropped),
        producers=grants.recorded_roles(connection, grants.PRODUCERS),
        readers=grants.recorded_roles(connection, grants.READERS),
        still_callable=still_callable,
    )


def _between(branch: tuple[str, ...], before: frozenset[str], after: frozenset[str]) -> tuple[str, ...]:
    """Return a branch's revisions after the head before the upgrade, up to the head after it."""

    def height(stamped: frozenset[str]) -> int:
        return max((number for number, revision in enumerate(branch, 1) if revision in stamped), default=0)

    return branch[height(before) : height(after)]


def _record_opening_balances(connection: Connection, before: Recorded | None, mode: Mode) -> int:
    # While another program charged, Darkroom didn't see changes of balances, so the opening balances recorded before
    # are wrong
    if before is not None and before.mode != "managed" and mode == "managed":
        connection.execute(text("DELETE FROM darkroom.opening_balances"))
    return connection.scalar(text("SELECT darkroom.record_openings()")) or 0


async def _in_turn(engine_or_url: AsyncEngine | str, run: Callable[[Connection], Result]) -> Result:
    """Run `run` in one transaction, after all other migrations of this database and of this process have ended."""
    retrying = AsyncRetrying(
        retry=retry_if_exception(
            lambda error: _sqlstate(error) in LOCK_CONFLICTS or isinstance(error, TableLockedError)
        ),
        stop=stop_after_attempt(LOCK_ATTEMPTS),
        wait=wait_random_exponential(max=5),
    )

    async def attempt() -> Result:
        async with _connected(engine) as plain:
            # Every statement must see what another migration committed while this one waited
            connection = await plain.execution_options(isolation_level="READ COMMITTED")
            async with connection.begin():
                await connection.execute(text(f"SET LOCAL lock_timeout TO '{TURN_TIMEOUT_S}s'"))
                await connection.execute(text("SET LOCAL statement_timeout TO 0"))
                # The lock belongs to the transaction: behind a transaction pooler, a session's lock would be kept for
                # other clients
                await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
                await connection.run_sync(session.set_timeouts)
                return await connection.run_sync(run)

    async with _alembic_turn(), _engine(engine_or_url) as engine:
        try:
            return await retrying(attempt)
        except RetryError as error:
            raise DatabaseBusyError(LOCK_ATTEMPTS) from error.last_attempt.exception()


_alembic_in_use = threading.Lock()


@asynccontextmanager
async def _alembic_turn() -> AsyncIterator[None]:
    """Hold the lock on alembic during the context.

    Its `op` and `context` are global, so two migrations would mix them up.

    It is a threading lock that is polled, because an asyncio lock belongs to one event loop.
    """
    while not _alembic_in_use.acquire(blocking=False):  # noqa: ASYNC110 - an event would belong to one event loop too
        await asyncio.sleep(0.05)
    try:
        yield
    finally:
        _alembic_in_use.release()


@asynccontextmanager
async def _engine(engine_or_url: AsyncEngine | str) -> AsyncIterator[AsyncEngine]:
    if isinstance(engine_or_url, AsyncEngine):
        yield engine_or_url
        return
    url = make_url(engine_or_url).set(drivername="postgresql+asyncpg")
    engine = create_async_engine(url, poolclass=NullPool)
    try:
        yield engine
    finally:
        await engine.dispose()


@asynccontextmanager
async def _connected(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Yield a connection. Only an error raised while it is opened means that the database can't be reached."""
    with losses_translated():
        connection = await engine.connect()
    try:
        yield connection
    finally:
        await connection.close()


def _is_unreachable(error: Exception) -> bool:
    state = _sqlstate(error) or ""
    is_cut_off = isinstance(error, DBAPIError) and error.connection_invalidated
    return isinstance(error, DatabaseLostError) or is_cut_off or state in UNREACHABLE or state.startswith("08")


def original_of(error: BaseException) -> BaseException:
    """Return the driver's own error, which SQLAlchemy wrapped or from which a DatabaseLostError was raised."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        return error.orig.__cause__ or error.orig
    return error


def _sqlstate(error: BaseException) -> str | None:
    """Return the SQLSTATE of an error of SQLAlchemy's, or of the driver's own, which scripts raise."""
    original = error.orig if isinstance(error, DBAPIError) else error
    return getattr(original, "sqlstate", None)
