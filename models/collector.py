"""Collects what many jobs of a process ask of the database at one moment, so that one statement does it for all.

While one statement is under way, further items wait, and the next statement takes them all; no time is waited in order
to make a group larger, and one item is a group of one. What a refusal of the whole concerns is found by smaller groups,
so that one job's refusal concerns no other job in the end.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterable, Sequence
from contextvars import Context, copy_context
from enum import Enum, auto
from itertools import count, islice
from typing import Final, Generic, TypeVar

from config.logger import EventLogger
from config.outcome import outcome_of
from models.connections import DatabaseLostError
from models.database_retries import DATABASE_GONE_S

A = TypeVar("A")
R = TypeVar("R")

log = EventLogger(__name__)

TURNS: Final = 5
"""Turns of the event loop before a group is taken.

In so many turns the jobs that the former statement has set free ask again, if they only compute.
"""

PARTS: Final = 16
"""Into how many smaller groups a refused one is split.

One refused item of 256 costs 33 statements and two waits for a statement that takes too long; with halves they would be
17 and eight, and each alone at once 257 and one.
"""


class Unanswered(Enum):
    """What becomes of an item that the statement of its group had no answer for."""

    AGAIN = auto()
    """It goes with the next group."""

    ALONE = auto()
    """It goes alone, while other groups go on."""


class Item(Generic[A, R]):
    """What one job asks, and the future of the answer."""

    __slots__ = ("context", "done", "key", "work")

    def __init__(self, work: A, key: Hashable) -> None:
        self.work = work
        self.key = key
        self.done: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self.context = copy_context()
        """What log lines say of the job, if its item goes alone."""


class Collector(Generic[A, R]):
    """Collects the items of one kind of statement of a process, on its event loop."""

    def __init__(
        self,
        together: Callable[[Sequence[A]], Awaitable[Sequence[R | Unanswered]]],
        alone: Callable[[A], Awaitable[R]],
        *,
        most: int,
        turns: asyncio.Semaphore,
        concerning_all: tuple[type[Exception], ...] = (DatabaseLostError, OSError),
        repeats_lost: bool = False,
        abandoned: Callable[[R], Coroutine[None, None, None]] | None = None,
    ) -> None:
        """Store what the statements are, and what follows if one has no answer.

        Args:
            together: runs the statement of a group; returns the answer of each item.
            alone: runs the statement of one item; its error is the item's.
            most: how many items go together at most.
            turns: taken by the parts of refused groups, so that they leave connections to others.
            concerning_all: errors of a group's statement that are the answer of each of its items. After another
                error the group is split into PARTS.
            repeats_lost: whether, while PostgreSQL is unreachable, the items of a group wait and go with the next one.
            abandoned: is given what came for an item whose job was cancelled meanwhile; such an item isn't sent. If it
                is None, the statement is run for the items of cancelled jobs, too.
        """
        self._together = together
        self._alone = alone
        self._most = most
        self._turns = turns
        self._concerning_all = concerning_all
        self._repeats_lost = repeats_lost
        self._abandoned = abandoned
        self._numbers = count()
        self._waiting: dict[Hashable, Item[A, R]] = {}
        self._again: list[Item[A, R]] = []
        self._under_way: set[Hashable] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_running = False

    async def ask(self, work: A) -> R:
        """Send an item with the next group, and return its answer. Raises the error of its statement."""
        done = self.add(work).done
        try:
            return await done
        except asyncio.CancelledError:
            if not done.cancelled() and done.exception() is None:  # it was answered in the same turn
                self._abandon(done.result())
            raise
        finally:
            # an error holds this frame: if the frame held its future, what the job holds would outlive the error
            del done

    def add(self, work: A, key: Hashable = None) -> Item[A, R]:
        """Send an item with the next group.

        Args:
            work: what is asked.
            key: of items with the same key one is under way at a time, and one more may wait. If the first one fails,
                the waiting one fails with the same error. None: the item has nothing to do with any other.
        """
        item: Item[A, R] = Item(work, next(self._numbers) if key is None else key)
        self._waiting[item.key] = item
        self._run_soon()
        return item

    def waiting(self, key: Hashable) -> Item[A, R] | None:
        """Return the item with this key that waits, to which the caller may add before it is sent."""
        return self._waiting.get(key)

    def _run_soon(self) -> None:
        if not self._is_running:
            self._is_running = True
            self._start(self._run(), Context())  # its log lines and deadlines are no single job's

    def _start(self, work: Coroutine[None, None, None], context: Context) -> None:
        task = asyncio.get_running_loop().create_task(work, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self) -> None:
        """Send group after group until nothing is left that may be sent."""
        try:
            while True:
                for _ in range(TURNS):
                    await asyncio.sleep(0)
                group = self._take()
                if not group:
                    return
                await self._send(group)
        except BaseException:
            self._fail((*self._again, *self._waiting.values()))
            self._again.clear()
            raise
        finally:
            self._is_running = False

    def _take(self) -> Sequence[Item[A, R]]:
        """Return the items of the next group, at most one of each key."""
        group = self._again[: self._most]
        del self._again[: self._most]
        free = (key for key in self._waiting if key not in self._under_way)
        for key in list(islice(free, self._most - len(group))):
            self._under_way.add(key)
            group.append(self._waiting.pop(key))
        return group

    async def _send(self, group: Sequence[Item[A, R]]) -> None:
        """Run the statement of a group, and see to each item."""
        try:
            group = self._wanted(group)
            answers = await self._answers(group)
        except BaseException:
            self._fail(group)
            raise
        if isinstance(answers, Exception):
            log.warning("group_refused", count=len(group), error=str(answers), error_type=type(answers).__name__)
            self._split(group)
            return
        for item, answer in zip(group, answers, strict=True):
            if not isinstance(answer, Unanswered):
                self._answer(item, answer)
            elif answer is Unanswered.AGAIN:
                self._again.append(item)
            else:
                self._start(self._go_alone(item), item.context)
        if self._again:
            self._run_soon()

    async def _answers(self, group: Sequence[Item[A, R]]) -> Sequence[R | Unanswered | Exception] | Exception:
        """Return the answer of each item, or an error for which the group is to be split."""
        answers = await outcome_of(self._together([item.work for item in group])) if group else []
        if self._repeats_lost and isinstance(answers, DatabaseLostError | OSError):
            log.warning("database_awaited", error=str(answers), error_type=type(answers).__name__)
            await asyncio.sleep(DATABASE_GONE_S)
            return [Unanswered.AGAIN] * len(group)  # whether it was committed shows then
        if isinstance(answers, self._concerning_all):
            return [answers] * len(group)
        if not isinstance(answers, Exception) and len(answers) != len(group):
            raise ValueError(f"{len(answers)} answers for {len(group)} items")
        return answers

    def _split(self, group: Sequence[Item[A, R]]) -> None:
        """Send a refused group in parts, and an item alone, while other groups go on."""
        size = -(-len(group) // PARTS)
        for part in (group[first : first + size] for first in range(0, len(group), size)):
            if len(part) == 1:
                self._start(self._go_alone(part[0]), part[0].context)
            else:
                self._start(self._send_part(part), Context())

    async def _send_part(self, part: Sequence[Item[A, R]]) -> None:
        try:
            async with self._turns:
                await self._send(part)
        except BaseException:
            self._fail(part)
            raise

    async def _go_alone(self, item: Item[A, R]) -> None:
        try:
            for one in self._wanted([item]):
                self._answer(one, await outcome_of(self._alone(one.work)))
        except BaseException:
            self._fail([item])
            raise

    def _wanted(self, items: Sequence[Item[A, R]]) -> Sequence[Item[A, R]]:
        """Return the items that are to be sent, and drop those of cancelled jobs."""
        if self._abandoned is None:
            return items
        self._under_way.difference_update(item.key for item in items if item.done.done())
        return [item for item in items if not item.done.done()]

    def _fail(self, items: Iterable[Item[A, R]]) -> None:
        """Answer what a bug, or the end of the event loop, leaves without an answer."""
        for item in items:
            self._answer(item, RuntimeError("the task of the statement died"))

    def _answer(self, item: Item[A, R], answer: R | Exception) -> None:
        self._under_way.discard(item.key)
        if isinstance(answer, Exception):
            for one in (item, self._waiting.pop(item.key, item)):
                if not one.done.done():
                    one.done.set_exception(answer)
            return
        if not item.done.done():
            item.done.set_result(answer)
        else:
            self._abandon(answer)
        if item.key in self._waiting:
            self._run_soon()

    def _abandon(self, answer: R) -> None:
        if self._abandoned is not None:
            self._start(self._abandoned(answer), Context())
