"""Access to PostgreSQL: one pool of asyncpg connections, and the retry of statements that met another's lock.

`Database` raises only DatabaseLostError, ContentionError, or PostgreSQL's own error of a refusal. No other module
decides which of these three an error is.
"""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar

import asyncpg
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_random_exponential

from config.failpoints import failpoint
from config.json_text import json_text
from config.logger import EventLogger
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

log = EventLogger(__name__)

FIRST_BACKOFF_S = 0.02

KEPT_PLAN_SETTINGS: Final = {"enable_seqscan": "off", "enable_bitmapscan": "off", "jit": "off"}
"""Settings of sessions that keep the plans of their statements.

A plan that was made while a table was empty would read it as a whole for as long as it is kept, and PostgreSQL keeps it
until the table is analyzed: with 50,000 jobs in the queue, a claim took 700 ms instead of 3. Without sequential scans
rows are found by index, whenever the plan is made; and without bitmap scans, in the order of the index, so that the
first jobs of a queue are found without sorting it. (Where a table can only be read as a whole, PostgreSQL before
version 18 expects an enormous cost, and would compile the plan.)
"""

READ_ONLY_SETTINGS: Final = {"transaction_read_only": "on", "statement_timeout": "2000"}
"""Settings of sessions that only read, for people who wait: a statement ends after 2,000 ms."""

RAISED_RETRY_S = 1.0
"""How long, in seconds, a statement is repeated if only a trigger reports a lock: then the lock isn't a real one."""


