"""A worker process, started by the supervisor through dramatiq.

dramatiq provides the process, its signals and its threads; the claim loop runs
on the event loop of its AsyncIO middleware.
"""

import asyncio
import contextlib
import gc
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import AsyncExitStack
from datetime import datetime
from types import FrameType

import dramatiq
import uvloop
from dramatiq.asyncio import EventLoopThread
from dramatiq.broker import Broker
from dramatiq.middleware import AsyncIO
from dramatiq.worker import Worker
from typing_extensions import override

from config.log import configure_logging, log_uncaught, name_process, secret_mask
from config.logger import EventLogger
from config.outcome import outcome_of
from models.applications.recorded import ApplicationMismatchError, require_named
from models.database import Database
from models.gate.recorded_rules import record_provider_rules
from models.queue.groups import GroupWriter
from models.queue.looks import QueueNow
from models.schema.migrations.errors import MigrationError
from models.schema.readiness import read_recorded
from pipelines.job_types import JOB_TYPES, import_stages, require_known_stages, stage_deadlines
from pipelines.settings import Settings, load_settings
from workers.gate.check import check_providers
from workers.gate.rules import recorded_providers
from workers.metrics.recording import Recording, recording_of_slot
from workers.process.compose import make_broker, open_runtime, require_usable, warn_if_unheard
from workers.process.fair_terms import warn_of_differing_terms, warn_of_unknown_queues
from workers.process.lease import LeaseThread
from workers.process.receiving import Lanes
from workers.process.recycling import Recycling
from workers.process.runtime import ModeMismatchError, Runtime, make_database
from workers.process.supervised import supervised
from workers.process.supervisor import KILL_AFTER_S, READY_FD, REFUSED_EXIT_CODE
from workers.process.tools import Tools, make_pixels, open_tools
from workers.process.wake_up import declare_wake_ups
from workers.running.claim_loop import ClaimLoop
from workers.running.record import Recorder
from workers.running.run import StageRunner
from workers.running.runner import Runner
from workers.running.stage_queues import StageQueues
from workers.services.services import embedded_services

log = EventLogger(__name__)

FAILED_START_EXIT_CODE = 75
HUNG_EXIT_CODE = 70

EVENT_LOOK_S = 0.02

START_END_S = 1.0
"""Seconds for an interrupted start to end."""

HURRIED_GRACE_S = 2.0
"""Seconds that provider calls in flight get without a supervisor, or after a second SIGTERM.

Together with ANSWER_S, for pictures that have come, they must leave 1.5 s of ORPHAN_S for signing off.
"""

RECORDING_S = 30.0
"""Seconds beyond its stages' deadlines that a job may take before a process that is being recycled ends anyway."""

GARBAGE_OBJECTS = 10_000
"""How many more objects than before start a garbage collection. At Python's 700, each dozen of running jobs starts one.

A collection is needed only for cycles, such as of an error and a function that keeps it. Until then these must hold no
pictures: tests run jobs that fail without collections.
"""

END_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

ECHO_S = 1.0
"""Seconds within which a second signal counts as the first one: a signal to the process group arrives twice."""


