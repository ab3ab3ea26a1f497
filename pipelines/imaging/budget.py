"""A semaphore that counts bytes."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pipelines.deadline import deadlines_paused


class ByteBudget:
    """A semaphore that limits the bytes held at a time, first come, first served.

    A task that comes later waits even if its smaller request would fit: otherwise
    small pictures could keep a large one waiting for ever. Deadlines of a task that
    waits stand still. A budget is used from one event loop.
    """

    def __init__(self, total_bytes: int) -> None:
        self._total_bytes = total_bytes
        self._free_bytes = total_bytes
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def free_bytes(self) -> int:
        """Return how many bytes are free."""
        return self._free_bytes

    @asynccontextmanager
    async def hold(self, wanted_bytes: int) -> AsyncIterator["Held"]:
        """Hold bytes for the length of a block.

        A task that wants more than the whole budget gets the whole, when all is free.
        """
        held = Held(self, min(max(0, wanted_bytes), self._total_bytes))
        await self._acquire(held.counted_bytes)
        try:
            yield held
        finally:
            held.shrink(0)

    async def _acquire(self, counted_bytes: int) -> None:
        if not self._waiting and counted_bytes <= self._free_bytes:
            self._free_bytes -= counted_bytes
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (counted_bytes, turn)
        self._waiting.append(entry)
        try:
            with deadlines_paused():
                await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release(counted_bytes)  # the bytes were granted in the moment in which the task was cancelled
            else:
                self._waiting.remove(entry)
                self._grant()  # a later task in the queue may fit
            raise

    def release(self, counted_bytes: int) -> None:
        """Return bytes to the budget and wake the tasks that wait for them."""
        self._free_bytes += counted_bytes
        self._grant()

    def _grant(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free_bytes:
            counted_bytes, turn = self._waiting.popleft()
            self._free_bytes -= counted_bytes
            turn.set_result(None)


class Held:
    """Bytes that a task holds.

    A task asks for the most that it may need, and returns what it doesn't need in the end.
    """

    def __init__(self, budget: ByteBudget, counted_bytes: int) -> None:
        self._budget = budget
        self.counted_bytes = counted_bytes

    def shrink(self, needed_bytes: int) -> None:
        """Return to the budget all but `needed_bytes`."""
        surplus_bytes = max(0, self.counted_bytes - needed_bytes)
        self.counted_bytes -= surplus_bytes
        self._budget.release(surplus_bytes)
