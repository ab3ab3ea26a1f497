"""Statements of many jobs that a process makes as one: what waits while one statement is on its way goes with the next.

Nothing waits in order to fill a group, and a statement of one is a group of one.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from config.outcome import outcome_of
from models.connections import DatabaseLostError

A = TypeVar("A")
R = TypeVar("R")

MOST_TOGETHER: Final = 128
"""How many go together at most. Calls that are admitted together have to be sent within a quarter of a second."""

LOOP_TURNS: Final = 5
"""Turns of the event loop before a group is taken, in which jobs go on that the statement before has answered."""


@dataclass(slots=True, eq=False)
class _Entry(Generic[A, R]):
    work: A
    done: "asyncio.Future[R]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Group(Generic[A, R]):
    """Collects one kind of statement of a process, on its event loop."""

    def __init__(
        self,
        together: Callable[[Sequence[A]], Awaitable[Sequence[R | None]]],
        alone: Callable[[A], Awaitable[R]],
        *,
        abandoned: Callable[[R], Coroutine[None, None, None]] | None = None,
    ) -> None:
        """Store what the statements are.

        Args:
            together: makes the statement of a group; returns the result of each, or None for one that must go alone.
            alone: makes the statement of one, also when that of its group is refused.
            abandoned: is given what was written for a job that was cancelled meanwhile. Without it, the statement of
                such a job is made, too.
        """
        self._together = together
        self._alone = alone
        self._abandoned = abandoned
        self._waiting: deque[_Entry[A, R]] = deque()
        self._flushing: asyncio.Task[None] | None = None
        self._apart: set[asyncio.Task[None]] = set()

    async def add(self, work: A) -> R:
        """Make a statement with the next group, and return its result. Raises what the statement raises."""
        entry: _Entry[A, R] = _Entry(work)
        self._waiting.append(entry)
        if self._flushing is None or self._flushing.done():
            self._flushing = self._begin(self._flush())
        try:
            return await entry.done
        except asyncio.CancelledError:
            if not entry.done.cancelled() and entry.done.exception() is None:  # it was answered in the same turn
                self._abandon(entry.done.result())
            raise

    async def _flush(self) -> None:
        group: deque[_Entry[A, R]] = deque()
        try:
            while self._waiting:
                for _ in range(LOOP_TURNS):
                    await asyncio.sleep(0)
                taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_TOGETHER))]
                group.extend(entry for entry in taken if self._is_wanted(entry))
                if group:
                    self._answer_all(group, await outcome_of(self._together([entry.work for entry in group])))
        finally:
            self._fail((*group, *self._waiting))
            self._waiting.clear()

    def _answer_all(self, group: deque[_Entry[A, R]], results: Sequence[R | None] | Exception) -> None:
        """Take every entry out of a group: answer it, or let it go alone."""
        if isinstance(results, DatabaseLostError | OSError):
            while group:
                self._answer(group.popleft(), results)
            return
        # A refusal of the whole statement, or a lock, may concern any of them: alone, only that one is refused or waits
        each = [None] * len(group) if isinstance(results, Exception) else results
        if len(each) != len(group):
            raise ValueError(f"{len(each)} results for a group of {len(group)}")
        for result in each:
            entry = group.popleft()
            if result is None:
                self._keep(self._begin(self._go_alone(entry)))
            else:
                self._answer(entry, result)

    async def _go_alone(self, entry: _Entry[A, R]) -> None:
        try:
            if self._is_wanted(entry):
                self._answer(entry, await outcome_of(self._alone(entry.work)))
        finally:
            self._fail([entry])

    def _is_wanted(self, entry: _Entry[A, R]) -> bool:
        return self._abandoned is None or not entry.done.done()  # a cancelled job's is done

    def _fail(self, entries: Iterable[_Entry[A, R]]) -> None:
        """Answer what a bug, or the end of the event loop, has left without an answer."""
        for entry in entries:
            if not entry.done.done():
                entry.done.set_exception(RuntimeError("the statement's task died"))

    def _answer(self, entry: _Entry[A, R], result: R | Exception) -> None:
        if entry.done.done():
            if not isinstance(result, Exception):
                self._abandon(result)
        elif isinstance(result, Exception):
            entry.done.set_exception(result)
        else:
            entry.done.set_result(result)

    def _abandon(self, result: R) -> None:
        if self._abandoned is not None:
            self._keep(self._begin(self._abandoned(result)))

    def _begin(self, work: Coroutine[None, None, None]) -> "asyncio.Task[None]":
        # not in the context of the job that happens to begin it: its log fields and deadlines are its own
        return asyncio.get_running_loop().create_task(work, context=Context())

    def _keep(self, task: "asyncio.Task[None]") -> None:
        self._apart.add(task)
        task.add_done_callback(self._apart.discard)
