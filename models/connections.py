"""Connections to PostgreSQL, and what their errors mean: a lost race for locks, a lost connection, or neither."""

import asyncio
import errno
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"

LOCK_TIMEOUT_MS = 800
"""Below PostgreSQL's deadlock_timeout (1 s): in a deadlock we step back, and the other program goes on."""

CONTENTION = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
)
"""Nothing was written, and the same statement may succeed in a moment: 40P01, 40001, 55P03."""

CONNECTION_LOSS = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,
)
"""What PostgreSQL says when it isn't there or isn't able now: it starts, stops, is full, or fails over.

On an open connection they say nothing by themselves: a trigger of the application's may raise any of them for one row.
"""

SESSION_ENDS = frozenset({"FATAL", "PANIC"})
"""Severities after which PostgreSQL closes the connection; no trigger can raise them."""

PROBE_S = 2.0
"""How long a connection may take to show that it is usable after an error that looks like a lost database."""

_PROBE = "SELECT 1 WHERE NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off'"

_RAISE_ROUTINE = "exec_stmt_raise"
"""What PL/pgSQL's RAISE reports as its routine in PostgreSQL's source (the same in versions 13 to 18)."""

OWN_LIMITS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL})
"""What this machine lacks when it can't even try to connect: PostgreSQL may be well, and the error says so itself."""

STATEMENT_LOST = (asyncpg.DuplicatePreparedStatementError, asyncpg.InvalidSQLStatementNameError)
"""SQLSTATEs 42P05 and 26000: prepared statements don't last, so a transaction pooler is in between."""


class DatabaseLostError(Exception):
    """The connection to PostgreSQL is lost or can't be had, or PostgreSQL isn't able now.

    Raised at the edge of `Database` only, so that no error of a stage, a file or a child is taken for it. Whether the
    last statement was committed isn't known: only a fence decides. The cause is the driver's own error.
    """

    def __init__(self, cause: BaseException) -> None:
        super().__init__(f"PostgreSQL can't be used now: {type(cause).__name__}: {cause}".rstrip(": "))


class ContentionError(Exception):
    """A statement lost a race for locks with another transaction: nothing was written, and it may succeed in a moment.

    Raised at the edge of `Database` only. What a trigger raises with such a SQLSTATE is no contention but a refusal,
    and stays PostgreSQL's error: no lock is waited for.

    Attributes:
        cause: PostgreSQL's error.
    """

    def __init__(self, cause: asyncpg.PostgresError) -> None:
        super().__init__(f"{type(cause).__name__}: {cause}")
        self.cause = cause


DATABASE_ERRORS = (DatabaseLostError, ContentionError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError)
"""All that work on the database may fail with; any other error is a bug of ours."""


class PoolerFoundError(Exception):
    """A connection leads to a pooler that the URL doesn't name: its number of the session isn't the server's."""


POOLER_SIGNS = (PoolerFoundError, asyncpg.ProtocolViolationError, *STATEMENT_LOST)
"""What a connection through an undeclared transaction pooler raises; 08P01 is its refusal of session settings."""


def is_raised(error: BaseException) -> bool:
    """Say whether a RAISE in a function or trigger made an error: with any SQLSTATE, it is no state of PostgreSQL's.

    By the routine that PostgreSQL names; words can't tell, and an application chooses its SQLSTATEs as it likes.
    """
    return getattr(error, "server_source_function", None) == _RAISE_ROUTINE


def is_cancelled(error: BaseException) -> bool:
    """Say whether PostgreSQL cancelled the statement, for its role's time limit or an operator: 57014, not raised."""
    return isinstance(error, asyncpg.QueryCanceledError) and not is_raised(error)


def is_passing(error: BaseException) -> bool:
    """Say whether a look at the database failed for what passes by itself, and is worth a line but no traceback."""
    return isinstance(error, DatabaseLostError | ContentionError | OSError) or is_cancelled(error)


