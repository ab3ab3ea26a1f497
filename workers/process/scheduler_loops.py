"""What every scheduler does over and over: idempotent passes, each apart from its loop."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import asyncpg
import structlog

from models.connections import is_passing
from models.queue.claims import wake_due
from models.queue.leases import forget_dead_workers
from models.queue.left_behind import end_left_behind, take_in
from models.queue.refusals import settle_refused_ends
from models.queue.rescue import end_overdue_jobs, end_refused_jobs, rescue_lost_claims
from models.schema.migrate import check
from workers.gate.rules import stops_of
from workers.operations.checks.notifications import FULL_FRACTION
from workers.operations.schedule import clockwork
from workers.operations.taking_over import take_in_terms
from workers.process.compose import Runtime, migration_engine
from workers.process.pulse import Pulse

log = structlog.get_logger(__name__)

BELL_CHANNEL = "darkroom_bells"

RECONNECT_S = 0.25
"""How long after a failed beat the next is tried: a session counts from the first that succeeds."""


@dataclass(frozen=True, slots=True)
class Loop:
    """One pass and how often it runs."""

    name: str
    interval_s: float
    run_once: Callable[[], Awaitable[object]]


class Scheduler:
    """Bells, rescue, adoption and periodic tasks, on one event loop."""

    def __init__(self, runtime: Runtime) -> None:
        """Keep the runtime; nothing runs yet.

        Raises:
            InvalidInputError: the settings name a schedule or a retention policy that can't be.
        """
        self._runtime = runtime
        self._clockwork = clockwork(runtime)
        self._pulse = Pulse(runtime.settings.lease_s)

    def loops(self) -> tuple[Loop, ...]:
        """Return every pass, by name."""
        return (
            Loop("bells", self._runtime.settings.poll_s, self.ring_for_waiting_jobs),
            Loop("rescue", 1.0, self.rescue),
            Loop("overdue", 5.0, self.end_overdue),
            Loop("refused", 60.0, self.end_refused),
            Loop("adoption", 10.0, self.adopt),
            Loop("workers", 600.0, self.forget_workers),
            Loop("database", 60.0, self.look_at_database),
            Loop("ticks", self._runtime.settings.poll_s, self._clockwork.run_once),
        )

    async def run(self, stopping: asyncio.Event) -> None:
        """Run every loop, and listen for bells, until told to stop."""
        tasks = [asyncio.create_task(self._repeat(loop), name=loop.name) for loop in self.loops()]
        tasks += [asyncio.create_task(self._listen(), name="listen"), asyncio.create_task(self._beat(), name="pulse")]
        await stopping.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def ring_for_waiting_jobs(self) -> set[str]:
        """Make due what waited for its time, and ring for every queue that has ready jobs."""
        database = self._runtime.database
        await database.commit("wake", wake_due)
        rows = await database.fetch(
            "SELECT DISTINCT q.queue FROM darkroom.job_queue q WHERE q.ready AND q.status = 'pending'"
        )
        queues = {row["queue"] for row in rows}
        for queue in queues:
            await self._runtime.ring(queue)
        return queues

    async def rescue(self) -> int:
        """Make due again what dead workers held; return how many claims were taken from them."""
        pulse = self._pulse
        rescued = await rescue_lost_claims(self._runtime.database, pulse.rescue_not_after(), pulse.settled_at())
        if rescued.requeued or rescued.ended:
            log.warning("claims_rescued", requeued=rescued.requeued, ended=rescued.ended)
        return rescued.requeued + rescued.ended

    async def end_overdue(self) -> int:
        """End what hasn't finished within the maximum wait; return how many."""
        settings = self._runtime.settings
        ended = await end_overdue_jobs(self._runtime.database, settings.max_wait_s, stops_of(settings))
        if ended:
            log.warning("jobs_overdue", ended=ended)
        return ended

    async def end_refused(self) -> int:
        """End what the database refuses to start, and try refused ends again; return how many ended or settled."""
        ended = await end_refused_jobs(self._runtime.database)
        settled = await settle_refused_ends(self._runtime.database)
        if ended or settled:
            log.warning("refusals_settled", ended=ended, settled=settled)
        return ended + settled

    async def adopt(self) -> int:
        """Take in unfinished jobs that have no queue row, or end them; return how many were taken in."""
        terms = take_in_terms(self._runtime.settings)
        adopted, dropped = await take_in(self._runtime.database, terms)
        ended = await end_left_behind(self._runtime.database, terms)
        if adopted or dropped or ended:
            log.info("jobs_adopted", adopted=adopted, dropped=dropped, ended=ended)
        return adopted

    async def forget_workers(self) -> None:
        """Remove the rows of processes long dead."""
        await self._runtime.database.commit("forget_workers", forget_dead_workers)

    async def look_at_database(self) -> list[str]:
        """Say what has gone wrong with the database since the start; return it.

        Asking for the usage of the notifications' queue is also what empties one that stayed full.
        """
        found = []
        used_fraction = await self._runtime.database.fetchval("SELECT pg_notification_queue_usage()")
        if used_fraction >= FULL_FRACTION:
            log.warning("notify_queue_filled", used_fraction=round(used_fraction, 3))
            found.append("notify_queue_filled")
        engine = migration_engine(self._runtime.services)
        try:
            problems = [problem for problem in await check(engine) if problem.kind != "ahead"]
        finally:
            await engine.dispose()
        for problem in problems:
            log.error("database_unfit", kind=problem.kind, problem=problem.message)
            found.append(problem.kind)
        return found

    async def _repeat(self, loop: Loop) -> None:
        while True:
            try:
                await loop.run_once()
            except Exception as error:
                if is_passing(error):
                    log.warning("loop_waits_for_database", loop=loop.name, error=str(error))
                else:
                    log.exception("loop_failed", loop=loop.name)
            await asyncio.sleep(loop.interval_s)

    async def _beat(self) -> None:
        """Look at the database's clock once a second: after a gap nobody is rescued for some seconds."""
        while True:
            try:
                self._pulse.beat(await self._runtime.database.fetchval("SELECT clock_timestamp()"))
            except Exception as error:  # noqa: BLE001 - whatever it is, it was no beat
                self._pulse.break_off()
                log.debug("beat_failed", error=str(error))
                await asyncio.sleep(RECONNECT_S)
            else:
                await asyncio.sleep(1.0)

    async def _listen(self) -> None:
        """Ring for what producers notify, as soon as they commit."""
        rings: set[asyncio.Task[None]] = set()

        def heard(_connection: object, _pid: int, _channel: str, payload: object) -> None:
            task = asyncio.create_task(self._runtime.ring(str(payload)))
            rings.add(task)
            task.add_done_callback(rings.discard)

        while True:
            connection: asyncpg.Connection[asyncpg.Record] | None = None
            try:
                connection = await self._runtime.database.connect_direct()
                await connection.add_listener(BELL_CHANNEL, heard)
                closed = asyncio.Event()
                connection.add_termination_listener(lambda _connection, closed=closed: closed.set())
                await closed.wait()
            except Exception as error:
                if not is_passing(error):
                    log.exception("listen_failed")
            finally:
                if connection is not None:
                    with contextlib.suppress(Exception):
                        connection.terminate()
            await asyncio.sleep(1.0)
