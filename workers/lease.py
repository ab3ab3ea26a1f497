"""A process's lease: a thread that renews it, looks which claims are gone, and watches the main loop.

It has an event loop and a connection of its own, so that neither a busy image
nor another program's idle transaction keeps it from its beat.
"""

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import UUID

import structlog
from typing_extensions import override

from config.failpoints import failpoint
from config.settings import Settings
from models.database import Database, is_connection_loss
from models.leases import held_tokens, renew_lease, sign_off
from workers.pulse import Pulse

if TYPE_CHECKING:
    import asyncpg

log = structlog.get_logger(__name__)

BEAT_S = 1.0
STUCK_LOOP_S = 30.0
STUCK_EXIT_CODE = 70
HEADLESS_EXIT_CODE = 71
STOP_LOOK_S = 0.1
STOP_S = 2.0
"""How long signing off may take; a lease that isn't signed off ends by itself."""

RENEWALS_PER_LEASE = 3


class LeaseThread(threading.Thread):
    """Keeps one process's lease while its main loop lives."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        worker_id: UUID,
        *,
        held: Callable[[], set[UUID]],
        on_lost: Callable[[set[UUID]], None],
        on_unknown: Callable[[set[UUID]], None],
    ) -> None:
        """Prepare the thread.

        Args:
            settings: for lease, queues and lanes.
            database: where the lease is; only for a connection of its own.
            worker_id: this process.
            held: the lease tokens that this process believes to hold; called in this thread.
            on_lost: told which of them are gone; called in this thread.
            on_unknown: told which claims the database ascribes to this process
                that it doesn't believe to hold, twice in a row; called in this thread.
        """
        super().__init__(name="lease", daemon=True)
        self.pulse = Pulse(settings.lease_s)
        self.has_begun = threading.Event()
        self._settings = settings
        self._database = database
        self._worker_id = worker_id
        self._held = held
        self._on_lost = on_lost
        self._on_unknown = on_unknown
        self._unknown: set[UUID] = set()
        self._stopping = threading.Event()
        self._main_loop: asyncio.AbstractEventLoop | None = None
        self._main_loop_stuck_s = 0.0
        self._watched_at = time.monotonic()
        self._renewed_at = 0.0
        self._parent_pid = os.getppid()
        self._is_orphan = False

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """End the process if this loop doesn't move for STUCK_LOOP_S."""
        self._main_loop = loop

    def stop(self) -> None:
        """Sign the process off and end the thread; returns when it has ended, within seconds."""
        self._stopping.set()
        self.join(timeout=STOP_S)

    @override
    def run(self) -> None:
        """Beat until told to stop."""
        asyncio.run(self._beats())

    async def _beats(self) -> None:
        connection: asyncpg.Connection[asyncpg.Record] | None = None
        while not self._stopping.is_set():
            try:
                if connection is None or connection.is_closed():
                    connection = await self._database.connect_direct()
                    self._renewed_at = 0.0
                await self._beat(connection)
            except Exception as error:  # noqa: BLE001 - whatever it is, a lease must not end for it
                self.pulse.break_off()
                if not is_connection_loss(error):
                    log.warning("lease_beat_failed", error=str(error), error_type=type(error).__name__)
                if connection is not None:
                    connection.terminate()
                    connection = None
            self._watch_main_loop()
            self._watch_parent()
            await self._rest()
        if connection is not None:
            try:
                with failpoint("sign_off"):
                    await asyncio.wait_for(sign_off(connection, self._worker_id), STOP_S / 2)
            finally:
                connection.terminate()

    async def _beat(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        if time.monotonic() - self._renewed_at >= self._settings.lease_s / RENEWALS_PER_LEASE:
            with failpoint("renew_lease"):
                await renew_lease(
                    connection,
                    self._worker_id,
                    host=socket.gethostname(),
                    pid=os.getpid(),
                    queues=list(self._settings.queues),
                    lanes=self._settings.lanes,
                    lease_s=self._settings.lease_s,
                )
            self._renewed_at = time.monotonic()
            self.has_begun.set()
        believed = self._held()  # before the look: what is claimed meanwhile isn't missed
        recorded = await held_tokens(connection, self._worker_id)
        if lost := believed - recorded:
            self._on_lost(lost)
        # once may be a claim whose answer is on its way, or an end being recorded
        unknown = recorded - believed
        if twice := unknown & self._unknown:
            self._on_unknown(twice)
        self._unknown = unknown
        self.pulse.beat(await connection.fetchval("SELECT clock_timestamp()"))

    async def _rest(self) -> None:
        """Wait for the next beat; without an executor, which Python closes as soon as the main thread is over."""
        for _ in range(round(BEAT_S / STOP_LOOK_S)):
            if self._stopping.is_set():
                return
            await asyncio.sleep(STOP_LOOK_S)

    def _watch_parent(self) -> None:
        if not threading.main_thread().is_alive():
            # dramatiq's second SIGTERM ends its main thread only: what is left would hear bells and claim nothing
            log.error("worker_headless")
            os._exit(HEADLESS_EXIT_CODE)
        if os.getppid() != self._parent_pid and not self._is_orphan:
            self._is_orphan = True
            log.warning("worker_orphaned")
            os.kill(os.getpid(), signal.SIGTERM)

    def _watch_main_loop(self) -> None:
        loop = self._main_loop
        if loop is None or loop.is_closed():
            return
        # a process that was stopped as a whole isn't stuck: no more counts than passes between two looks of ours
        now = time.monotonic()
        self._main_loop_stuck_s += min(now - self._watched_at, 2 * BEAT_S)
        self._watched_at = now
        if self._main_loop_stuck_s > STUCK_LOOP_S:
            log.error("worker_stuck", stuck_s=STUCK_LOOP_S)
            os._exit(STUCK_EXIT_CODE)  # its claims are rescued at once: the supervisor sees it die

        def moved() -> None:
            self._main_loop_stuck_s = 0.0

        loop.call_soon_threadsafe(moved)
