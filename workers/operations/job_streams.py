"""Progress of jobs for many watchers: one connection listens, and each round reads all watched jobs together."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import asyncpg

from config.logger import EventLogger
from models.connections import Connection, ContentionError, DatabaseLostError
from models.job_state import JobStatus
from models.queue.job_names import JobKey
from models.queue.job_pictures import result_keys
from models.queue.job_rows import jobs_at
from models.queue.listening import listen
from models.queue.outlook import Outlook, outlooks
from models.queue.progress import JobProgress, job_progress
from models.queue.waiting import queued_job
from workers.operations.waiting import Waiting, waits_of
from workers.operations.watching import CHANNEL
from workers.process.runtime import Runtime

log = EventLogger(__name__)

ROUND_S: Final = 1.0
"""Seconds between two events of a job, at least."""

POLL_S: Final = 1.0
"""Seconds after which jobs are read though nothing was notified: a stage isn't, and behind some poolers nothing is."""

CHECK_S: Final = 10.0
"""Seconds after which a watcher who hears nothing looks whether jobs are still read."""

EXPLAINED_S: Final = 5.0
"""Seconds after which it is asked again why a job waits and how long, which takes several statements."""

MOST_EXPLAINED: Final = 5
"""For so many jobs of a round at most; the others follow in the next ones."""

MOST_WATCHED: Final = 2_000
"""So many jobs may be watched at once."""


class TooManyWatchedError(Exception):
    """Raised when MOST_WATCHED jobs are watched already."""


@dataclass(frozen=True, slots=True)
class JobView:
    """What a watcher of a job is told.

    Attributes:
        progress: of the job; its status is None once its row is deleted.
        outlook: its place, and the estimate of its end; None while that isn't known, and once it is over.
        waits: why it waits, the first reason first.
    """

    progress: JobProgress
    outlook: Outlook | None = None
    waits: Sequence[Waiting] = ()

    def differs(self, other: "JobView") -> bool:
        """Return whether a watcher has to be told; the passing of time is no change."""
        return self.signs != other.signs

    @property
    def signs(self) -> tuple[object, ...]:
        """What a watcher is told when it changes."""
        one, outlook = self.progress, self.outlook
        place = None if outlook is None else outlook.place
        # an estimate that shrinks as time passes says nothing new; one that is 1.3 times another does
        eta = None if outlook is None or not outlook.eta_s else round(outlook.eta_s + one.elapsed_s, -1)
        return (one.status, one.stage, one.attempts, one.error, place, eta, tuple(wait.kind for wait in self.waits))


@dataclass(slots=True, eq=False)
class _Watched:
    """A job, and those who watch it."""

    name: str
    key: JobKey
    watchers: set["_Watcher"] = field(default_factory=set)
    view: JobView | None = None
    explained_s: float = float("-inf")
    is_dirty: bool = True


