"""The claim loop: one per worker process, on one event loop, with up to `lanes` jobs as tasks.

If a lane is free, it looks for jobs at each wake-up, after each finished job, and when a timer ends. Messages never
contain a job, so a broker's time limits, retries and prefetching don't affect jobs. A suspect (`models.queue.suspects`)
runs alone: it is claimed by a process without other jobs, which claims none until its run is over.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias
from uuid import UUID

from config.logger import EventLogger
from config.outcome import outcome_of
from models.connections import is_passing
from models.database import Database
from models.queue.claims import Claim, wake_due
from models.queue.fair import settle_changed_caps
from models.queue.looks import QueueNow, ask_for_wake_up, entered_jobs, look_at_queue
from models.queue.refusals import Claimed, claim_jobs, claim_refused
from models.queue.rescue import release_claims, rescue_lost_claims
from models.queue.suspects import Suspect, claim_suspect, due_suspects
from pipelines.job_types import stage_deadlines
from pipelines.settings import Settings
from workers.entry_rate import DENSE_LOOK_S, EntryRate
from workers.metrics.recording import Recording
from workers.process.receiving import Lanes
from workers.process.session_age import SessionAge
from workers.running.job import Ending, RunningJob, Tally
from workers.running.stage_queues import StageQueues

log = EventLogger(__name__)

RELEASE_S = 2.0
"""Seconds that jobs get to release themselves once they are told to end."""

LOOK_END_S = 1.0
"""Seconds that a look in progress gets to end when the process stops."""

ANSWER_S = 2.5
"""Seconds, beyond the grace of calls, for a job whose picture has come: it is paid, and only has to be stored.

One that isn't finished is stored as it came (`workers.running.kept_answers`), since children may be busy for longer.
"""

MOST_CLAIMED = 2_048
"""The most jobs that one statement claims.

The first of them begin while the next are claimed, and the statement stays far from its time limit.
"""

DATABASE_GONE_S = 1.0
"""Seconds to wait after PostgreSQL didn't answer."""


Take: TypeAlias = Callable[[Database, UUID, str, int, Mapping[str, float]], Awaitable[Claimed]]
"""Function that claims up to a number of jobs of a queue for a worker."""


