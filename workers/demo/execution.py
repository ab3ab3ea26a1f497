"""The run of `darkroom demo`: starts services and workers, creates users, submits jobs, checks the outcome."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from config.log import configure_logging
from config.queue_terms import queues_of
from models.money.ledger import balance_of, balances_by_email
from models.money.users import User
from models.queue.submission import Enhancement, original_key
from pipelines.providers.local.description import LocalSettings
from pipelines.settings import Settings, load_settings, variable_name
from workers.cli.failures import DONE, FAILED, CommandError
from workers.cli.migrating import require_migrated
from workers.cli.opening import run_async
from workers.cli.output import console, note
from workers.cli.parameters import TierName
from workers.cli.progress import follow_jobs
from workers.demo.facts import Entry, Facts, collect, problems
from workers.demo.jobs import DEMO_JOBS, DemoJob, samples_folder
from workers.demo.outcome import Outcome
from workers.demo.page import write_page
from workers.demo.report import print_report
from workers.demo.sheet import write_sheet
from workers.operations.actions import os_user
from workers.operations.errors import OperationError
from workers.operations.jobs import cancel_job
from workers.operations.tokens import grant_tokens
from workers.operations.users import require_user
from workers.operations.watching import Look
from workers.process.compose import open_runtime
from workers.process.runtime import Runtime
from workers.process.scheduler_loops import Scheduler
from workers.process.supervisor import WorkerProcesses
from workers.services.services import Services, embedded_services
from workers.submission import Picture, check_picture, store_picture, submit_enhancement

FOLDER: Final = "demo"
"""Folder under DARKROOM_HOME; the user's own data is beside it and is never changed."""

PROCESSES: Final = 2
LANES: Final = 4
"""Jobs at once per process, so that all of the demo's jobs run at once."""

STANDSTILL_S: Final = 120.0
"""Seconds for which the demo waits for the next of its jobs to begin a stage or to end.

Normally each takes a few. On a busy machine all of them together may take minutes, but if none goes on, a worker may
not have started.
"""

LEARNED_CPU_S: Final = 6.0
"""CPU seconds that networks may take for one picture; low, because seven jobs may share two cores."""

STOP_TIMEOUT_S: Final = 10.0
GRANTED_TOKENS: Final = 100
"""Tokens that a user gets whose balance doesn't cover the jobs."""

_HEEDED: Final = frozenset({"DARKROOM_HOME", "DARKROOM_LEARNED_CPU_S", "LOG_FORMAT", "LOG_LEVEL"})
_SERVICE_VARIABLES: Final = ("DATABASE_URL", "REDIS_URL", "BROKER_URL", "STORAGE_URL", "PROVIDER")


def run(out: Path, *, is_json: bool) -> int:
    """Run the demo and print its report; return the exit code.

    Raises:
        CommandError: the sample photographs are missing, or a worker doesn't start.
    """
    clock = _Clock()
    samples = samples_folder()
    settings = _settings()
    configure_logging(settings)
    if named := [name for name in _SERVICE_VARIABLES if os.environ.get(name)]:
        note(f"{', '.join(named)}: left alone; the demo uses services of its own in {settings.home}")
    note(f"starting PostgreSQL, Redis, {PROCESSES} worker processes and a scheduler in {settings.home}")
    outcome = Outcome(settings.home, phases_s=clock.phases_s)
    with _environment(settings), _interrupts_restored():
        with embedded_services(settings) as services:
            clock.lap("services")
            run_async(_Demo(settings, services, outcome, clock).run(samples, out, is_json=is_json))
        clock.lap("stop")

    print_report(outcome, is_json=is_json)
    return FAILED if outcome.problems else DONE


class _Clock:
    """Durations of phases by name."""

    def __init__(self) -> None:
        self.phases_s: dict[str, float] = {}
        self._since_s = time.monotonic()

    def lap(self, name: str) -> None:
        now_s = time.monotonic()
        self.phases_s[name] = now_s - self._since_s
        self._since_s = now_s