@dataclass(slots=True, eq=False)
class _Watcher:
    """Who watches a job: the last view, and whether it has been seen."""

    view: JobView | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class JobStreams:
    """Watches jobs for all who ask; one for a process. It reads only while somebody watches."""

    def __init__(self, runtime: Runtime) -> None:
        """Prepare it; nothing is read before somebody watches."""
        self._runtime = runtime
        self._jobs: dict[JobKey, _Watched] = {}
        self._by_id: dict[str, set[_Watched]] = {}
        self._woken = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def watchers(self) -> int:
        """How many watch."""
        return sum(len(job.watchers) for job in self._jobs.values())

    async def watch(self, name: str, key: JobKey) -> AsyncGenerator[JobView, None]:
        """Yield what is known of a job: at once, and after each change, at most one in ROUND_S.

        The last one is that of its end, or that its row is deleted.

        Raises:
            TooManyWatchedError: too many jobs are watched already.
        """
        job = self._jobs.get(key)
        if job is None:
            if len(self._jobs) >= MOST_WATCHED:
                raise TooManyWatchedError
            job = self._jobs[key] = _Watched(name, key)
            self._by_id.setdefault(key.job_id, set()).add(job)
        watcher = _Watcher()
        if job.view is not None:
            watcher.view = job.view
            watcher.changed.set()
        job.watchers.add(watcher)
        job.is_dirty = True
        self._start()
        try:
            while True:
                try:
                    async with asyncio.timeout(CHECK_S):
                        await watcher.changed.wait()
                except TimeoutError:
                    self._start()
                    continue
                watcher.changed.clear()
                view = watcher.view
                assert view is not None  # noqa: S101 - it is there before the event is set
                yield view
                if view.progress.is_over:
                    return
                await asyncio.sleep(ROUND_S)
        finally:
            job.watchers.discard(watcher)
            if not job.watchers:
                self._forget(job)

    def _forget(self, job: _Watched) -> None:
        del self._jobs[job.key]
        same = self._by_id[job.key.job_id]
        same.discard(job)
        if not same:
            del self._by_id[job.key.job_id]
        if not self._jobs:
            self._stop()

    async def aclose(self) -> None:
        """Stop listening and reading."""
        tasks = self._tasks
        self._stop()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self) -> None:
        self._woken.set()
        if any(task.done() for task in self._tasks):  # an error that nobody foresaw, which asyncio logs
            self._stop()
        if not self._tasks:
            self._tasks = [asyncio.create_task(work(), name="job streams") for work in (self._listen, self._read)]

    def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._tasks = []

    def _heard(self, payload: str) -> None:
        with contextlib.suppress(ValueError, TypeError, KeyError):  # any program may write to a channel
            for job in self._by_id.get(json.loads(payload)["id"], ()):
                job.is_dirty = True
                self._woken.set()

    def _began(self) -> None:
        for job in self._jobs.values():  # they may have changed before the connection listened
            job.is_dirty = True
        self._woken.set()

    async def _listen(self) -> None:
        while True:
            with contextlib.suppress(DatabaseLostError, OSError):
                await listen(self._runtime.database, CHANNEL, self._heard, begun=self._began)
            await asyncio.sleep(POLL_S)

    async def _read(self) -> None:
        polled_s = time.monotonic()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._woken.wait()
            self._woken.clear()
            began_s = time.monotonic()
            if began_s - polled_s >= POLL_S:
                polled_s = began_s
                for job in self._jobs.values():
                    job.is_dirty = True
            try:
                await self._look([job for job in self._jobs.values() if job.is_dirty])
            except (DatabaseLostError, ContentionError, asyncpg.PostgresError, OSError) as error:
                log.debug("listen_failed", error=str(error))
                await asyncio.sleep(POLL_S)
                self._began()
            await asyncio.sleep(max(0.05, ROUND_S / 4 - (time.monotonic() - began_s)))

    async def _look(self, jobs: Iterable[_Watched]) -> None:
        asked = list(jobs)
        if not asked:
            return
        for job in asked:
            job.is_dirty = False
        named = {str(number): job.key for number, job in enumerate(asked)}
        found = await self._runtime.database.run(lambda connection: job_progress(connection, named))
        now_s = time.monotonic()
        views = {}
        for job, progress in zip(asked, found, strict=True):
            old = job.view
            kept = old is not None and not progress.is_over and old.progress.status == progress.status
            views[job] = JobView(progress, old.outlook, old.waits) if kept and old else JobView(progress)
            if not kept:
                job.explained_s = float("-inf")
        due = [job for job in asked if not views[job].progress.is_over and now_s - job.explained_s >= EXPLAINED_S]
        due.sort(key=lambda job: job.explained_s)
        for job in due[MOST_EXPLAINED:]:
            job.is_dirty = True
        if due:
            views |= await self._explained({job: views[job] for job in due[:MOST_EXPLAINED]}, now_s)
        for job, view in views.items():
            is_new = job.view is None or view.differs(job.view) or view.progress.is_over
            job.view = view
            for watcher in job.watchers:
                if is_new or watcher.view is None:
                    watcher.view = view
                    watcher.changed.set()

    async def _explained(self, views: dict[_Watched, JobView], now_s: float) -> dict[_Watched, JobView]:
        runtime = self._runtime
        keys = [job.key for job in views]

        async def read(connection: Connection) -> dict[JobKey, Outlook]:
            return await outlooks(connection, keys)

        places = await runtime.database.run(read)
        rows = {row.key: row for row in await runtime.database.run(lambda connection: jobs_at(connection, keys))}
        explained = {}
        for job, view in views.items():
            job.explained_s = now_s
            row = rows.get(job.key)
            waits: Sequence[Waiting] = ()
            if row is not None and row.status in {JobStatus.PENDING, JobStatus.PROCESSING}:
                types = job.key.table.job_types
                queued = await runtime.database.run(partial(queued_job, job_id=job.key.job_id, types=types))
                waits = await waits_of(runtime, row, queued)
            explained[job] = JobView(view.progress, places.get(job.key), waits)
        return explained


async def result_url(runtime: Runtime, key: JobKey) -> str | None:
    """Return the URL of a completed job's first picture where its row has none; None if there is no picture."""

    async def read(connection: Connection) -> Sequence[str]:
        jobs = await jobs_at(connection, [key])
        return await result_keys(connection, jobs[0]) if jobs else ()

    keys = await runtime.database.run(read)
    return runtime.storage.url(keys[0]) if keys else None