class Database:
    """A pool of connections to the application's database."""

    def __init__(
        self,
        url: PostgresUrl,
        *,
        direct_url: PostgresUrl | None = None,
        most_connections: int = 8,
        keeps_plans: bool = False,
        is_read_only: bool = False,
    ) -> None:
        """Prepare a pool. No connection is opened yet.

        Args:
            url: where the database is, possibly behind a transaction pooler.
            direct_url: the same database without a pooler, for LISTEN and for sessions that last.
            most_connections: the size of the pool.
            keeps_plans: whether all statements find their rows by index, as those of workers do, so that plans may be
                kept however full the tables become.
            is_read_only: whether statements only read, and end after two seconds.
        """
        self._url = url
        self._settings = {"lock_timeout": str(LOCK_TIMEOUT_MS)} | (KEPT_PLAN_SETTINGS if keeps_plans else {})
        self._settings |= READ_ONLY_SETTINGS if is_read_only else {}
        self._direct_url = direct_url or url
        self._is_direct_pooler_declared = self._direct_url.behind_pooler
        self._most_connections = most_connections
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._changing = asyncio.Lock()
        self.turns_to_wait = asyncio.Semaphore(max(1, most_connections // 2))
        """Taken by writes that wait for others' locks, so that half of the connections never wait for them."""

    @property
    def is_behind_pooler(self) -> bool:
        """Whether the pool's connections go through a pooler, as the URL says or as was detected."""
        return self._url.behind_pooler

    @property
    def is_direct_behind_pooler(self) -> bool:
        """Whether even connections outside the pool go through a pooler, so that no NOTIFY arrives on them."""
        return self._direct_url.behind_pooler

    @property
    def is_direct_pooler_declared(self) -> bool:
        """Whether the URL for connections outside the pool says that it leads to a pooler."""
        return self._is_direct_pooler_declared

    async def open(self) -> None:
        """Open the pool.

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
        """Make a pool that has opened one connection."""
        pool = await asyncpg.create_pool(
            **self._arguments(self._url),
            # with a minimum, asyncpg reopens connections by itself and logs a traceback for each failed try
            min_size=0,
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
        """Stop using prepared statements and session settings, and replace the pool.

        Work on the old pool is repeated.
        """
        async with self._changing:
            if self._url.behind_pooler:
                return
            log.info("pooler_found", sign=f"{type(sign).__name__}: {sign}")
            self._url = replace(self._url, behind_pooler=True)
            old, self._pool = self._pool, await self._make_pool()
            if old is not None:
                old.terminate()

    async def close(self) -> None:
        """Close every connection; after a few seconds they are closed by force."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            pool.terminate()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Yield a connection that is in no transaction, so that each statement on it commits by itself.

        Raises:
            DatabaseLostError: no connection could be opened.
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
        """Run work that writes and commits once.

        `name` is the failpoint of this commit, at which the crash tests end a process.

        `work` must be one statement or one transaction, so that it can be repeated. With `retry_for_s` 0 it isn't
        repeated.

        Raises:
            DatabaseLostError: PostgreSQL can't be used now.
            ContentionError: another transaction still held a lock after `retry_for_s`.
            asyncpg.PostgresError: PostgreSQL, or a trigger, refused it.
        """

        async def named() -> T:
            with failpoint(name):
                return await self._run_once(work)

        with contention_translated():
            return await _with_retries(named, retry_for_s)

    async def run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run work that reads, on a connection of the pool.

        If another transaction's lock stops it, repeat it after a random pause.

        Raises:
            DatabaseLostError: PostgreSQL can't be used now.
            ContentionError: another transaction still held a lock after half a minute.
            asyncpg.PostgresError: PostgreSQL refused it.
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
            return await self._run_in_session(connection, work, behind_pooler=self._url.behind_pooler)

    async def run_direct(
        self, connection: "asyncpg.Connection[asyncpg.Record]", work: Callable[[Connection], Awaitable[T]]
    ) -> T:
        """Run work once on a connection of `connect_direct`, in a transaction if a pooler is in between.

        Raises:
            DatabaseLostError: the connection is lost.
            ContentionError: another transaction held a lock.
            asyncpg.PostgresError: PostgreSQL refused it.
        """
        try:
            with contention_translated():
                return await self._run_in_session(connection, work, behind_pooler=self._direct_url.behind_pooler)
        except STATEMENT_LOST as sign:  # the next connection that the caller opens will avoid prepared statements
            if is_raised(sign):
                raise
            self._direct_url = replace(self._direct_url, behind_pooler=True)
            raise

    async def _run_in_session(
        self, connection: Connection, work: Callable[[Connection], Awaitable[T]], *, behind_pooler: bool
    ) -> T:
        async with session_losses_translated(connection):
            if not behind_pooler:
                return await work(connection)
            # A pooler keeps no session, so the settings have to be made again in each transaction.
            async with connection.transaction(isolation="read_committed"):
                await connection.execute("; ".join(f"SET LOCAL {name} = {it}" for name, it in self._settings.items()))
                return await work(connection)

    async def fetch(self, sql: str, *values: object) -> list[asyncpg.Record]:
        """Run one statement that reads, with the retries of `run`; return its rows."""
        return await self.run(lambda connection: connection.fetch(sql, *values))

    async def fetchrow(self, sql: str, *values: object) -> asyncpg.Record | None:
        """Run one statement that reads; return its first row, or None."""
        return await self.run(lambda connection: connection.fetchrow(sql, *values))

    async def fetchval(self, sql: str, *values: object) -> Any:
        """Run one statement that reads; return the first value of its first row, or None."""
        return await self.run(lambda connection: connection.fetchval(sql, *values))

    def _arguments(self, url: PostgresUrl) -> dict[str, Any]:
        arguments = url.asyncpg_arguments()
        if not url.behind_pooler:  # a pooler refuses settings when a session starts
            arguments["server_settings"] = {
                "application_name": "darkroom",
                # what holds for a transaction behind a pooler is the default of a session's transactions
                **{
                    name.replace("transaction_read", "default_transaction_read"): it
                    for name, it in self._settings.items()
                },
                # This holds whatever the database's default is: in serializable mode our reads would make serializable
                # producers fail.
                "default_transaction_isolation": "read committed",
                **arguments.get("server_settings", {}),
            }
        return arguments

    async def connect_direct(self) -> "asyncpg.Connection[asyncpg.Record]":
        """Open a connection outside the pool, and without a pooler. The caller closes it, and uses it by `run_direct`.

        Raises:
            DatabaseLostError: the database doesn't answer, or has no free connection.
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


async def _with_retries(attempt_once: Callable[[], Awaitable[T]], retry_for_s: float) -> T:
    """Try work until no lock of another transaction stops it, with random pauses; raise the error after `retry_for_s`.

    If only a trigger reports the lock, raise it after RAISED_RETRY_S.
    """
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
    """Configure a new connection.

    Raises:
        PoolerFoundError: there is a pooler in between, and the URL doesn't say so.
    """
    if behind_pooler:
        async with connection.transaction():  # the two round trips of a statement must reach the same session
            await prepare_connection(connection)
        return
    # Statements without parameters aren't prepared. The connection was given the process id by which it cancels
    # statements; a pooler invents that id.
    if await connection.execute(f"SELECT 1 WHERE pg_backend_pid() = {connection.get_server_pid()}") != "SELECT 1":
        raise PoolerFoundError("the session's number isn't the server's")
    await prepare_connection(connection)
    await connection.execute(REFUSE_FILTERED_ROWS)


async def prepare_connection(connection: Connection) -> None:
    """Configure a connection to return JSON as Python values."""
    for name in ("json", "jsonb"):
        await connection.set_type_codec(name, encoder=json_text, decoder=_read_json, schema="pg_catalog")


def _read_json(text: str) -> Any:
    """Parse JSON.

    Return it as text if PostgreSQL accepts it and Python can't parse it (nested too deep, too long a number).
    """
    try:
        return json.loads(text)
    except (RecursionError, ValueError):
        return text


async def _leave_as_is(_connection: Connection) -> None:
    """Skip the reset that asyncpg runs when a connection returns to the pool.

    Our code changes no session setting on these connections, and a reset would cost as much as one of our statements.
    """
