"""Statements of many jobs that a process makes as one: what waits while one statement is on its way goes with the next.

Nothing waits in order to fill a group, and a statement of one is a group of one.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from config.outcome import outcome_of
from models.connections import ContentionError, DatabaseLostError

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
            abandoned: is given what was written for a job that was cancelled meanwhile.
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
        return await entry.done

    async def _flush(self) -> None:
        while self._waiting:
            for _ in range(LOOP_TURNS):
                await asyncio.sleep(0)
            taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_TOGETHER))]
            group = [entry for entry in taken if not entry.done.done()]  # a cancelled job's is done
            if not group:
                continue
            results = await outcome_of(self._together([entry.work for entry in group]))
            if isinstance(results, DatabaseLostError | ContentionError | OSError):
                for entry in group:
                    self._answer(entry, results)
            else:
                # A refusal of the whole statement may concern any of them: alone, only that one is refused
                each = [None] * len(group) if isinstance(results, Exception) else results
                for entry, result in zip(group, each, strict=True):
                    if result is None:
                        self._keep(self._begin(self._go_alone(entry)))
                    else:
                        self._answer(entry, result)

    async def _go_alone(self, entry: _Entry[A, R]) -> None:
        if not entry.done.done():
            self._answer(entry, await outcome_of(self._alone(entry.work)))

    def _answer(self, entry: _Entry[A, R], result: R | Exception) -> None:
        if entry.done.done():
            if self._abandoned is not None and not isinstance(result, Exception):
                self._keep(self._begin(self._abandoned(result)))
        elif isinstance(result, Exception):
            entry.done.set_exception(result)
        else:
            entry.done.set_result(result)

    def _begin(self, work: Coroutine[None, None, None]) -> "asyncio.Task[None]":
        # not in the context of the job that happens to begin it: its log fields and deadlines are its own
        return asyncio.get_running_loop().create_task(work, context=Context())

    def _keep(self, task: "asyncio.Task[None]") -> None:
        self._apart.add(task)
        task.add_done_callback(self._apart.discard)