def contention_of(error: BaseException) -> asyncpg.PostgresError | None:
    """Return PostgreSQL's error where a race for locks was lost, also one that was caught inside of a transaction."""
    if isinstance(error, ContentionError):
        return error.cause
    return error if isinstance(error, CONTENTION) and not is_raised(error) else None


@contextmanager
def contention_translated() -> Iterator[None]:
    """Turn a race for locks that was lost into ContentionError.

    Raises:
        ContentionError: another transaction was in the way.
        asyncpg.PostgresError: a trigger raised the SQLSTATE of such a race.
    """
    try:
        yield
    except CONTENTION as error:
        if contention_of(error) is None:
            raise
        raise ContentionError(error) from error


@contextmanager
def losses_translated() -> Iterator[None]:
    """Turn what keeps a connection from being opened into DatabaseLostError.

    Raises:
        DatabaseLostError: the connection can't be had.
        OSError: this machine lacks what a connection needs, such as open files.
    """
    try:
        yield
    except CONNECTION_LOSS as error:
        raise DatabaseLostError(error) from error
    except (OSError, asyncpg.InterfaceError) as error:
        if _means_no_connection(error):
            raise DatabaseLostError(error) from error
        raise


@asynccontextmanager
async def session_losses_translated(connection: Connection) -> AsyncIterator[None]:
    """Turn what the loss of an open connection raises into DatabaseLostError, by the state of that connection.

    A trigger may raise every SQLSTATE, so that none of them says by itself that PostgreSQL is away: the connection is
    lost if it is closed, or if it can't be used for a write any more. Errors of the operating system are the work's
    own, except the driver's time limit for a statement, which is a TimeoutError without a number.

    Args:
        connection: the one that is worked on; in no transaction when the work is over.

    Raises:
        DatabaseLostError: the connection is lost.
        asyncpg.QueryCanceledError: the driver's time limit was over, and the connection is sound.
        asyncio.CancelledError: the task was told to end, and its work failed over it.
    """
    try:
        yield
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        if _is_told_to_end():  # the rollback met a lost connection, and its error took the cancellation's place
            raise asyncio.CancelledError from error
        is_late = isinstance(error, TimeoutError) and error.errno is None
        # the driver is confused by a statement that follows at once on PostgreSQL's last word
        is_suspect = is_late or isinstance(error, (*CONNECTION_LOSS, asyncpg.InternalClientError))
        if await _is_lost(error, connection, is_suspect=is_suspect):
            raise DatabaseLostError(error) from error
        if is_late:
            raise asyncpg.QueryCanceledError("canceled at the driver's time limit for a statement") from error
        raise


def _is_told_to_end() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _means_no_connection(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno not in OWN_LIMITS
    # of the pool, while it closes; those that are ValueErrors too name what is wrong with the URL
    return isinstance(error, asyncpg.InterfaceError) and not isinstance(error, ValueError)


async def _is_lost(error: Exception, connection: Connection, *, is_suspect: bool) -> bool:
    if _is_closed(connection) or getattr(error, "severity_en", None) in SESSION_ENDS:
        return True
    return is_suspect and not is_raised(error) and not await _is_usable(connection)


async def _is_usable(connection: Connection) -> bool:
    """Say whether a connection answers, on a server that takes writes."""
    try:
        async with asyncio.timeout(PROBE_S):
            return await connection.execute(_PROBE) == "SELECT 1"
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
        return False


def _is_closed(connection: Connection) -> bool:
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:  # the pool has taken it back already, because it was closed
        return True


@asynccontextmanager
async def lock_waits(connection: Connection, most_ms: int) -> AsyncIterator[None]:
    """Bound how long statements of a transaction wait for a lock, but not its commit.

    Commits with a message wait for each other in the whole server: where many processes commit, that is no row's fault
    and may well last longer.
    """
    await connection.execute(f"SET LOCAL lock_timeout = {most_ms}")
    yield
    await connection.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
