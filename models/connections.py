"""Connections to PostgreSQL and the meaning of their errors: contention for locks, a lost connection, or a refusal."""

import asyncio
import errno
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"

LOCK_TIMEOUT_MS = 800
"""Shorter than PostgreSQL's deadlock_timeout (1 s): in a deadlock our statement fails first, and the other succeeds."""

CONTENTION = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
)
"""Errors after which nothing was written and the same statement may succeed in a moment: 40P01, 40001, 55P03."""

CONNECTION_LOSS = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,
)
"""Errors of a PostgreSQL that can't serve now: it is starting, stopping, full, or failing over.

On an open connection they prove nothing by themselves: a trigger of the application may raise any of them for one row.
"""

SESSION_ENDS = frozenset({"FATAL", "PANIC"})
"""Severities after which PostgreSQL closes the connection; no trigger can raise them."""

PROBE_S = 2.0
"""How long a connection may take to show that it is usable after an error that looks like a lost database."""

_PROBE = "SELECT 1 WHERE NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off'"

_RAISE_ROUTINE = "exec_stmt_raise"
"""What PL/pgSQL's RAISE reports as its routine in PostgreSQL's source (the same in versions 13 to 18)."""

OWN_LIMITS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL})
"""Error numbers that mean that this machine lacks something to open a connection, so PostgreSQL may be available."""

STATEMENT_LOST = (asyncpg.DuplicatePreparedStatementError, asyncpg.InvalidSQLStatementNameError)
"""Errors 42P05 and 26000: prepared statements don't last, so there is a transaction pooler in between."""


class DatabaseLostError(Exception):
    """Raised when the connection to PostgreSQL is lost or can't be opened, or PostgreSQL can't serve now.

    Only `Database` raises it, so it is never confused with an error of a stage, a file or a child process. Whether
    the last statement was committed is unknown; only a fence can tell. The cause is the driver's own error.
    """

    def __init__(self, cause: BaseException) -> None:
        super().__init__(f"PostgreSQL can't be used now: {type(cause).__name__}: {cause}".rstrip(": "))


class ContentionError(Exception):
    """Raised when another transaction held a lock: nothing was written, and the statement may succeed in a moment.

    Only `Database` raises it. If a trigger raises such a SQLSTATE itself, no lock is waited for; that is a refusal and
    stays PostgreSQL's own error.

    Attributes:
        cause: PostgreSQL's error.
    """

    def __init__(self, cause: asyncpg.PostgresError) -> None:
        super().__init__(f"{type(cause).__name__}: {cause}")
        self.cause = cause


DATABASE_ERRORS = (DatabaseLostError, ContentionError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError)
"""Every error that work on the database is expected to raise; any other error is a bug of Darkroom's."""


class PoolerFoundError(Exception):
    """Raised when a connection leads to a pooler that the URL doesn't name.

    It is detected by the process id that the connection was given, which differs from the server process's own.
    """


POOLER_SIGNS = (PoolerFoundError, asyncpg.ProtocolViolationError, *STATEMENT_LOST)
"""Errors of a connection through an undeclared transaction pooler; 08P01 is its refusal of session settings."""


def is_raised(error: BaseException) -> bool:
    """Return whether RAISE in a function or trigger caused an error, so that its SQLSTATE doesn't describe PostgreSQL.

    This is decided by the routine that PostgreSQL names; texts and SQLSTATEs are chosen by the application.
    """
    return getattr(error, "server_source_function", None) == _RAISE_ROUTINE


def is_cancelled(error: BaseException) -> bool:
    """Return whether PostgreSQL cancelled the statement, at a time limit or for an operator (SQLSTATE 57014)."""
    return isinstance(error, asyncpg.QueryCanceledError) and not is_raised(error)


def is_passing(error: BaseException) -> bool:
    """Return whether the database couldn't be read for a temporary reason.

    Callers log such an error without a traceback.
    """
    return isinstance(error, DatabaseLostError | ContentionError | OSError) or is_cancelled(error)


def contention_of(error: BaseException) -> asyncpg.PostgresError | None:
    """Return PostgreSQL's error if it says that another transaction holds a lock, or is the cause of a ContentionError.

    The result is None for any other error, also for one with such a SQLSTATE that a trigger raised.
    """
    if isinstance(error, ContentionError):
        return error.cause
    return error if isinstance(error, CONTENTION) and not is_raised(error) else None


@contextmanager
def contention_translated() -> Iterator[None]:
    """Turn errors of contention for locks into ContentionError.

    Raises:
        ContentionError: another transaction held a lock.
        asyncpg.PostgresError: a trigger raised the SQLSTATE of such an error.
    """
    try:
        yield
    except CONTENTION as error:
        if contention_of(error) is None:
            raise
        raise ContentionError(error) from error


@contextmanager
def losses_translated() -> Iterator[None]:
    """Turn errors of opening a connection into DatabaseLostError.

    Raises:
        DatabaseLostError: the connection can't be opened.
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
    """Turn errors of a lost connection into DatabaseLostError, after a check of the connection's state.

    A trigger may raise any SQLSTATE, so no SQLSTATE proves that PostgreSQL is gone: the connection counts as lost if it
    is closed, or if it can't be used for a write any more. Errors of the operating system come from the work itself,
    except the driver's time limit for a statement, which is a TimeoutError without an errno.

    Args:
        connection: the connection that the work uses; it must be in no transaction when the work is over.

    Raises:
        DatabaseLostError: the connection is lost.
        asyncpg.QueryCanceledError: the driver's time limit was exceeded, and the connection is usable.
        asyncio.CancelledError: the task was cancelled, and its work failed because of that.
    """
    try:
        yield
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        if _is_told_to_end():  # the rollback failed on a lost connection, and its error replaced the cancellation
            raise asyncio.CancelledError from error
        is_late = isinstance(error, TimeoutError) and error.errno is None
        # If a statement follows immediately on such an error, the driver may assign answers to the wrong statement.
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
    # The pool raises InterfaceError while it closes. One that is also a ValueError means that the URL is wrong.
    return isinstance(error, asyncpg.InterfaceError) and not isinstance(error, ValueError)


async def _is_lost(error: Exception, connection: Connection, *, is_suspect: bool) -> bool:
    if _is_closed(connection) or getattr(error, "severity_en", None) in SESSION_ENDS:
        return True
    return is_suspect and not is_raised(error) and not await _is_usable(connection)


async def _is_usable(connection: Connection) -> bool:
    """Return whether a connection answers, and its server accepts writes."""
    try:
        async with asyncio.timeout(PROBE_S):
            return await connection.execute(_PROBE) == "SELECT 1"
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
        return False


def _is_closed(connection: Connection) -> bool:
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:  # the pool has taken the connection back already, because it was closed
        return True


@asynccontextmanager
async def lock_waits(connection: Connection, most_ms: int) -> AsyncIterator[None]:
    """Limit how long each statement of a transaction waits for a lock. The commit has no such limit.

    Commits with a notification wait for each other in the whole server. If many processes commit, that wait may be
    longer than the limit, although no row is locked.
    """
    await connection.execute(f"SET LOCAL lock_timeout = {most_ms}")
    yield
    await connection.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
