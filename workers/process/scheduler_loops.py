"""The loops of a scheduler: passes that are repeated, each idempotent and callable by itself."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from config.logger import EventLogger
from config.outcome import outcome_of
from models.applications.recorded import applications_of
from models.applications.registry import applications, has_pictures
from models.connections import DATABASE_ERRORS, DatabaseLostError, is_passing
from models.queue.batches import finish_batches
from models.queue.claims import ready_queues, wake_due
from models.queue.counts import count_queues
from models.queue.fair import FIRST_TURN, forget_turns, watch_slots
from models.queue.leases import forget_dead_workers
from models.queue.listening import WAKE_UP_CHANNEL, listen
from models.queue.queues import empty_old_queues
from models.queue.refusals import settle_refused_ends
from models.queue.rescue import end_overdue_jobs, end_refused_jobs, rescue_lost_claims
from models.queue.sweep import Sweep
from models.queue.unqueued import MOST_AT_ONCE, adopt_unqueued_jobs, end_unqueued_jobs
from models.queue.vacuum import vacuum_queue
from models.schema.migrate import check
from models.schema.readiness import read_recorded
from models.schema.server import notify_queue, server_time
from workers.gate.rules import stops_of
from workers.metrics.recording import Recording
from workers.operations.checks.notifications import FULL_FRACTION
from workers.operations.schedule import periodic_engine
from workers.operations.taking_over import adoption_terms
from workers.process.compose import migration_engine
from workers.process.runtime import Runtime
from workers.process.session_age import BEAT_S, RECONNECT_S, SessionAge

log = EventLogger(__name__)

VACUUM_REST_FACTOR = 20
"""How long to rest after a VACUUM of the queue, as a multiple of its duration."""

BATCHES_LOOK_S = 5.0
"""Seconds between two looks for unfinished batches while there are none; each look is a statement."""

ALL_SLOTS_S = 60.0
"""Most seconds between two looks at the slots of all users with held jobs: a user's tier may have changed."""

SLOTS_REST_FACTOR = 20
"""The time between two such looks, as a multiple of how long one took, which grows with the number of these users."""


@dataclass(frozen=True, slots=True)
class Loop:
    """A pass, and how often it runs."""

    name: str
    interval_s: float
    run_once: Callable[[], Awaitable[object]]


