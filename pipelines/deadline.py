"""Deadlines that stand still while a job waits for something that others hold: a place at a provider, a pixel child.

One timer of the process looks for deadlines that have passed: thousands of jobs in flight would otherwise each set and
cancel a timer at every stage.
"""

import asyncio
import math
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from functools import lru_cache
from types import TracebackType
from typing import Any, Final, Self

LOOK_S: Final = 0.1
"""Seconds between two looks for deadlines that have passed, so a block may end that much later than its deadline."""

_CURRENT: Final[ContextVar[tuple["Deadline", ...]]] = ContextVar("current deadlines", default=())
"""The deadlines around the code that runs, the outermost first, and those whose blocks are over."""


class Deadline:
    """Limits the time of a `with` block as `asyncio.timeout` does, not counting that of `deadlines_paused`.

    The block raises TimeoutError if it took longer. Blocks of one task that follow each other may share a deadline.
    """

    __slots__ = ("_cancelling", "_is_expired", "_left_s", "_loop", "_task", "ends_s", "planned_s", "whole_s")

    def __init__(self, within_s: float = math.inf) -> None:
        """Store how long the block may take, in seconds. The current task is the one that runs the block."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a deadline needs a task, which it can cancel")
        self._task: Callable[[], Any] = weakref.ref(task)  # its context holds this deadline, which would be a cycle
        self._loop = asyncio.get_running_loop()
        self._left_s = self.whole_s = within_s
        self._is_expired = False
        self.ends_s: float | None = None
        """The time of the event loop at which it ends; None while it stands still, and between blocks."""
        self.planned_s = math.inf
        """The time of the event loop at which its block would end if it never stood still; infinite between blocks."""
        # Known from now on until the task ends, so that a block of a few microseconds needn't be announced
        _CURRENT.set((*_CURRENT.get(), self))
        _looks_of(self._loop).add(self)

    def within(self, within_s: float) -> Self:
        """Return this deadline for a block that may take so many seconds."""
        self._left_s = self.whole_s = within_s
        return self

    def __enter__(self) -> Self:
        self._is_expired = False
        self._cancelling = self._task().cancelling()
        self.ends_s = self.planned_s = self._loop.time() + self._left_s
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.planned_s = math.inf
        self.ends_s = None
        # As in asyncio.timeout: if somebody else has cancelled the task, too, it stays cancelled
        if self._is_expired and self._task().uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    @property
    def is_over(self) -> bool:
        """Whether the task has ended that runs the block."""
        task = self._task()
        return task is None or task.done()

    def expired(self) -> bool:
        """Return whether the block took longer."""
        return self._is_expired

    @property
    def has_passed(self) -> bool:
        """Whether the block should have ended by now. It may still run, as if it ignores that it was cancelled."""
        return self._is_expired or (self.ends_s is not None and self.ends_s <= self._loop.time())

    @property
    def left_s(self) -> float:
        """How many seconds the block may still take, not counting a wait that lasts."""
        return self._left_s if self.ends_s is None else max(0.0, self.ends_s - self._loop.time())

    def restart(self) -> None:
        """Let the rest of the block take as long, from now on, as the whole block might. It doesn't stand still now."""
        self._left_s = self.whole_s
        self.ends_s = self.planned_s = self._loop.time() + self.whole_s

    def pause(self) -> None:
        """Let it stand still until `resume`."""
        self._left_s = self.left_s
        self.ends_s = None

    def resume(self) -> None:
        """Let it go on with the time that was left, unless its block is over."""
        if self.planned_s != math.inf:
            self.ends_s = self._loop.time() + self._left_s

    def expire(self) -> None:
        """End the block now."""
        self.pause()
        self._is_expired = True
        self._task().cancel()


class _Looks:
    """The deadlines of one event loop's tasks, and the timer that looks at them while there are any."""

    def __init__(self) -> None:
        self._deadlines: set[Deadline] = set()
        self._is_timed = False

    def add(self, deadline: Deadline) -> None:
        self._deadlines.add(deadline)
        if not self._is_timed:
            self._is_timed = True
            asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        self._deadlines = {one for one in self._deadlines if not one.is_over}
        for deadline in [one for one in self._deadlines if one.ends_s is not None and one.ends_s <= now_s]:
            deadline.expire()
        self._is_timed = bool(self._deadlines)
        if self._is_timed:
            loop.call_later(LOOK_S, self._look)


@lru_cache(maxsize=1)
def _looks_of(_loop: asyncio.AbstractEventLoop) -> _Looks:
    return _Looks()


class deadlines_paused:  # noqa: N801 - named as contextlib names its own
    """Let all deadlines around a block stand still until the block ends."""

    __slots__ = ("_paused",)

    def __enter__(self) -> None:
        self._paused = [one for one in _CURRENT.get() if one.ends_s is not None]
        for one in self._paused:
            one.pause()

    def __exit__(self, *_: object) -> None:
        for one in self._paused:
            one.resume()
