"""The engine of periodic tasks: inserts ticks when they are due, and works on them in chunks.

Any number of engines may run at once.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from config.logger import EventLogger
from config.outcome import outcome_of
from models.connections import Connection, ContentionError, DatabaseLostError, is_cancelled
from models.database import Database
from models.periodic import ticks
from models.periodic.needs import missing_columns, passed_over
from models.periodic.terms import record_terms
from models.schema.settings import is_managed
from pipelines.settings import Settings
from pipelines.storage.storage import Storage
from workers.periodic.schedule import InvalidScheduleError, Schedule
from workers.periodic.task import Chunk, Task, Work

log = EventLogger(__name__)

MOST_AT_ONCE: Final = 2
"""How many tasks a scheduler works on at a time: it has few connections, and wake-ups and rescue need them first."""

FIRST_SIZE: Final = 1_000
SMALLEST_SIZE: Final = 100
LARGEST_SIZE: Final = 10_000
CHUNK_S: Final = (0.04, 0.08)
"""Bounds, in seconds, of a chunk's duration: after a faster one the size is doubled, after a slower one halved.

Other transactions wait that long for the chunk's rows.
"""

Clock = Callable[[], Awaitable[datetime]]


@dataclass(frozen=True, slots=True)
class Progress:
    """What one chunk of a tick did; `failure` is the error that the task raised, which is also stored with the tick."""

    at: datetime
    counts: dict[str, int]
    is_finished: bool
    failure: Exception | None = None


class PeriodicEngine:
    """All periodic tasks of one process."""

    def __init__(
        self,
        database: Database,
        storage: Storage,
        settings: Settings,
        tasks: Iterable[Task],
        *,
        clock: Clock | None = None,
    ) -> None:
        """Prepare the engine; nothing runs yet.

        Args:
            database: where ticks and schedules are.
            storage: where the objects are.
            settings: the settings.
            tasks: from `workers.periodic.registry`.
            clock: the time by which ticks are due; the database's, except in tests.
        """
        self.tasks = {task.name: task for task in tasks}
        self._database = database
        self._storage = storage
        self._settings = settings
        self._clock = clock
        self._sizes = dict.fromkeys(self.tasks, FIRST_SIZE)
        self._complaints: dict[str, str] = {}
        self._are_terms_recorded = False

    async def run_once(self) -> int:
        """Insert the ticks that are due, and work on unfinished ones within each task's limit of time.

        Return the number of chunks.
        """
        await self._record_terms()
        states = await self._database.run(lambda connection: ticks.schedule_states(connection, list(self.tasks)))
        by_clock = await self._clock() if self._clock else None
        turn = asyncio.Semaphore(MOST_AT_ONCE)

        async def attend(task: Task) -> int:
            state = states[task.name]
            async with turn:
                return await self._attend(task, state, by_clock or state.read_at)

        return sum(await asyncio.gather(*(attend(task) for task in self.tasks.values())))

    async def run_extra(self, name: str, at: datetime) -> dict[str, int]:
        """Insert an extra tick of a task at a time, work on it to its end and return its counts.

        Raises:
            Exception: the error that the task raised, which is also stored with the tick.
        """
        await self._record_terms()
        task = self.tasks[name]
        await self._database.commit("open_tick", lambda connection: ticks.open_tick(connection, name, at))
        while True:
            progress = await self._work(task, at)
            if progress is not None and progress.failure is not None:
                raise progress.failure
            if progress is not None and progress.is_finished:
                return progress.counts
            if progress is None:  # a scheduler works on it
                counts = await self._database.run(lambda connection: ticks.counts_at_end(connection, name, at))
                if counts is not None:
                    return counts
                await asyncio.sleep(0.1)

    async def count(self, name: str, at: datetime) -> dict[str, int]:
        """Return what a tick of a task at a time would count, without doing anything."""
        await self._record_terms()
        task = self.tasks[name]

        async def work(connection: Connection) -> dict[str, int]:
            async with connection.transaction(readonly=True):
                if not await self._is_wanted(task, connection):
                    return {}
                return dict(await task.count(self._work_of(task, connection, at, None)))

        return await self._database.run(work)

    def schedule(self, name: str, changes: Mapping[str, object]) -> Schedule:
        """Return a task's schedule from its default, the settings and an operator's changes.

        Raises:
            InvalidScheduleError: it can't be read.
        """
        return self.tasks[name].schedule.changed(self._settings.schedules.get(name), changes)

    async def _attend(self, task: Task, state: ticks.ScheduleState, now: datetime) -> int:
        """Insert one task's due ticks and work on its ticks, until its limit of time is reached.

        Return the number of chunks.
        """
        try:
            schedule = self.schedule(task.name, state.changes)
        except InvalidScheduleError as error:
            if self._complaints.get(task.name) != str(error):  # otherwise it would be logged each second
                log.warning("schedule_invalid", task=task.name, error=str(error))
                self._complaints[task.name] = str(error)
            return 0
        if schedule.is_paused:
            return 0
        added = await self._plan(task.name, schedule, state, now)
        return await self._work_for_a_while(task) if added or state.has_unfinished else 0

    async def _plan(self, name: str, schedule: Schedule, state: ticks.ScheduleState, now: datetime) -> int:
        since = state.planned_until
        if since is None:
            await self._database.commit(
                "begin_schedule", lambda connection: ticks.begin_schedule(connection, name, now)
            )
            return 0
        if not schedule.due(since, now):
            return 0

        async def plan(connection: Connection) -> tuple[int, int]:
            async with connection.transaction():
                planned_until = await ticks.lock_schedule(connection, name)
                if planned_until is None:
                    return 0, 0
                due = schedule.due(planned_until, now)
                kept = schedule.kept(due, now)
                added = await ticks.add_ticks(connection, name, kept, max(now, planned_until))
                return added, len(due) - len(kept)

        added, missed = await self._database.commit("plan_ticks", plan)
        if missed:
            log.warning("ticks_missed", task=name, missed=missed, policy=schedule.missed)
        return added

    async def _work_for_a_while(self, task: Task) -> int:
        until = time.monotonic() + self._settings.tick_budget_s
        chunks = 0
        while time.monotonic() < until:
            began = time.monotonic()
            progress = await self._work(task)
            # the tick's row has the error, and the time of the next try
            if progress is None or progress.failure is not None:
                break
            chunks += 1
            if task.rest_factor and not progress.is_finished:
                await asyncio.sleep((time.monotonic() - began) * task.rest_factor)
        return chunks

    async def _work(self, task: Task, at: datetime | None = None) -> Progress | None:
        """Run the next chunk of a task's first unfinished tick, or of the tick at a time.

        The result is None if there is no such tick.
        """
        locked: ticks.Tick | None = None

        async def work(connection: Connection) -> Progress | None:
            nonlocal locked
            async with connection.transaction():
                locked = tick = await ticks.lock_tick(connection, task.name, at)
                if tick is None:
                    return None
                began = time.monotonic()
                chunk = Chunk(None, {})
                if await self._is_wanted(task, connection):
                    chunk = await task.chunk(self._work_of(task, connection, tick.at, tick.cursor))
                counts = dict(tick.counts)
                for name, number in chunk.counts.items():
                    counts[name] = counts.get(name, 0) + number
                await ticks.save_progress(connection, tick, chunk.cursor, counts)
            self._adapt(task.name, time.monotonic() - began)
            return Progress(tick.at, counts, is_finished=chunk.cursor is None)

        progress = await outcome_of(self._database.commit("tick_chunk", work))
        if isinstance(progress, Exception):
            if is_cancelled(progress):  # the role's time limit cancelled it: a smaller chunk may be fast enough
                self._adapt(task.name, math.inf)
            if locked is None or _may_pass(progress):
                raise progress
            await self._fail(task.name, locked.at, progress)
            return Progress(locked.at, locked.counts, is_finished=False, failure=progress)
        if progress is not None and progress.is_finished:
            log.info("tick_completed", task=task.name, tick_at=progress.at.isoformat(), **progress.counts)
        return progress

    async def _fail(self, name: str, at: datetime, error: Exception) -> None:
        text = f"{type(error).__name__}: {error}"[:500]
        is_over = await self._database.commit(
            "fail_tick", lambda connection: ticks.save_failure(connection, name, at, text)
        )
        log.error("tick_failed", task=name, tick_at=at.isoformat(), error=text, is_over=is_over)

    async def _is_wanted(self, task: Task, connection: Connection) -> bool:
        if not task.is_on(self._settings):
            return False
        if task.needs and (reason := passed_over(task.needs, await missing_columns(connection, task.needs))):
            if self._complaints.get(task.name) != reason:  # otherwise it would be logged with each tick
                log.warning("task_passed_over", task=task.name, reason=reason)
                self._complaints[task.name] = reason
            return False
        return not task.moves_money or await is_managed(connection)

    def _work_of(self, task: Task, connection: Connection, at: datetime, cursor: ticks.Cursor | None) -> Work:
        return Work(connection, at, cursor, self._sizes[task.name], self._settings, self._storage)

    def _adapt(self, name: str, took_s: float) -> None:
        shortest_s, longest_s = CHUNK_S
        size = self._sizes[name]
        if took_s > longest_s:
            self._sizes[name] = max(size // 2, SMALLEST_SIZE)
        elif took_s < shortest_s:
            self._sizes[name] = min(size * 2, LARGEST_SIZE)

    async def _record_terms(self) -> None:
        """Record the terms of regeneration, once, for `darkroom.regenerate`."""
        if not self._are_terms_recorded:
            await self._database.commit(
                "record_terms", lambda connection: record_terms(connection, self._settings.regeneration_terms())
            )
            self._are_terms_recorded = True


def _may_pass(error: Exception) -> bool:
    """Return whether a chunk failed for a reason that may pass; then the tick is unchanged and is tried again."""
    return isinstance(error, DatabaseLostError | ContentionError) or is_cancelled(error)
