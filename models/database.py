"""The way to PostgreSQL: one pool of asyncpg connections, and what is tried again."""

import asyncio
import errno
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias, TypeVar

import asyncpg
import structlog
from asyncpg.pool import PoolConnectionProxy
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_random_exponential

from config.failpoints import failpoint
from config.postgres_url import PostgresUrl
from models.row_security import REFUSE_FILTERED_ROWS

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"
T = TypeVar("T")

log = structlog.get_logger(__name__)

LOCK_TIMEOUT_MS = 800
"""Below PostgreSQL's deadlock_timeout (1 s): in a deadlock we step back, and the other program goes on."""

FIRST_BACKOFF_S = 0.02

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


class Database:
    """A pool of connections to the application's database."""

    def __init__(self, url: PostgresUrl, *, direct_url: PostgresUrl | None = None, most_connections: int = 8) -> None:
        """Prepare a pool; nothing is connected yet.

        Args:
            url: where the database is, possibly behind a transaction pooler.
            direct_url: past the pooler, for LISTEN and for sessions that last.
            most_connections: the pool's size.
        """
        self._url = url
        self._direct_url = direct_url or url
        self._is_direct_pooler_declared = self._direct_url.behind_pooler
        self._most_connections = most_connections
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._changing = asyncio.Lock()

    @property
    def is_behind_pooler(self) -> bool:
        """The pool's connections lead through a pooler, as the URL says or as was found."""
        return self._url.behind_pooler

    @property
    def is_direct_behind_pooler(self) -> bool:
        """Connections past the pool lead through a pooler all the same: no NOTIFY is heard on them."""
        return self._direct_url.behind_pooler

    @property
    def is_direct_pooler_declared(self) -> bool:
        """The URL of connections past the pool itself says that it leads through a pooler."""
        return self._is_direct_pooler_declared

    async def open(self) -> None:
        """Connect.

        Raises:
            DatabaseLostError: the database doesn't answer.
            OSError, asyncpg.PostgresError: it refuses, or this machine lacks what a connection needs.
        """
        with losses_translated():
            try:
                self._pool = await self._make_pool()
            except POOLER_SIGNS as sign:
                if self._url.behind_pooler:
                    raise
                await self._go_behind_pooler(sign)

    async def _make_pool(self) -> "asyncpg.Pool[asyncpg.Record]":
        """Make a pool with one connection in it."""
        pool = await asyncpg.create_pool(
            **self._arguments(self._url),
            min_size=0,  # with a floor, asyncpg restores it by itself and logs a traceback for each try
            max_size=self._most_connections,
            init=partial(_prepare, behind_pooler=self._url.behind_pooler),
            reset=_leave_as_is,
            command_timeout=60,
        )
        try:
            await pool.release(await pool.acquire())
        except BaseException:
            pool.terminate()
            raise
        return pool

    async def _go_behind_pooler(self, sign: Exception) -> None:
        """Go on without prepared statements and session settings; what runs on the old pool meanwhile is repeated."""
        async with self._changing:
            if self._url.behind_pooler:
                return
            log.info("pooler_found", sign=f"{type(sign).__name__}: {sign}")
            self._url = replace(self._url, behind_pooler=True)
            old, self._pool = self._pool, await self._make_pool()
            if old is not None:
                old.terminate()

    async def close(self) -> None:
        """Close every connection, at once if they don't end within seconds."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            pool.terminate()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection, in no transaction; each statement on it commits by itself.

        Raises:
            DatabaseLostError: none can be had.
            OSError: this machine lacks what another connection needs, such as open files.
        """
        pool = self._pool
        if pool is None:
            raise RuntimeError("the database isn't open")
        with losses_translated():
            connection = await pool.acquire()
        try:
            yield connection
        finally:
            await pool.release(connection)

    async def commit(self, name: str, work: Callable[[Connection], Awaitable[T]], *, patience_s: float = 30) -> T:
        """Write: run work that commits once, under the name by which the proof knows this commit.

        `work` must be one statement or one transaction, so that it can be repeated.

        Raises:
            asyncpg.PostgresError: it still loses after `patience_s`, or failed for another reason.
        """

        async def named() -> T:
            with failpoint(name):
                return await self._run_once(work)

        return await _patiently(named, patience_s)

    async def run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Read: run work on a connection; lost races for locks are tried again, with jitter.

        Raises:
            asyncpg.PostgresError: it still loses after half a minute, or failed for another reason.
        """
        return await _patiently(lambda: self._run_once(work), 30)

    async def _run_once(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        is_behind_pooler = self._url.behind_pooler
        try:
            return await self._run_on_pool(work)
        except (PoolerFoundError, *STATEMENT_LOST) as sign:
            if is_behind_pooler:
                raise
            await self._go_behind_pooler(sign)
        return await self._run_on_pool(work)

    async def _run_on_pool(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        async with self.connection() as connection:
            return await _run_in_session(connection, work, behind_pooler=self._url.behind_pooler)

    async def run_direct(
        self, connection: "asyncpg.Connection[asyncpg.Record]", work: Callable[[Connection], Awaitable[T]]
    ) -> T:
        """Run work once on a connection of `connect_direct`, in a transaction where a pooler keeps no session.

        Raises:
            DatabaseLostError: the connection is lost.
            asyncpg.PostgresError: the work failed.
        """
        try:
            return await _run_in_session(connection, work, behind_pooler=self._direct_url.behind_pooler)
        except STATEMENT_LOST:  # the caller's next connection knows
            self._direct_url = replace(self._direct_url, behind_pooler=True)
            raise

    async def fetch(self, sql: str, *values: object) -> list[asyncpg.Record]:
        """Read by one statement, with `run`'s patience."""
        return await self.run(lambda connection: connection.fetch(sql, *values))

    async def fetchrow(self, sql: str, *values: object) -> asyncpg.Record | None:
        """Read by one statement and return its first row, if any."""
        return await self.run(lambda connection: connection.fetchrow(sql, *values))

    async def fetchval(self, sql: str, *values: object) -> Any:
        """Read by one statement and return its first value."""
        return await self.run(lambda connection: connection.fetchval(sql, *values))

    def _arguments(self, url: PostgresUrl) -> dict[str, Any]:
        arguments = url.asyncpg_arguments()
        if not url.behind_pooler:  # a pooler refuses session settings at the start
            arguments["server_settings"] = {
                "application_name": "darkroom",
                "lock_timeout": str(LOCK_TIMEOUT_MS),
                # whatever the database's default: our own reads would make serializable producers fail
                "default_transaction_isolation": "read committed",
                **arguments.get("server_settings", {}),
            }
        return arguments

    async def connect_direct(self) -> "asyncpg.Connection[asyncpg.Record]":
        """Open a connection of its own, past the pool; the caller closes it, and works on it by `run_direct`.

        Raises:
            DatabaseLostError: the database doesn't answer, or has no connection left.
            OSError, asyncpg.PostgresError: it refuses, or this machine lacks what a connection needs.
        """
        with losses_translated():
            try:
                return await self._connect_direct()
            except POOLER_SIGNS as sign:
                if self._direct_url.behind_pooler:
                    raise
                log.info("pooler_found", sign=f"{type(sign).__name__}: {sign}")
                self._direct_url = replace(self._direct_url, behind_pooler=True)
                return await self._connect_direct()

    async def _connect_direct(self) -> "asyncpg.Connection[asyncpg.Record]":
        connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(
            **self._arguments(self._direct_url), command_timeout=10
        )
        try:
            await _prepare(connection, behind_pooler=self._direct_url.behind_pooler)
        except BaseException:
            connection.terminate()
            raise
        return connection


