"""A worker's lease: a thread that renews it, checks which claims are lost, and watches the main event loop.

The thread has an event loop and a connection of its own, so that neither work on a picture nor another program's idle
transaction delays its heartbeat. It opens that connection before the worker's pool of connections opens any.
While it has no connection of its own, it renews the lease over the pool.
"""

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar
from uuid import UUID

from typing_extensions import override

from config.failpoints import failpoint
from config.logger import EventLogger
from config.outcome import outcome_of
from models.connections import Connection, is_passing
from models.database import Database
from models.queue.leases import lease_now, renew_lease, sign_off
from pipelines.settings import Settings
from workers.metrics.recording import RENEWAL_FAILED, RENEWED, Recording
from workers.process.repeated_line import RepeatedLine
from workers.process.session_age import BEAT_S, RECONNECT_S, SessionAge

if TYPE_CHECKING:
    import asyncpg

T = TypeVar("T")

log = EventLogger(__name__)

CONNECT_S = 4.0
"""Seconds for one try to connect: a packet that was lost while PostgreSQL was down is sent again after 1 and 3 s."""

BORROW_EVERY_S = 1.0
"""Seconds between renewals over the pool while the thread has no connection of its own."""

STUCK_LOOP_S = 30.0
STUCK_EXIT_CODE = 70
BORROWED_LOOK_S = 0.05
STOP_S = 2.0
"""Seconds for removing the worker's row at the end. If the row isn't removed, the lease expires by itself."""

RENEWALS_PER_LEASE = 3


class Run(Protocol):
    """Runs work on a connection to the database."""

    async def __call__(self, work: Callable[[Connection], Awaitable[T]], /) -> T:
        """Run work on a connection, and return what it returns."""


class HeldClaims(Protocol):
    """The claims that a process believes it holds. Its methods may be called from any thread."""

    def held_tokens(self) -> set[UUID]:
        """Return the lease tokens of these claims."""

    def lose(self, tokens: set[UUID]) -> None:
        """Stop the jobs whose claims have these lease tokens, because the claims are lost."""

    def give_back(self, tokens: set[UUID]) -> None:
        """Release claims that the database says this process holds, and that it didn't know at two checks in a row."""


