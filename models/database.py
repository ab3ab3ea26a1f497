"""The way to PostgreSQL: one pool of asyncpg connections, and what is tried again."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeAlias, TypeVar

import asyncpg
from asyncpg.pool import PoolConnectionProxy
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_random_exponential

from config.failpoints import failpoint
from config.postgres_url import PostgresUrl

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"
T = TypeVar("T")

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
    OSError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InsufficientResourcesError,
    asyncpg.QueryCanceledError,
    asyncpg.ReadOnlySQLTransactionError,
    TimeoutError,
)
"""PostgreSQL isn't there, or isn't able now (full, a statement timeout, a failover): whether the last statement was
committed isn't known, so only a fence decides."""


def is_contention(error: BaseException) -> bool:
    """Say whether a statement lost a race for locks and may be tried again at once."""
    return isinstance(error, CONTENTION)


def is_connection_loss(error: BaseException) -> bool:
    """Say whether an error means that PostgreSQL went away or never answered."""
    return isinstance(error, CONNECTION_LOSS)


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
        self._most_connections = most_connections
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None

    async def open(self) -> None:
        """Connect.

        Raises:
            OSError, asyncpg.PostgresError: the database doesn't answer or refuses.
        """
        try:
            self._pool = await self._make_pool()
        except asyncpg.ProtocolViolationError:  # a pooler that doesn't say so refuses session settings at the start
            self._url = replace(self._url, behind_pooler=True)
            self._pool = await self._make_pool()

    async def _make_pool(self) -> "asyncpg.Pool[asyncpg.Record]":
        return await asyncpg.create_pool(
            **self._arguments(self._url),
            min_size=1,
            max_size=self._most_connections,
            init=prepare_connection,
            reset=_leave_as_is,
            command_timeout=60,
        )

    async def close(self) -> None:
        """Close every connection, at once if they don't end within seconds."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            pool.terminate()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection, in no transaction; each statement on it commits by itself."""
        if self._pool is None:
            raise RuntimeError("the database isn't open")
        async with self._pool.acquire() as connection:
            yield connection

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
        async with self.connection() as connection:
            if not self._url.behind_pooler:
                return await work(connection)
            # a pooler keeps no session: what is set has to go along
            async with connection.transaction(isolation="read_committed"):
                await connection.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
                return await work(connection)

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
        """Open a connection of its own, past the pool; the caller closes it."""
        connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(
            **self._arguments(self._direct_url), command_timeout=10
        )
        await prepare_connection(connection)
        return connection


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


async def prepare_connection(connection: Connection) -> None:
    """Make a new connection ours: JSON as Python values."""
    for name in ("json", "jsonb"):
        await connection.set_type_codec(name, encoder=json.dumps, decoder=json.loads, schema="pg_catalog")


async def _leave_as_is(_connection: Connection) -> None:
    """Reset nothing when a connection goes back to the pool.

    We set nothing on it, and the trip would cost as much as a statement of ours.
    """