class ClaimLoop:
    """Claims jobs and runs them until told to stop."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        worker_id: UUID,
        run_job: Callable[[RunningJob], Coroutine[None, None, None]],
        *,
        lanes: Lanes,
        session_age: Callable[[], SessionAge],
        callable_jobs: Callable[[int, int], Awaitable[int | None]] | None = None,
        after_job: Callable[[], None] | None = None,
        after_look: Callable[[QueueNow], None] | None = None,
        stage_queues: StageQueues | None = None,
        recording: Recording | None = None,
    ) -> None:
        """Store what the loop needs.

        Args:
            settings: queues, lanes, intervals, stage deadlines.
            database: where the queue is.
            worker_id: the worker that claims.
            run_job: runs one claim to its recorded end; raises only for a bug of ours.
            lanes: told whether any lane of this process is free.
            session_age: returns how long this process's database session has lasted.
            callable_jobs: returns for how many more jobs a provider may be called now, if so many jobs of this process
                have yet to call one, and so many lanes are free; None if the providers set no limit. No more jobs are
                claimed, except from queues that need no provider.
            after_job: called when the run of a job is over.
            after_look: called with what each look of the loop's own clock has found.
            stage_queues: told which queues of stages are recorded.
            recording: counts lanes, waits and rescues.
        """
        self._lanes = lanes
        self._settings = settings
        self._deadlines_s = stage_deadlines(settings)
        self._database = database
        self._worker_id = worker_id
        self._run_job = run_job
        self._session_age = session_age
        self._callable_jobs = callable_jobs
        self._after_job = after_job
        self._after_look = after_look
        self._stage_queues = stage_queues or StageQueues()
        self._running: dict[UUID, RunningJob] = {}
        self._tally = Tally()
        self._lacks_places = False
        self._alone: UUID | None = None
        self._suspects: Sequence[Suspect] = ()
        self._given_up: set[UUID] = set()
        self._woken = asyncio.Event()
        self._is_stopping = False
        self._grace_over = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._looked_around_s = 0.0
        self._entry_rate = EntryRate()
        self._next_look_s = settings.poll_s
        self._looking: asyncio.Task[Any] | None = None
        self._recording = recording or Recording()
        self._recording.set_lanes(settings.lanes)
        self._recording.set_busy(0)

    def wake(self) -> None:
        """Make the loop look for jobs now; may be called from any thread."""
        with contextlib.suppress(RuntimeError):  # the event loop is closed, so nothing looks any more
            self._loop.call_soon_threadsafe(self._woken.set)

    def call_ended(self) -> None:
        """Look for jobs if the last look took as many as providers could be called for, and a call has ended."""
        if self._lacks_places:
            self._woken.set()

    def held_tokens(self) -> set[UUID]:
        """Return the lease tokens of running jobs whose end isn't being written; may be called from any thread."""
        return {token for token, job in list(self._running.items()) if job.can_be_lost}

    def lose(self, tokens: set[UUID]) -> None:
        """Stop jobs whose claim is lost; may be called from any thread."""

        def stop() -> None:
            for token in tokens:
                if (job := self._running.get(token)) is not None:
                    job.lose_claim()

        self._loop.call_soon_threadsafe(stop)

    def give_back(self, tokens: set[UUID]) -> None:
        """Release those of the claims whose jobs this process doesn't run. May be called from any thread."""

        async def release() -> None:
            # A job that is recording its end isn't among the held ones. A job whose end couldn't be recorded is left to
            # its deadline
            unknown = tokens - self._running.keys() - self._given_up
            if unknown:
                log.warning("claims_released", count=len(unknown))
                await release_claims(self._database, unknown)

        asyncio.run_coroutine_threadsafe(release(), self._loop)

    async def run(self) -> None:
        """Look for jobs, claim and start them until `stop`."""
        self._looking = asyncio.current_task()
        while not self._is_stopping:
            self._woken.clear()
            self._next_look_s = self._settings.poll_s
            outcome = await outcome_of(self._look())
            if isinstance(outcome, Exception):  # whatever the error is, running jobs aren't its cause
                if is_passing(outcome):
                    log.warning("look_failed", error=str(outcome), error_type=type(outcome).__name__)
                else:
                    log.error("look_crashed", exc_info=outcome)
                await asyncio.sleep(DATABASE_GONE_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._next_look_s):
                    await self._woken.wait()

    @property
    def is_stopping(self) -> bool:
        """Whether the loop claims no more jobs."""
        return self._is_stopping

    def claim_no_more(self) -> None:
        """Claim nothing from now on, and leave wake-ups to other workers; running jobs continue until `stop`."""
        self._is_stopping = True
        self._lanes.set_free(False)
        self._woken.set()

    async def finish(self, within_s: float) -> None:
        """Claim no more jobs; return when no claimed job runs or waits without a lane, or after `within_s`."""
        self.claim_no_more()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                if self._looking is not None:  # the jobs that it claims have to be finished, too
                    await asyncio.wait([self._looking])
                if self._running:
                    await asyncio.wait(self._tasks())

    async def stop(self, grace_s: float) -> None:
        """Claim no more; give provider calls in flight their grace, and release all other jobs at once.

        `end_grace` ends the grace early. However the grace ends, a picture that a call has brought may still be stored.
        """
        self.claim_no_more()
        # not cancelled, because a claim could then be committed without this process knowing of it
        if self._looking is not None:
            await asyncio.wait([self._looking], timeout=LOOK_END_S)
        for job in self._running.values():
            job.shut_down(has_grace=grace_s > 0)
        if self._running:
            over = asyncio.create_task(self._grace_over.wait())
            await _all_or(over, self._tasks(), timeout_s=max(grace_s, RELEASE_S))
            over.cancel()
        for job in self._running.values():
            if not job.holds_picture:
                job.end(Ending.SHUTDOWN)
        if self._running:
            await asyncio.wait(self._tasks(), timeout=ANSWER_S)
        for job in self._running.values():
            job.end(Ending.SHUTDOWN)
        if self._running:
            await asyncio.wait(self._tasks(), timeout=RELEASE_S)

    def end_grace(self, within_s: float) -> None:
        """Release provider calls in flight after `within_s`, instead of after the grace of `stop`. For any thread."""
        with contextlib.suppress(RuntimeError):  # the event loop is closed, so no job runs any more
            self._loop.call_soon_threadsafe(self._loop.call_later, within_s, self._grace_over.set)

    def _tasks(self) -> list["asyncio.Task[None]"]:
        return [job.task for job in self._running.values() if job.task is not None]

    async def _look(self) -> None:
        is_tick = time.monotonic() - self._looked_around_s >= self._settings.poll_s
        if self._free_lanes() <= 0:
            return
        if is_tick:
            self._looked_around_s = time.monotonic()
            queues = self._settings.queues
            now = await self._database.run(lambda connection: look_at_queue(connection, queues))
            self._stage_queues.set_recorded(now.stage_queues)
            if self._after_look is not None:
                self._after_look(now)
            if not now.has_work and not self._suspects:
                await self._await_wake_up(now.entered)
                return
            await self._look_around()
        if is_tick or self._suspects:
            await self._look_for_suspects()
        if self._gives_way and (not self._is_empty or await self._claim_alone()):
            return
        if is_tick:
            await self._claim_all(claim_refused)
        if not await self._claim_all() and not await self._claim_alone() and self._free_lanes() > 0:
            await self._await_wake_up(await self._database.run(entered_jobs))

    async def _await_wake_up(self, entered: int) -> None:
        """Request a wake-up for the next job that enters, or look again soon if many enter.

        Args:
            entered: how many jobs have ever entered the queue.
        """
        if self._entry_rate.is_dense(time.monotonic(), entered):
            self._next_look_s = min(DENSE_LOOK_S, self._settings.poll_s)
        elif await self._ask_for_wake_up():
            await self._claim_all()  # a job that entered between the look and the request caused no wake-up

    async def _look_around(self) -> None:
        """Do an idle worker's housekeeping, for which no scheduler is needed: rescue, and make due jobs claimable."""
        session_age = self._session_age()
        rescued = await rescue_lost_claims(
            self._database,
            session_age.rescue_not_after(),
            session_age.settled_at(),
            on_rescue=self._recording.job_rescued,
        )
        if rescued.requeued or rescued.ended:
            log.warning("claims_rescued", requeued=rescued.requeued, ended=rescued.ended)
        await settle_changed_caps(self._database)
        await self._database.commit("wake", wake_due)

    async def _look_for_suspects(self) -> None:
        queues = self._settings.queues
        self._suspects = await self._database.run(lambda connection: due_suspects(connection, self._worker_id, queues))
        self._lanes.set_free(self._free_lanes() > 0 and not self._gives_way)

    @property
    def _gives_way(self) -> bool:
        """Whether this process has to run suspects before other jobs, so that a busy fleet runs them, too."""
        return any(one.is_first for one in self._suspects)

    @property
    def _is_empty(self) -> bool:
        """Whether no job has a lane. One without a lane has run; its end may wait for ever to be written."""
        return len(self._running) <= self._tally.outside_lanes

    async def _claim_alone(self) -> bool:
        """Claim one suspect if this process runs no job; return whether it did."""
        if self._is_stopping or not self._is_empty or not self._suspects:
            return False
        if await self._most_callable() <= 0:
            return False
        taken = await claim_suspect(self._database, self._worker_id, self._suspects, self._deadlines_s)
        for one in taken.claims:
            self._alone = one.lease_token
        self._start(taken.claims)
        return bool(taken.claims)

    async def _ask_for_wake_up(self) -> bool:
        queues = self._settings.queues
        return await self._database.commit("arm_bells", lambda connection: ask_for_wake_up(connection, queues))

    async def _claim_all(self, take: Take = claim_jobs) -> int:
        """Claim jobs for the free lanes; return how many were started."""
        started = needing = 0
        callable_jobs = await self._most_callable()
        for queue in self._settings.queues:
            needs_provider = self._stage_queues.needs_provider(queue)
            most = min(self._free_lanes(), MOST_CLAIMED)
            if needs_provider:
                most = min(most, callable_jobs - needing)
            if most <= 0:
                continue
            taken = await take(self._database, self._worker_id, queue, most, self._deadlines_s)
            self._start(taken.claims)
            started += len(taken.claims)
            needing += len(taken.claims) * needs_provider
            if (taken.refused or len(taken.claims) == MOST_CLAIMED) and take is claim_jobs:
                self._woken.set()  # there may be more rows behind those that were claimed or set aside
        self._lacks_places = needing >= callable_jobs and self._free_lanes() > 0
        return started

    async def _most_callable(self) -> int:
        """Return how many more jobs providers may be called for, at most as many as the process has lanes."""
        if self._callable_jobs is None:
            return self._settings.lanes
        most = await self._callable_jobs(self._tally.awaiting_call, self._free_lanes())
        return self._settings.lanes if most is None else most

    def _start(self, claims: Sequence[Claim]) -> None:
        for one in claims:
            self._recording.job_claimed(one)
            job = RunningJob(one, self._tally)
            self._running[one.lease_token] = job
            job.task = asyncio.create_task(self._run_job(job), name=f"{one.job_type} {one.job_id}")
            job.task.add_done_callback(partial(self._let_go, job))
        self._count_lanes()

    def _let_go(self, job: RunningJob, task: "asyncio.Task[None]") -> None:
        """Free the lane of a job whose task is over. A job without a recorded end is rescued after its deadline."""
        if not task.cancelled() and (bug := task.exception()) is not None:
            self._given_up.add(job.claim.lease_token)
            log.error("job_given_up", job_id=job.claim.job_id, exc_info=bug)
        self._running.pop(job.claim.lease_token, None)
        job.count_out()
        self._count_lanes()  # jobs may have returned to their lanes
        self._woken.set()
        if self._after_job is not None:
            self._after_job()

    def _count_lanes(self) -> None:
        """Say whether a lane is free, and how many are busy."""
        self._lanes.set_free(self._free_lanes() > 0)
        self._recording.set_busy(len(self._running) - self._tally.outside_lanes)

    def _free_lanes(self) -> int:
        """Return how many more jobs may run: none beside a suspect.

        At most as many jobs as the process has lanes may wait without a lane.
        """
        if self._is_stopping or self._alone in self._running:
            return 0
        lanes = self._settings.lanes
        return lanes - len(self._running) + min(self._tally.outside_lanes, lanes)


async def _all_or(other: "asyncio.Task[Any]", tasks: list["asyncio.Task[None]"], *, timeout_s: float) -> None:
    """Wait until all tasks are over, or until the other task is over or the time has passed, whichever comes first."""
    every = asyncio.ensure_future(asyncio.wait(tasks))
    await asyncio.wait([every, other], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    every.cancel()