class LeaseThread(threading.Thread):
    """Renews one process's lease, and ends the process if its main event loop hangs."""

    def __init__(
        self, settings: Settings, database: Database, worker_id: UUID, recording: Recording | None = None
    ) -> None:
        """Prepare the thread.

        Args:
            settings: lease, queues and lanes.
            database: where the lease is; its pool may be opened later, and is used only while there is no connection
                outside of it.
            worker_id: this process.
            recording: counts the renewals.
        """
        super().__init__(name="lease", daemon=True)
        self.session_age = SessionAge(settings.lease_s)
        self.is_connected = threading.Event()
        self.has_begun = threading.Event()
        self._settings = settings
        self._database = database
        self._worker_id = worker_id
        self._claims: HeldClaims | None = None
        self._unknown: set[UUID] = set()
        self._stopping = threading.Event()
        self._own_loop: asyncio.AbstractEventLoop | None = None
        self._woken = asyncio.Event()
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._connect_s = 0.0
        self._borrowed: Future[None] | None = None
        self._borrowed_at = float("-inf")
        self._silence = RepeatedLine()
        self._main_loop: asyncio.AbstractEventLoop | None = None
        self._main_loop_stuck_s = 0.0
        self._watched_at = time.monotonic()
        self._must_renew = True
        self._recording = recording or Recording()

    def begin(self, loop: asyncio.AbstractEventLoop, claims: HeldClaims) -> None:
        """Begin the lease; called once the pool is open. Before this call the thread only keeps its connection open.

        From this call on, the process ends if `loop` is blocked for STUCK_LOOP_S.
        """
        self._watched_at = time.monotonic()
        self._claims, self._main_loop = claims, loop
        self._wake()

    def stop(self) -> None:
        """Delete the worker's row and end the thread; return when the thread has ended, which takes seconds at most."""
        self._stopping.set()
        self._wake()
        self.join(timeout=STOP_S)

    def _wake(self) -> None:
        """End the thread's wait between two heartbeats; called from other threads."""
        if self._own_loop is not None:
            with contextlib.suppress(RuntimeError):  # the thread has ended, and its event loop is closed
                self._own_loop.call_soon_threadsafe(self._woken.set)

    @override
    def run(self) -> None:
        """Renew the lease, again and again, until told to stop."""
        asyncio.run(self._beats())

    async def _beats(self) -> None:
        self._own_loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            rest_s = BEAT_S
            error = await outcome_of(self._beat_on_own_connection())
            if error is not None:
                rest_s = await self._get_by_without_connection(error)
            self._watch_main_loop()
            await self._rest(rest_s)
        with failpoint("sign_off"):
            await self._sign_off()

    async def _beat_on_own_connection(self) -> None:
        connection = self._connection
        if connection is None or connection.is_closed():
            self._drop_connection()
            began_s = time.monotonic()
            async with asyncio.timeout(CONNECT_S):
                connection = self._connection = await self._database.connect_direct()
            self._connect_s = time.monotonic() - began_s
            self.is_connected.set()
        own = connection

        async def run(work: Callable[[Connection], Awaitable[T]], /) -> T:
            return await self._database.run_direct(own, work)

        await self._beat(run)
        self._borrowed = None
        lasted_s = self._silence.end()
        if lasted_s is not None:
            log.info("lease_connection_restored", lasted_s=round(lasted_s, 1))

    async def _get_by_without_connection(self, error: Exception) -> float:
        """Renew the lease over the pool, for want of its own connection; return the seconds until the next try."""
        self._drop_connection()
        is_renewed = await self._beat_by_pool()
        if is_renewed is False:
            self._recording.lease_renewed(RENEWAL_FAILED)
            self.session_age.break_off()
        self._report(error)
        return BEAT_S if is_renewed else RECONNECT_S

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
            self._must_renew = True  # so that the time that the next connection took is recorded

    async def _beat_by_pool(self) -> bool | None:
        """Renew the lease on a connection of the pool, in the main event loop; None if it hasn't answered yet."""
        loop, now_s = self._main_loop, time.monotonic()
        if loop is None or loop.is_closed():
            return False
        if self._borrowed is None:
            if now_s - self._borrowed_at < BORROW_EVERY_S:
                return None
            self._borrowed_at = now_s
            self._borrowed = asyncio.run_coroutine_threadsafe(self._beat(self._database.run), loop)
        # Polled, because a future of another thread's event loop has no event to wait for that could end this wait
        while not self._borrowed.done() and time.monotonic() - now_s < BORROW_EVERY_S:  # noqa: ASYNC110 - see above
            await asyncio.sleep(BORROWED_LOOK_S)
        if not self._borrowed.done():  # not cancelled, because it would keep its connection nevertheless
            return False if time.monotonic() - self._borrowed_at > CONNECT_S else None
        borrowed, self._borrowed = self._borrowed, None
        return not borrowed.cancelled() and borrowed.exception() is None

    def _report(self, error: Exception) -> None:
        """Log the error that keeps the lease from being renewed: at once, and then each minute."""
        if not self._silence.is_due():
            return
        if is_passing(error):
            log.warning("lease_connection_awaited", error=str(error) or type(error).__name__)
        else:
            log.warning("lease_beat_failed", error=str(error), error_type=type(error).__name__)

    async def _beat(self, run: Run) -> None:
        claims = self._claims
        # read first, so that a claim made meanwhile doesn't count as lost
        believed = set() if claims is None else claims.held_tokens()
        # The database's clock and row are read, since our clock may have jumped, or stopped in the middle of a renewal
        lease = await run(lambda connection: lease_now(connection, self._worker_id))
        if claims is not None:
            left = timedelta() if lease.until is None else lease.until - lease.now
            if self._must_renew or left <= timedelta(seconds=self._settings.lease_s) * (1 - 1 / RENEWALS_PER_LEASE):
                await self._renew(run)
            self._compare(claims, believed, lease.tokens)
        self.session_age.beat(lease.now)

    async def _renew(self, run: Run) -> None:
        with failpoint("renew_lease"):
            await run(
                lambda connection: renew_lease(
                    connection,
                    self._worker_id,
                    host=socket.gethostname(),
                    pid=os.getpid(),
                    queues=list(self._settings.queues),
                    lanes=self._settings.lanes,
                    lease_s=self._settings.lease_s,
                    connect_s=self._connect_s,
                )
            )
        self._must_renew = False
        self._recording.lease_renewed(RENEWED)
        self.has_begun.set()

    def _compare(self, claims: HeldClaims, believed: set[UUID], recorded: set[UUID]) -> None:
        """Tell the process which of the claims that it believes it holds are lost, and which it doesn't know."""
        if lost := believed - recorded:
            claims.lose(lost)
        # A token that is unknown only once may belong to a claim whose answer is in transit, or whose end is being
        # recorded
        unknown = recorded - believed
        if twice := unknown & self._unknown:
            claims.give_back(twice)
        self._unknown = unknown

    async def _sign_off(self) -> None:
        work = partial(sign_off, worker_id=self._worker_id)
        connection, loop = self._connection, self._main_loop
        try:
            async with asyncio.timeout(STOP_S / 2):
                if connection is not None and not connection.is_closed():
                    await self._database.run_direct(connection, work)
                elif loop is not None and not loop.is_closed():
                    await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._database.run(work), loop))
        finally:
            self._drop_connection()

    async def _rest(self, rest_s: float) -> None:
        """Wait for the next heartbeat, or until another thread ends the wait."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(rest_s):
                await self._woken.wait()
        self._woken.clear()

    def _watch_main_loop(self) -> None:
        loop = self._main_loop
        if loop is None or loop.is_closed():
            return
        # A process that was stopped as a whole isn't stuck, so at most the time between two checks is counted
        now = time.monotonic()
        self._main_loop_stuck_s += min(now - self._watched_at, 2 * BEAT_S)
        self._watched_at = now
        if self._main_loop_stuck_s > STUCK_LOOP_S:
            log.error("worker_stuck", stuck_s=STUCK_LOOP_S)
            os._exit(STUCK_EXIT_CODE)  # its claims are rescued at once, because the supervisor sees the death

        def moved() -> None:
            self._main_loop_stuck_s = 0.0

        loop.call_soon_threadsafe(moved)