def _settings() -> Settings:
    """Return the settings of the environment that the demo uses: those of folders and of logging."""
    known = {variable_name(name) for name in Settings.model_fields}
    heeded = {name: value for name, value in os.environ.items() if name in _HEEDED or name not in known}
    given = load_settings(heeded)
    is_learned_given = "learned_cpu_s" in given.model_fields_set
    return given.model_copy(
        update={
            "home": given.home / FOLDER,
            "provider": ("local",),
            "tokens": "managed",
            "learned_cpu_s": given.of(LocalSettings).learned_cpu_s if is_learned_given else LEARNED_CPU_S,
            "log_level": given.log_level if "log_level" in given.model_fields_set else "error",
            "shutdown_grace_s": 0.0,
        }
    )


@contextlib.contextmanager
def _environment(settings: Settings) -> Iterator[None]:
    """Change the environment during the context, so that processes that are started have only the demo's settings."""
    before = dict(os.environ)
    for name in map(variable_name, Settings.model_fields):
        if name not in _HEEDED:
            os.environ.pop(name, None)
    os.environ |= {
        "DARKROOM_HOME": str(settings.home),
        "DARKROOM_LEARNED_CPU_S": str(settings.of(LocalSettings).learned_cpu_s),
        "DARKROOM_SHUTDOWN_GRACE_S": "0",
        "LOG_LEVEL": settings.log_level,
    }
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


class _Demo:
    def __init__(self, settings: Settings, services: Services, outcome: Outcome, clock: _Clock) -> None:
        self._settings = settings
        self._services = services
        self._outcome = outcome
        self._clock = clock

    async def run(self, samples: Path, out: Path, *, is_json: bool) -> None:

        settings, services, outcome, clock = self._settings, self._services, self._outcome, self._clock
        async with _Workers(settings, services) as workers:  # they wait for the migration, and start meanwhile
            await require_migrated(settings, services)
            clock.lap("migration")
            async with open_runtime(settings, services, wait_for_migration=False) as runtime:
                async with _scheduler(runtime):
                    entries = await self._submit_all(runtime, samples)
                    clock.lap("submission")
                    await self._follow(runtime, entries, is_json=is_json)
                    clock.lap("jobs")
                workers.stop()
                await self._look(runtime, entries)
                outcome.sheet, outcome.page = await _draw(outcome.facts, out)
                clock.lap("pictures")

    async def _submit_all(self, runtime: Runtime, samples: Path) -> list[Entry]:
        """Create users, give them the tokens that they lack, and submit their jobs."""
        users = {demo_job.user: await self._user(runtime, demo_job) for demo_job in DEMO_JOBS}
        emails = sorted({demo_job.email for demo_job in DEMO_JOBS})
        self._outcome.before = await runtime.database.run(lambda connection: balances_by_email(connection, emails))
        return [await self._submit(runtime, demo_job, users[demo_job.user], samples) for demo_job in DEMO_JOBS]

    @staticmethod
    async def _user(runtime: Runtime, demo_job: DemoJob) -> User:

        user = await require_user(runtime, demo_job.email)
        needed = sum(runtime.settings.prices[other.tier] for other in DEMO_JOBS if other.user == demo_job.user)
        if await runtime.database.run(lambda connection: balance_of(connection, user.id)) < needed:
            await grant_tokens(runtime, demo_job.email, GRANTED_TOKENS, actor=os_user(), reason="darkroom demo")
        return user

    async def _submit(self, runtime: Runtime, demo_job: DemoJob, user: User, samples: Path) -> Entry:

        original = self._read(samples, demo_job.sample)
        second = None if demo_job.second is None else self._read(samples, demo_job.second)
        image_id = await store_picture(runtime, user.id, original)
        second_id = None if second is None else await store_picture(runtime, user.id, second)
        if demo_job.is_missing:
            await _take_away(runtime, image_id)
        asked = Enhancement(user.id, image_id, demo_job.tier, source_image_id=second_id)
        job_id = await submit_enhancement(runtime, asked)
        return Entry(demo_job, job_id, original, second)

    def _read(self, samples: Path, stem: str) -> Picture:

        path = samples / f"{stem}.jpg"
        return check_picture(path.name, path.read_bytes(), self._settings)

    @staticmethod
    async def _follow(runtime: Runtime, entries: Sequence[Entry], *, is_json: bool) -> None:
        jobs = {entry.job_id: entry.demo_job for entry in entries}
        labels = {job_id: f"{job.name}, {job.user}, {_short(job.tier)}" for job_id, job in jobs.items()}
        try:
            await follow_jobs(
                runtime,
                labels,
                console(is_error=is_json),
                keeps_table=False,
                label_title="picture, user, tier",
                on_look=Standstill().give_up,
            )
        except BaseException:
            _ignore_interrupts()
            note("left before the end; what isn't over is cancelled")
            await _cancel(runtime, list(labels))  # so that a later demo doesn't find these jobs in its queue
            raise

    async def _look(self, runtime: Runtime, entries: Sequence[Entry]) -> None:

        outcome = self._outcome
        outcome.facts = await collect(runtime, entries)
        emails = list(outcome.before)
        outcome.after = await runtime.database.run(lambda connection: balances_by_email(connection, emails))
        outcome.problems = await problems(runtime, entries, outcome.facts)


