"""Connections to PostgreSQL, and what their errors mean: a lost race for locks, a lost connection, or neither."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"

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
"""What PostgreSQL says when it isn't there or isn't able now: it starts, stops, is full, or fails over."""

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


class PoolerFoundError(Exception):
    """A connection leads to a pooler that the URL doesn't name: its number of the session isn't the server's."""


POOLER_SIGNS = (PoolerFoundError, asyncpg.ProtocolViolationError, *STATEMENT_LOST)
"""What a connection through an undeclared transaction pooler raises; 08P01 is its refusal of session settings."""


def is_contention(error: BaseException) -> bool:
    """Say whether a statement lost a race for locks and may be tried again at once."""
    return isinstance(error, CONTENTION)


def is_connection_loss(error: BaseException) -> bool:
    """Say whether an error means that PostgreSQL went away or never answered, as `Database` has found."""
    return isinstance(error, DatabaseLostError)


def is_cancelled(error: BaseException) -> bool:
    """Say whether PostgreSQL cancelled the statement, for its role's time limit or an operator: 57014."""
    return isinstance(error, asyncpg.QueryCanceledError)


def is_passing(error: BaseException) -> bool:
    """Say whether a look at the database failed for what passes by itself, and is worth a line but no traceback."""
    return is_connection_loss(error) or is_contention(error) or is_cancelled(error) or isinstance(error, OSError)


@contextmanager
def losses_translated(connection: "Connection | None" = None) -> Iterator[None]:
    """Turn what a lost connection raises into DatabaseLostError.

    Args:
        connection: the one that is worked on; None while it is being opened, when every error of the operating system
            means that it can't be had. On an open one an error of the system's is the work's own, except that the
            driver's time limit for a statement is a TimeoutError without a number.

    Raises:
        DatabaseLostError: the connection is lost or can't be had.
        OSError: this machine lacks what a connection needs, such as open files.
    """
    try:
        yield
    except CONNECTION_LOSS as error:
        raise DatabaseLostError(error) from error
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        if _means_loss(error, connection):
            raise DatabaseLostError(error) from error
        raise


def _means_loss(error: Exception, connection: "Connection | None") -> bool:
    if isinstance(error, TimeoutError) and error.errno is None:
        return True
    if connection is not None:
        return _is_closed(connection)
    if isinstance(error, OSError):
        return error.errno not in OWN_LIMITS
    # of the pool, while it closes; those that are ValueErrors too name what is wrong with the URL
    return isinstance(error, asyncpg.InterfaceError) and not isinstance(error, ValueError)


def _is_closed(connection: Connection) -> bool:
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:  # the pool has taken it back already, because it was closed
        return True