class WorkerProcess:
    """Everything that one worker process runs on its event loop."""

    def __init__(self, settings: Settings, lanes: Lanes, *, end: Callable[[], None]) -> None:
        """Store what is needed; nothing is opened yet.

        Args:
            settings: the settings.
            lanes: told whether any lane of this process is free.
            end: function that makes dramatiq end this process, for which dramatiq calls `stop`.
        """
        self.worker_id = uuid.uuid4()
        self._settings = settings
        self._lanes = lanes
        self._stack = AsyncExitStack()
        self._broker: Broker | None = None
        self._claim_loop: ClaimLoop | None = None
        self._loop_task: asyncio.Task[None] | None = None
        self._check_task: asyncio.Task[None] | None = None
        self._lease: LeaseThread | None = None
        self._start_task: asyncio.Task[None] | None = None
        self._recycling = Recycling(settings)
        self._recycle_task: asyncio.Task[None] | None = None
        self._runtime: Runtime | None = None
        self._applications_at: datetime | None = None
        self._record_task: asyncio.Task[None] | None = None
        self._end = end
        self._recording = recording_of_slot()

    def listen_on(self, broker: Broker) -> None:
        """Store the broker; `start` begins to listen for its wake-ups once it knows the installation."""
        self._broker = broker

    def wake(self) -> None:
        """Make the claim loop look for jobs now; a message does nothing else."""
        if self._claim_loop is not None:
            self._claim_loop.wake()

    async def start(self) -> None:
        """Open everything, begin the lease, and start claiming."""
        self._start_task = asyncio.current_task()
        await self._open()
        self._start_task = None

    async def _open(self) -> None:
        settings = self._settings
        name_process(worker_id=str(self.worker_id))
        pixels = await self._stack.enter_async_context(make_pixels())
        pixels.keep_warm(settings.warm_children)  # first, so that they are ready before the database may be
        services = self._stack.enter_context(embedded_services(settings))
        installed = await require_usable(settings, services, wait=True)
        self._applications_at = installed.applications_at
        database = make_database(settings, services, most_connections=settings.connections - 1, keeps_plans=True)
        self._lease = lease = LeaseThread(settings, database, self.worker_id, self._recording)
        lease.start()
        await _once_set(lease.is_connected)  # waited for first, so that the pool doesn't use up the last connections
        opening = open_runtime(settings, services, installed=installed, database=database)
        self._runtime = runtime = await self._stack.enter_async_context(opening)
        await warn_of_differing_terms(database, settings)
        await warn_of_unknown_queues(database, settings)
        providers = recorded_providers(settings)
        await database.commit("record_provider_rules", lambda connection: record_provider_rules(connection, providers))
        if database.is_direct_behind_pooler:
            await warn_if_unheard(database)
        tools = await self._stack.enter_async_context(open_tools(settings, runtime.database, pixels, self._recording))
        stage_queues = StageQueues()
        runner = _make_runner(runtime, tools, stage_queues, self._recording)
        worker_id = self.worker_id
        claim_loop = ClaimLoop(
            settings,
            runtime.database,
            worker_id,
            runner.run_job,
            lanes=self._lanes,
            session_age=lambda: lease.session_age,
            callable_jobs=tools.gate.callable_jobs,
            after_job=self._recycle_if_due,
            after_look=self._follow_record,
            stage_queues=stage_queues,
            recording=self._recording,
        )
        tools.gate.when_a_call_ends(claim_loop.call_ended)
        lease.begin(asyncio.get_running_loop(), claim_loop)
        await _once_set(lease.has_begun)
        self._claim_loop = claim_loop
        if self._broker is not None:
            declare_wake_ups(self._broker, runtime.installation, settings.queues, self.wake)
        self._loop_task = asyncio.create_task(claim_loop.run(), name="claim loop")
        self._loop_task.add_done_callback(_end_process_if_failed)
        self._check_task = asyncio.create_task(check_providers(tools.providers), name="check of providers")
        log.info("worker_started", worker_id=str(worker_id), lanes=settings.lanes, queues=list(settings.queues))

    async def stop(self) -> None:
        """Interrupt `start` if it still runs, release every job, delete the worker's row and close everything."""
        supervised.when_hurried(self._hurry)
        if self._recycle_task is not None:
            self._recycle_task.cancel()
        if self._start_task is not None:  # it may wait for a database without end
            self._start_task.cancel()
            await asyncio.wait([self._start_task], timeout=START_END_S)
        if self._check_task is not None:
            self._check_task.cancel()
        if self._claim_loop is not None:
            await self._claim_loop.stop(self._settings.shutdown_grace_s)
        if self._lease is not None:
            await asyncio.to_thread(self._lease.stop)
        await self._stack.aclose()
        log.info("worker_stopped")

    def _recycle_if_due(self) -> None:
        """Recycle this process if a limit is reached: it stops gracefully, and the supervisor starts another one."""
        self._recycling.count_job()
        reason = self._recycling.reason()
        if reason is not None:
            self._begin_recycling(reason)

    def _begin_recycling(self, reason: str) -> None:
        if self._claim_loop is None or self._claim_loop.is_stopping:
            return
        self._claim_loop.claim_no_more()
        log.info("worker_recycled", reason=reason, jobs=self._recycling.jobs, rss_mb=self._recycling.rss_mb)
        self._recycle_task = asyncio.create_task(self._recycle(self._claim_loop), name="recycling")

    def _follow_record(self, now: QueueNow) -> None:
        """Recycle this process once `db upgrade` has recorded its applications anew: it runs what it has read."""
        is_looking = self._record_task is not None and not self._record_task.done()
        if now.applications_at != self._applications_at and not is_looking and self._runtime is not None:
            looking = self._recycle_if_it_may_start(self._runtime.database, now.applications_at)
            self._record_task = asyncio.create_task(looking, name="record of applications")

    async def _recycle_if_it_may_start(self, database: Database, recorded_at: datetime | None) -> None:
        """Recycle this process, unless its DARKROOM_APPLICATION names others: then another one would be refused."""
        installed = await outcome_of(database.run(read_recorded))
        if isinstance(installed, Exception):
            return  # the next look tries again
        self._applications_at = recorded_at
        try:
            require_named(installed.applications, self._settings.application)
        except ApplicationMismatchError as error:
            log.warning("worker_outdated", error=str(error))
        else:
            self._begin_recycling("db upgrade recorded the applications anew")

    async def _recycle(self, claim_loop: ClaimLoop) -> None:
        """Claim no more jobs, wait for running ones as long as their stages' deadlines allow, and end the process."""
        deadlines_s = stage_deadlines(self._settings)
        longest_s = max(sum(deadlines_s[stage.name] for stage in one.stages) for one in JOB_TYPES.values())
        await claim_loop.finish(longest_s + RECORDING_S)
        # The supervisor doesn't wait for this end, so it wouldn't kill this process if it hung in it
        kill = threading.Timer(self._settings.shutdown_grace_s + KILL_AFTER_S, os._exit, (HUNG_EXIT_CODE,))
        kill.daemon = True
        kill.start()
        self._end()

    def _hurry(self) -> None:
        if supervised.is_orphaned:
            log.warning("worker_orphaned")
        if self._claim_loop is not None:
            hurried_s = supervised.hurried_s or time.monotonic()
            self._claim_loop.end_grace(max(0.0, hurried_s + HURRIED_GRACE_S - time.monotonic()))


