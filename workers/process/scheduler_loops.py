"""What every scheduler does over and over: idempotent passes, each apart from its loop."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from models.connections import DATABASE_ERRORS, DatabaseLostError, is_passing
from models.queue.claims import ready_queues, wake_due
from models.queue.leases import forget_dead_workers
from models.queue.listening import WAKE_UP_CHANNEL, listen
from models.queue.refusals import settle_refused_ends
from models.queue.rescue import end_overdue_jobs, end_refused_jobs, rescue_lost_claims
from models.queue.unqueued import adopt_unqueued_jobs, end_unqueued_jobs
from models.schema.migrate import check
from models.schema.server import notify_queue, server_time
from workers.gate.rules import stops_of
from workers.operations.checks.notifications import FULL_FRACTION
from workers.operations.schedule import periodic_engine
from workers.operations.taking_over import adoption_terms
from workers.outcome import outcome_of
from workers.process.compose import migration_engine
from workers.process.runtime import Runtime
from workers.process.session_age import BEAT_S, RECONNECT_S, SessionAge

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Loop:
    """One pass and how often it runs."""

    name: str
    interval_s: float
    run_once: Callable[[], Awaitable[object]]


class Scheduler:
    """Wake-ups, rescue, adoption and periodic tasks, on one event loop."""

    def __init__(self, runtime: Runtime) -> None:
        """Keep the runtime; nothing runs yet.

        Raises:
            InvalidInputError: the settings name a schedule or a retention policy that can't be.
        """
        self._runtime = runtime
        self._periodic_engine = periodic_engine(runtime)
        self._session_age = SessionAge(runtime.settings.lease_s)

    def loops(self) -> tuple[Loop, ...]:
        """Return every pass, by name."""
        return (
            Loop("bells", self._runtime.settings.poll_s, self.wake_for_waiting_jobs),
            Loop("rescue", 1.0, self.rescue),
            Loop("overdue", 5.0, self.end_overdue),
            Loop("refused", 60.0, self.end_refused),
            Loop("adoption", 10.0, self.adopt),
            Loop("workers", 600.0, self.forget_workers),
            Loop("database", 60.0, self.look_at_database),
            Loop("ticks", self._runtime.settings.poll_s, self._periodic_engine.run_once),
            Loop("session", RECONNECT_S, self.beat),
            Loop("listen", 1.0, self.listen),
        )

    async def run(self, stopping: asyncio.Event) -> None:
        """Run every loop until told to stop."""
        tasks = [asyncio.create_task(self._repeat(loop), name=loop.name) for loop in self.loops()]
        await stopping.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def wake_for_waiting_jobs(self) -> set[str]:
        """Make due what waited for its time, and wake workers for every queue that has ready jobs."""
        database = self._runtime.database
        await database.commit("wake", wake_due)
        queues = await database.run(ready_queues)
        for queue in queues:
            await self._runtime.wake(queue)
        return queues

    async def rescue(self) -> int:
        """Make due again what dead workers held; return how many claims were taken from them."""
        session_age = self._session_age
        rescued = await rescue_lost_claims(
            self._runtime.database, session_age.rescue_not_after(), session_age.settled_at()
        )
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
        terms = adoption_terms(self._runtime.settings)
        adopted, dropped = await adopt_unqueued_jobs(self._runtime.database, terms)
        ended = await end_unqueued_jobs(self._runtime.database, terms)
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
        used_fraction = (await self._runtime.database.run(notify_queue)).used_fraction
        if used_fraction >= FULL_FRACTION:
            log.warning("notify_queue_filled", used_fraction=round(used_fraction, 3))
            found.append("notify_queue_filled")
        engine = migration_engine(self._runtime.services)
        try:
            problems = [problem for problem in await check(engine) if problem.is_reason_to_wait]
        finally:
            await engine.dispose()
        for problem in problems:
            log.error("database_unfit", kind=problem.kind, problem=problem.message)
            found.append(problem.kind)
        return found

    async def beat(self) -> None:
        """Look at the database's clock once a second, until that fails.

        After a gap nobody is rescued for some seconds.
        """
        try:
            while True:
                self._session_age.beat(await self._runtime.database.run(server_time))
                await asyncio.sleep(BEAT_S)
        except DATABASE_ERRORS as error:
            log.debug("beat_failed", error=str(error))
        finally:
            self._session_age.break_off()

    async def listen(self) -> None:
        """Wake workers for what producers notify, as soon as they commit; until the connection is lost."""
        sending: set[asyncio.Task[None]] = set()

        def heard(queue: str) -> None:
            task = asyncio.create_task(self._runtime.wake(queue))
            sending.add(task)
            task.add_done_callback(sending.discard)

        with contextlib.suppress(DatabaseLostError, OSError):  # the other loops say that PostgreSQL is gone
            await listen(self._runtime.database, WAKE_UP_CHANNEL, heard)

    async def _repeat(self, loop: Loop) -> None:
        while True:
            outcome = await outcome_of(loop.run_once())
            if isinstance(outcome, Exception):
                if is_passing(outcome):
                    log.warning("loop_waits_for_database", loop=loop.name, error=str(outcome))
                else:
                    log.error("loop_failed", loop=loop.name, exc_info=outcome)
            await asyncio.sleep(loop.interval_s)