class Standstill:
    """Ends the demo when none of its jobs goes on."""

    def __init__(self) -> None:
        self._seen: list[tuple[str | None, str | None]] = []
        self._since_s = time.monotonic()

    async def give_up(self, look: Look) -> None:
        """Look at the jobs once more.

        Raises:
            CommandError: for STANDSTILL_S no job has begun a stage or ended.
        """
        seen = [(one.status, one.stage) for one in look.jobs]
        if seen != self._seen:
            self._seen, self._since_s = seen, time.monotonic()
        elif time.monotonic() - self._since_s > STANDSTILL_S:
            raise CommandError(
                f"none of the demo's jobs has gone on for {STANDSTILL_S:g} s; LOG_LEVEL=info darkroom demo shows why"
            )


class _Workers:
    """The worker processes. They are told to stop only once: a second SIGTERM would end them without grace."""

    def __init__(self, settings: Settings, services: Services) -> None:

        self._processes = WorkerProcesses(
            *(settings, services),
            processes=PROCESSES,
            lanes=LANES,
            queues=queues_of(settings.stage_queues or {}),
        )
        self._stopping: asyncio.Task[int] | None = None

    def stop(self) -> asyncio.Task[int]:
        """Start stopping the processes; return the task, which ends when they have stopped."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(asyncio.to_thread(self._processes.stop, STOP_TIMEOUT_S))
        return self._stopping

    async def __aenter__(self) -> Self:
        self._processes.start()  # started in this thread, because they end with the thread that starts them
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _ignore_interrupts()
        await asyncio.shield(self.stop())


def _ignore_interrupts() -> None:
    """Ignore further Ctrl-C while everything stops in order, which takes seconds."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def _interrupts_restored() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.asynccontextmanager
async def _scheduler(runtime: Runtime) -> AsyncIterator[None]:
    """Run a scheduler beside the workers, on our own event loop as `darkroom up` does."""
    stopping = asyncio.Event()
    task = asyncio.create_task(Scheduler(runtime).run(stopping), name="scheduler")
    try:
        yield
    finally:
        stopping.set()
        await asyncio.shield(task)


async def _take_away(runtime: Runtime, image_id: str) -> None:
    """Delete a picture's object and keep its row, as if the storage had lost the object."""
    key = await runtime.database.run(lambda connection: original_key(connection, image_id))
    if key is not None:
        await runtime.storage.delete(key)


async def _cancel(runtime: Runtime, job_ids: Sequence[str]) -> None:

    for job_id in job_ids:
        with contextlib.suppress(OperationError):  # the job has ended meanwhile
            await cancel_job(runtime, job_id, actor=os_user(), reason="the demo was left")


async def _draw(facts: Sequence[Facts], out: Path) -> tuple[Path, Path]:
    """Write the sheet and the page at the same time, in threads: Pillow releases the interpreter while it works."""
    return await asyncio.gather(
        asyncio.to_thread(write_sheet, facts, out / "before-after.png"),
        asyncio.to_thread(write_page, facts, out / "before-after.html"),
    )


def _short(tier: str) -> str:
    """Return a tier as people type it: `4k` for TIER_4K."""
    return TierName[tier].value
