"""Pixel work in child processes that can be killed, with limits of CPU, memory, wall clock and decoded bytes.

A decoder of untrusted bytes may loop, use up memory or crash. It does so in a child
that holds no secret (empty environment), and the worker goes on.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from pipelines.deadline import deadlines_paused
from pipelines.imaging.budget import ByteBudget
from pipelines.imaging.pixel_child import ChildLimits, PixelChild, Task

R = TypeVar("R")

MEMORY_BYTES = 1024 * 1024 * 1024
"""Address space of one child, so that its resident memory stays under 1 GB whatever picture it gets."""

BUDGET_BYTES = 1024 * 1024 * 1024
"""Decoded bytes in flight over all children: two pictures of 64 megapixels, or any number of ordinary ones."""

TASK_BYTES = 64 * 1024 * 1024
"""A task that doesn't name its decoded bytes is counted as so many."""

CPU_S = 30.0
"""CPU seconds of one task: 64 megapixels are decoded in 2 s, and the rest is for treatment at 4K."""

WALL_S = 120.0
"""Seconds of wall clock for one task: enough for a machine with four times as much work as it has cores."""


class PixelPool:
    """Runs pure, top-level functions in a few child processes, which are kept running.

    One pool per process, used from one event loop, which may run in any
    thread: each child belongs to a thread of its own that starts it, speaks
    to it over pipes and reaps it, so nothing here needs asyncio's child
    watchers. The kernel kills a child when the *thread* that forked it ends;
    these threads last as long as the pool.
    """

    def __init__(
        self,
        *,
        size: int | None = None,
        memory_bytes: int = MEMORY_BYTES,
        budget_bytes: int = BUDGET_BYTES,
        nice: int = 5,
        imports: tuple[str, ...] = (),
    ) -> None:
        """Prepare a pool; nothing starts before the first `run` or `keep_warm`.

        Args:
            size: children at most; None means one per core.
            memory_bytes: address space of each child.
            budget_bytes: decoded bytes in flight over all children.
            nice: how much children give way to the worker's own event loop, 0 to 19.
            imports: names of modules that each child imports at its start, beside decoding and encoding.
        """
        self._limits = ChildLimits(memory_bytes=memory_bytes, nice=nice, imports=imports)
        self._size = size or _core_count()
        self._budget = ByteBudget(budget_bytes)
        self._children: list[PixelChild] = []
        self._idle: list[PixelChild] = []
        self._slots = asyncio.Semaphore(self._size)
        self._is_closed = False
        self._warm_count = 0

    async def __aenter__(self) -> Self:
        """Return the pool itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the pool."""
        await self.close()

    @property
    def child_pids(self) -> tuple[int, ...]:
        """Return the process ids of the children that live, for `doctor` and tests."""
        return tuple(pid for child in self._children if (pid := child.pid) is not None)

    def keep_warm(self, count: int) -> None:
        """Start children now, each in its own thread, and start each again whenever it has ended.

        This returns at once. If a child can't be started, that is logged, and the start is tried again after a while.

        Args:
            count: how many; never more than the pool's size. The others start when all of these are busy.
        """
        self._warm_count = min(self._size, count)
        while len(self._children) < self._warm_count:
            self._idle.append(self._new_child())

    async def run(
        self,
        function: Callable[..., R],
        *args: Any,
        wall_s: float = WALL_S,
        cpu_s: float = CPU_S,
        task_bytes: int = TASK_BYTES,
        **kwargs: Any,
    ) -> R:
        """Call a function in a child and return its result.

        Cancelling the caller kills the child. Waiting for a free child is
        counted neither in `wall_s` nor by the caller's deadlines.

        Args:
            function: a pure function at the top level of an importable
                module, whose result is made of plain values, numpy arrays
                and classes of `pipelines`.
            *args: anything that can be pickled.
            wall_s: after so long the child is killed.
            cpu_s: CPU seconds, rounded up to a whole one.
            task_bytes: how many decoded bytes it will hold, such as
                `ImageHeader.decoded_bytes`; a task of more than the whole
                budget runs alone.
            **kwargs: anything that can be pickled.

        Raises:
            BadImageError: the picture was refused, or needs more CPU or memory
                than a task may take, or crashed its decoder.
            PixelChildLostError: the child was killed from outside, or the
                machine gave it no time.
            PixelFunctionError: the function failed in a way that it doesn't declare.
            StageError: any other error of `pipelines.errors` that the function raised.
            RuntimeError: the pool is closed.
        """
        if self._is_closed:
            raise RuntimeError("the pixel pool is closed")
        task = Task.of(function, args, kwargs, wall_s=wall_s, cpu_s=cpu_s)
        async with self._slot(), self._budget.hold(task_bytes):
            if self._is_closed:
                raise RuntimeError("the pixel pool was closed")
            child = self._idle.pop() if self._idle else self._new_child()
            future = asyncio.wrap_future(child.submit(task))
            try:
                result: R = await asyncio.shield(future)
            except asyncio.CancelledError:
                child.abort(task)
                await _settled(future)
                raise
            finally:
                self._idle.append(child)
                # an error holds this frame: if the frame held its future, the pictures would outlive the error
                del task, future
            return result

    async def close(self) -> None:
        """Kill every child and wait until all are reaped. Idempotent."""
        self._is_closed = True
        for child in self._children:
            child.close()
        for child in self._children:
            await asyncio.to_thread(child.join)
        self._children.clear()
        self._idle.clear()

    @contextlib.asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        """Wait until a child is free; while it waits, the caller's deadlines stand still."""
        with deadlines_paused():
            await self._slots.acquire()
        try:
            yield
        finally:
            self._slots.release()

    def _new_child(self) -> PixelChild:
        child = PixelChild(self._limits, is_kept_warm=len(self._children) < self._warm_count)
        self._children.append(child)
        return child


def _core_count() -> int:
    """Count the cores that this process may use, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


async def _settled(future: asyncio.Future[Any]) -> None:
    """Wait until a killed child is reaped, which takes milliseconds, even if the waiting task is cancelled again.

    Otherwise the child's place in the pool would be free too early.
    """
    while not future.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({future})
    if not future.cancelled():
        future.exception()  # nobody else retrieves it, which asyncio would log