async def _run_in_session(
    connection: Connection, work: Callable[[Connection], Awaitable[T]], *, behind_pooler: bool
) -> T:
    with losses_translated(connection):
        if not behind_pooler:
            return await work(connection)
        # a pooler keeps no session: what is set has to go along
        async with connection.transaction(isolation="read_committed"):
            await connection.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
            return await work(connection)


async def _patiently(attempt_once: Callable[[], Awaitable[T]], patience_s: float) -> T:
    """Try again, with jitter, what lost a race for locks."""
    try:
        return await attempt_once()
    except CONTENTION:
        async for attempt in AsyncRetrying(
            retry=retry_if_exception(is_contention),
            wait=wait_random_exponential(multiplier=FIRST_BACKOFF_S, max=1),
            stop=stop_after_delay(patience_s),
            reraise=True,
        ):
            with attempt:
                await asyncio.sleep(random.uniform(0, FIRST_BACKOFF_S))  # noqa: S311 - jitter, not a secret
                return await attempt_once()
    raise AssertionError("unreachable: tenacity returns or raises")


async def _prepare(connection: Connection, *, behind_pooler: bool) -> None:
    """Make a new connection ours.

    Raises:
        PoolerFoundError: a pooler is in between, and the URL doesn't say so.
    """
    if behind_pooler:
        async with connection.transaction():  # the two trips of a statement must reach the same session
            await prepare_connection(connection)
        return
    # without parameters nothing is prepared; a pooler makes up the numbers by which its clients cancel
    if await connection.execute(f"SELECT 1 WHERE pg_backend_pid() = {connection.get_server_pid()}") != "SELECT 1":
        raise PoolerFoundError("the session's number isn't the server's")
    await prepare_connection(connection)
    await connection.execute(REFUSE_FILTERED_ROWS)


async def prepare_connection(connection: Connection) -> None:
    """Give a connection JSON as Python values."""
    for name in ("json", "jsonb"):
        await connection.set_type_codec(name, encoder=json.dumps, decoder=_read_json, schema="pg_catalog")


def _read_json(text: str) -> Any:
    """Read JSON; what PostgreSQL takes and Python can't read (nested too deep, a number too long) comes as its text."""
    try:
        return json.loads(text)
    except (RecursionError, ValueError):
        return text


async def _leave_as_is(_connection: Connection) -> None:
    """Reset nothing when a connection goes back to the pool.

    We set nothing on it, and the trip would cost as much as a statement of ours.
    """