def _make_runner(runtime: Runtime, tools: Tools, stage_queues: StageQueues, recording: Recording) -> Runner:
    settings = runtime.settings
    mask = secret_mask(settings)
    writer = GroupWriter(runtime.database)
    stages = StageRunner(
        database=runtime.database,
        writer=writer,
        storage=runtime.storage,
        pixels=tools.pixels,
        provider_for=tools.gate.for_job,
        deadlines_s=settings.stage_deadlines,
        limits=tools.limits,
        answer_limits=tools.answer_limits,
        mask=mask,
        fetcher=tools.fetcher,
        provider_identity=tools.provider_identity,
        reuses_results=settings.reuse_results,
        check_job=tools.gate.require_makeable,
        models=tools.models,
        stage_queues=stage_queues,
        recording=recording,
    )
    return Runner(stages, Recorder(runtime.database, writer, mask, recording))


async def _once_set(event: threading.Event) -> None:
    """Wait for another thread's event without using a thread, which could outlive a process that is told to stop."""
    while not event.is_set():  # noqa: ASYNC110 - the event belongs to another thread
        await asyncio.sleep(EVENT_LOOK_S)


def _end_process_if_failed(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("claim_loop_failed", exc_info=task.exception())
        os._exit(FAILED_START_EXIT_CODE)  # the supervisor starts another process, and the claims are rescued


class WorkerMiddleware(dramatiq.Middleware):
    """Starts and stops the claim loop with dramatiq's worker, on the event loop of its AsyncIO middleware."""

    def __init__(self, process: WorkerProcess) -> None:
        """Store the process to start."""
        self._process = process

    @override
    def after_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Start the worker process's parts and tell the supervisor that it works.

        If the start fails, end the process.
        """
        threading.Thread(target=self._start, name="start", daemon=True).start()

    def _start(self) -> None:
        starting = asyncio.run_coroutine_threadsafe(self._process.start(), _event_loop_thread().loop)
        try:
            error = starting.exception()
        except CancelledError:  # told to stop meanwhile
            return
        if isinstance(error, MigrationError | ModeMismatchError | ApplicationMismatchError):
            log.error("worker_refused", error=str(error))
            os._exit(REFUSED_EXIT_CODE)
        if error is not None:
            log.error("worker_start_failed", exc_info=error)
            os._exit(FAILED_START_EXIT_CODE)
        if descriptor := os.environ.get(READY_FD):
            os.write(int(descriptor), self._process.worker_id.bytes)  # kept open as long as this process lives

    @override
    def before_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Release running jobs, before dramatiq stops its threads."""
        _event_loop_thread().run_coroutine(self._process.stop())


def _event_loop_thread() -> EventLoopThread:
    thread = dramatiq.asyncio.get_event_loop_thread()
    if thread is None:
        raise RuntimeError("dramatiq's event loop isn't running")
    return thread


def make_worker_broker(settings: Settings, end: Callable[[], None]) -> Broker:
    """Return the broker with our own middleware only: none of dramatiq's retries and time limits apply to jobs."""
    lanes = Lanes()
    process = WorkerProcess(settings, lanes, end=end)
    services = embedded_services(settings)
    url = settings.broker_url or settings.redis_url
    if url is None:  # the supervisor passes the URLs on; without a supervisor, open the embedded services here
        url = services.__enter__().broker_url
    broker = make_broker(url, middleware=[AsyncIO(), WorkerMiddleware(process)], lanes=lanes)
    process.listen_on(broker)
    return broker


def _handle_end_signals() -> Callable[[], None]:
    """Install a handler that passes only the first signal to end on to dramatiq's handler.

    A second signal in dramatiq's handler would end the main thread without grace, but not the process, since its event
    loop has a thread that isn't a daemon. With this handler a second signal only ends the grace for provider calls. It
    must be called in the main thread, after dramatiq has set its own handler.

    Returns:
        A function that makes dramatiq end this process as a first signal does, without counting as one; for any thread.
    """
    handle = signal.getsignal(signal.SIGTERM)
    heard_s: float | None = None

    def end() -> None:
        with contextlib.suppress(SystemExit):  # dramatiq has received a signal before
            if callable(handle):
                handle(signal.SIGTERM, None)

    def hear(_number: int, _frame: FrameType | None) -> None:
        nonlocal heard_s
        if heard_s is None:
            heard_s = time.monotonic()
            end()
        elif time.monotonic() - heard_s > ECHO_S:
            supervised.hurry()

    for number in END_SIGNALS:
        signal.signal(number, hear)
    return end


def main() -> None:
    """Set up the broker of this process; dramatiq's command line calls this after its fork."""
    end = _handle_end_signals()
    settings = load_settings()
    require_known_stages(settings)
    import_stages()
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    configure_logging(settings, stream=sys.__stderr__)  # not dramatiq's own, whose master would copy line after line
    log_uncaught()
    dramatiq.set_broker(make_worker_broker(settings, end))
    gc.freeze()  # imported modules stay, so no later garbage collection has to examine them
    gc.set_threshold(GARBAGE_OBJECTS)
    gc.enable()
