"""The way to PostgreSQL: one pool of asyncpg connections, and what is tried again.

What comes out of `Database` is DatabaseLostError, ContentionError, or what PostgreSQL refuses; nobody else asks an
error which of them it is.
"""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import asyncpg
import structlog
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_random_exponential

from config.failpoints import failpoint
from config.postgres_url import PostgresUrl
from models.connections import (
    CONTENTION,
    LOCK_TIMEOUT_MS,
    POOLER_SIGNS,
    STATEMENT_LOST,
    Connection,
    PoolerFoundError,
    contention_translated,
    is_raised,
    losses_translated,
    session_losses_translated,
)
from models.schema.row_security import REFUSE_FILTERED_ROWS

T = TypeVar("T")

log = structlog.get_logger(__name__)

FIRST_BACKOFF_S = 0.02

RAISED_RETRY_S = 1.0
"""How long a statement is repeated that loses a race by the word of a trigger alone: no lock is waited for."""


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

    async def commit(self, name: str, work: Callable[[Connection], Awaitable[T]], *, retry_for_s: float = 30) -> T:
        """Write: run work that commits once, under the name by which the proof knows this commit.

        `work` must be one statement or one transaction, so that it can be repeated. Without patience it isn't.

        Raises:
            DatabaseLostError: PostgreSQL can't be used now.
            ContentionError: it still loses races for locks after `retry_for_s`.
            asyncpg.PostgresError: PostgreSQL refuses it, or a trigger does, with whatever SQLSTATE.
        """

        async def named() -> T:
            with failpoint(name):
                return await self._run_once(work)

        with contention_translated():
            return await _with_retries(named, retry_for_s)

    async def run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Read: run work on a connection; lost races for locks are tried again, with jitter.

        Raises:
            DatabaseLostError: PostgreSQL can't be used now.
            ContentionError: it still loses after half a minute.
            asyncpg.PostgresError: PostgreSQL refuses it.
        """
        with contention_translated():
            return await _with_retries(lambda: self._run_once(work), 30)

    async def _run_once(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        is_behind_pooler = self._url.behind_pooler
        try:
            return await self._run_on_pool(work)
        except (PoolerFoundError, *STATEMENT_LOST) as sign:
            if is_behind_pooler or is_raised(sign):
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
            ContentionError: the work lost a race for locks.
            asyncpg.PostgresError: PostgreSQL refuses it.
        """
        try:
            with contention_translated():
                return await _run_in_session(connection, work, behind_pooler=self._direct_url.behind_pooler)
        except STATEMENT_LOST as sign:  # the caller's next connection knows
            if is_raised(sign):
                raise
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
    async with session_losses_translated(connection):
        if not behind_pooler:
            return await work(connection)
        # a pooler keeps no session: what is set has to go along
        async with connection.transaction(isolation="read_committed"):
            await connection.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
            return await work(connection)


async def _with_retries(attempt_once: Callable[[], Awaitable[T]], retry_for_s: float) -> T:
    """Try again, with jitter, what lost a race for locks; what a trigger says to be one only for RAISED_RETRY_S."""
    raised_until_s = time.monotonic() + RAISED_RETRY_S

    def may_win(error: BaseException) -> bool:
        return isinstance(error, CONTENTION) and not (is_raised(error) and time.monotonic() > raised_until_s)

    try:
        return await attempt_once()
    except CONTENTION:
        if retry_for_s <= 0:
            raise
        async for attempt in AsyncRetrying(
            retry=retry_if_exception(may_win),
            wait=wait_random_exponential(multiplier=FIRST_BACKOFF_S, max=1),
            stop=stop_after_delay(retry_for_s),
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