class Scheduler:
    """Runs wake-ups, rescue, adoption and periodic tasks on one event loop."""

    def __init__(self, runtime: Runtime, recording: Recording | None = None) -> None:
        """Store the runtime; nothing runs yet. `recording` counts the jobs that this scheduler rescues or ends.

        Raises:
            InvalidInputError: the settings have an invalid schedule or retention policy.
        """
        self._runtime = runtime
        self._recording = recording or Recording()
        self._periodic_engine = periodic_engine(runtime)
        self._session_age = SessionAge(runtime.settings.lease_s)
        self._sweep = Sweep()
        self._turn = FIRST_TURN
        self._batches_due_s = self._all_slots_due_s = 0.0

    def loops(self) -> tuple[Loop, ...]:
        """Return all passes, with their names and intervals."""
        return (
            Loop("wake-ups", self._runtime.settings.poll_s, self.wake_for_waiting_jobs),
            Loop("rescue", 1.0, self.rescue),
            Loop("overdue", 5.0, self.end_overdue),
            Loop("refused", 60.0, self.end_refused),
            Loop("slots", 3.0, self.check_slots),
            Loop("queues", 5.0, self.empty_old_queues),
            Loop("batches", 1.0, self.finish_batches),
            Loop("turns", 10.0, self.forget_turns),
            Loop("counts", 2.0, self.count_queues),
            Loop("adoption", 10.0, self.adopt),
            Loop("workers", 600.0, self.forget_workers),
            Loop("vacuum", 5.0, self.vacuum),
            Loop("database", 60.0, self.look_at_database),
            Loop("ticks", self._runtime.settings.poll_s, self._periodic_engine.run_once),
            Loop("session", RECONNECT_S, self.beat),
            Loop("listen", 1.0, self.listen),
        )

    async def run(self, stopping: asyncio.Event) -> None:
        """Run all loops until told to stop."""
        tasks = [asyncio.create_task(self._repeat(loop), name=loop.name) for loop in self.loops()]
        await stopping.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def check_slots(self) -> None:
        """Settle the slots of users who have too many or too few jobs that can be claimed, which changed caps leave."""
        began_s = time.monotonic()
        is_due = began_s >= self._all_slots_due_s
        await watch_slots(self._runtime.database, whole=is_due)
        if is_due:
            ended_s = time.monotonic()
            self._all_slots_due_s = ended_s + min(ALL_SLOTS_S, SLOTS_REST_FACTOR * (ended_s - began_s))

    async def forget_turns(self) -> None:
        """Delete turns that virtual time has passed, a page at a time."""
        after = self._turn
        self._turn = await self._runtime.database.commit(
            "forget_turns", lambda connection: forget_turns(connection, after)
        )

    async def empty_old_queues(self) -> int:
        """Move jobs out of queues that no stage has any more; return how many."""
        moved = await self._runtime.database.commit("empty_old_queues", empty_old_queues)
        if moved:
            log.info("jobs_moved", moved=moved)
        return moved

    async def wake_for_waiting_jobs(self) -> set[str]:
        """Let workers claim the jobs whose time has come, and send a wake-up for every queue with jobs to claim."""
        database = self._runtime.database
        await database.commit("wake", wake_due)
        queues = await database.run(ready_queues)
        for queue in queues:
            await self._runtime.wake(queue)
        return queues

    async def rescue(self) -> int:
        """Rescue the claims of dead workers; return how many claims were taken from them."""
        session_age = self._session_age
        rescued = await rescue_lost_claims(
            *(self._runtime.database, session_age.rescue_not_after(), session_age.settled_at()),
            on_rescue=self._recording.job_rescued,
        )
        if rescued.requeued or rescued.ended:
            log.warning("claims_rescued", requeued=rescued.requeued, ended=rescued.ended)
        return rescued.requeued + rescued.ended

    async def end_overdue(self) -> int:
        """End jobs that haven't finished within the maximum wait; return how many."""
        settings = self._runtime.settings
        ended = await end_overdue_jobs(
            *(self._runtime.database, settings.max_wait_s, stops_of(settings)), on_end=self._recording.job_settled
        )
        if ended:
            log.warning("jobs_overdue", ended=ended)
        return ended

    async def end_refused(self) -> int:
        """End jobs that the database has refused for an hour to start, and write refused ends once more.

        Return how many jobs this call has ended or settled.
        """
        ended = await end_refused_jobs(self._runtime.database, on_end=self._recording.job_settled)
        settled = await settle_refused_ends(self._runtime.database)
        if ended or settled:
            log.warning("refusals_settled", ended=ended, settled=settled)
        return ended + settled

    async def finish_batches(self) -> int:
        """Record and notify the end of batches whose jobs are all over; return how many. Only `pictures` has any."""
        if not has_pictures() or time.monotonic() < self._batches_due_s:
            return 0
        finished, are_unfinished = await self._runtime.database.commit("finish_batches", finish_batches)
        if not are_unfinished:
            self._batches_due_s = time.monotonic() + BATCHES_LOOK_S
        if finished:
            log.info("batches_finished", finished=finished)
        return finished

    async def count_queues(self) -> int | None:
        """Count the jobs in the queues for all who ask, if that is due; return how many there are."""
        return await count_queues(self._runtime.database)

    async def adopt(self) -> int:
        """Adopt, or end, the unfinished jobs without a queue row on the next page; return how many were adopted."""
        terms = adoption_terms(self._runtime.settings)
        page = await self._sweep.next_page(self._runtime.database)
        adopted, dropped = await adopt_unqueued_jobs(self._runtime.database, terms, page)
        ended = last_ended = await end_unqueued_jobs(self._runtime.database, terms, page)
        while last_ended == MOST_AT_ONCE:  # the page may have more
            last_ended = await end_unqueued_jobs(self._runtime.database, terms, page)
            ended += last_ended
        if adopted or dropped or ended:
            log.info("jobs_adopted", adopted=adopted, dropped=dropped, ended=ended)
        return adopted

    async def forget_workers(self) -> None:
        """Delete the rows of processes that died more than an hour ago."""
        await self._runtime.database.commit("forget_workers", forget_dead_workers)

    async def vacuum(self) -> None:
        """Vacuum the queue if many of its rows are dead, and then rest.

        While an old snapshot is open they stay, and each VACUUM takes longer than the last.
        """
        took_s = await vacuum_queue(self._runtime.database)
        await asyncio.sleep(VACUUM_REST_FACTOR * (took_s or 0))

    async def look_at_database(self) -> list[str]:
        """Log what is wrong with the database now; return the kinds of the problems.

        It reads how full the queue of notifications is. That also makes PostgreSQL empty a queue that stayed full.
        """
        found = []
        used_fraction = (await self._runtime.database.run(notify_queue)).used_fraction
        if used_fraction >= FULL_FRACTION:
            log.warning("notify_queue_filled", used_fraction=round(used_fraction, 3))
            found.append("notify_queue_filled")
        installed = await self._runtime.database.run(read_recorded)
        if applications_of(installed.applications) != applications():
            log.warning("scheduler_outdated")
            found.append("scheduler_outdated")
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
        """Read the database's clock once a second until that fails.

        Each read extends the session age. After a gap between reads no job is rescued for some seconds.
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
        """Send a wake-up at each notification, which arrives when a producer commits, until the connection is lost."""
        sending: set[asyncio.Task[None]] = set()

        def heard(queue: str) -> None:
            task = asyncio.create_task(self._runtime.wake(queue))
            sending.add(task)
            task.add_done_callback(sending.discard)

        with contextlib.suppress(DatabaseLostError, OSError):  # the other loops log that PostgreSQL is unreachable
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
