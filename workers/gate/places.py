"""Calls of one process that wait for a free place at a provider, which takes only so many calls at a time.

While nothing waits, a process counts on from its last look at the provider's cell with its own calls, for a second. It
looks anew if that leaves no place, or if the gate has refused a call or a call has failed, and, while calls wait, when
one of its calls ends and once a second. All that ask while a look is in progress are answered by the next one.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextvars import Context
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any, Final

from config.outcome import outcome_of
from models.database import Database
from models.gate.places import PlacesNow, paused_claims, places_now
from models.gate.provider_calls import Refused
from models.queue.claims import Claim
from pipelines.deadline import deadlines_paused
from pipelines.errors import StageError
from workers.gate.refusals import SentBackError

LOOK_S: Final = 1.0
"""Seconds between looks while calls wait: other processes' calls end, and operators pause, without telling this one."""

ELSEWHERE_S: Final = 5.0
"""Seconds without a place after which a job goes back to the queue, if another process could make its call."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """A call that waits."""

    claim: Claim
    images: int
    since_s: float = field(default_factory=time.monotonic)
    placed: "asyncio.Future[None]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Place:
    """A place for one call, from when it is free until the call is admitted or given up."""

    def __init__(self, places: "Places", claim: Claim, images: int) -> None:
        """Store whose call it is, and how many images it makes."""
        self._places = places
        self._claim = claim
        self._images = images
        self._is_held = False

    async def take(self, *, is_first: bool = False) -> None:
        """Wait for the place; raises as `Places.one`.

        Args:
            is_first: wait ahead of all others, because the call is prepared and another process took the place.
        """
        self.give_up()
        await self._places.wait(self._claim, self._images, is_first=is_first)
        self._is_held = True

    def give_up(self) -> None:
        """Free the place for another call of this process, if it is held."""
        if self._is_held:
            self._is_held = False
            self._places.leave()


class Places:
    """The places at one paid provider, as one process knows them. All of its calls run on one event loop."""

    def __init__(
        self,
        database: Database,
        provider: str,
        rules: Mapping[str, Any],
        *,
        refusal: Callable[[Refused], StageError],
        on_free: Callable[[], None],
    ) -> None:
        """Store what looks need.

        Args:
            database: where the provider's cell is.
            provider: the provider's name.
            rules: its rules.
            refusal: returns the stage's error for a refusal.
            on_free: called when a call of this process has ended, so that its place is free.
        """
        self._database = database
        self._provider = provider
        self._rules = rules
        self._refusal = refusal
        self._on_free = on_free
        self._waiting: deque[_Waiting] = deque()
        self._woken = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None
        self._taken = 0  # calls that have a place and aren't admitted yet
        self._own = 0  # calls of this process that were ever admitted
        self._others: int | None = None  # calls of others when this process was last served
        self._elsewhere_s: float | None = None  # since when others could make calls, and this process none
        self._pauses_seen_s = float("-inf")
        self._seen: PlacesNow | None = None  # the last look, counted on with the calls of this process
        self._seen_s = float("-inf")
        self._forgot_s = float("-inf")
        self._has_ended = False  # whether a call of this process has ended since the last look began

    @contextlib.asynccontextmanager
    async def one(self, claim: Claim, images: int) -> AsyncIterator[Place]:
        """Wait until there is a place for a call that makes so many images; keep it until the block ends.

        While it waits, the deadlines of the job's stage stand still.

        Raises:
            StageError: the provider may not be called, for another reason than a missing place.
            SentBackError: the job should go back to the queue.
            DatabaseLostError, ContentionError, asyncpg.PostgresError: the provider's cell can't be read.
        """
        place = Place(self, claim, images)
        await place.take()
        try:
            yield place
        finally:
            place.give_up()

    async def wait(self, claim: Claim, images: int, *, is_first: bool) -> None:
        """Wait for a place, and take it; raises as `one`."""
        if not self._waiting and (now := self._counted()) is not None and now.places > self._taken:
            self._taken += 1
            return
        with deadlines_paused():
            if not self._waiting:
                self._others = self._elsewhere_s = None
            one = _Waiting(claim, images)
            (self._waiting.appendleft if is_first else self._waiting.append)(one)
            self._look_soon()
            try:
                await one.placed
            except asyncio.CancelledError:
                if one.placed.cancelled():
                    self._waiting.remove(one)
                elif one.placed.exception() is None:
                    self.leave()
                self._woken.set()
                raise
            finally:
                del one  # an error holds this frame: in a cycle, the job's pictures would last until a collection

    def leave(self) -> None:
        """Give a taken place up, because its call was admitted or won't be made."""
        self._taken -= 1
        if self._waiting:
            self._look_soon()

    def count_admitted(self, number: int) -> None:
        """Count calls of this process that the gate has admitted."""
        self._own += number
        self._others = self._elsewhere_s = None
        if self._seen is not None:
            self._seen = replace(self._seen, places=max(0, self._seen.places - number))

    def forget(self) -> None:
        """Look anew before the next call, since the gate or the provider has refused one."""
        self._seen, self._forgot_s = None, time.monotonic()

    def call_ended(self) -> None:
        """Record that a call of this process has ended: its place is free."""
        self._has_ended = True
        if self._seen is not None:
            places = min(self._seen.places + 1, self._seen.ceiling)
            self._seen = None if self._seen.refused else replace(self._seen, places=places)
        self._on_free()
        if self._waiting:
            self._look_soon()

    async def now(self, *, needed: int) -> PlacesNow:
        """Return the places, as a look of the last second or a new one tells them.

        If a call of this process has ended since, that look does only if at least so many places are `needed`: the end
        may have raised the ceiling.
        """
        now = self._counted()
        if now is None or (self._has_ended and now.places < needed):
            return await self._see(1)
        return now

    def _counted(self) -> PlacesNow | None:
        """Return the places after a look of the last second and this process's calls since; None without such a look.

        Calls of other processes and a greater ceiling aren't in it. So it may be wrong, and the gate decides.
        """
        return self._seen if time.monotonic() - self._seen_s < LOOK_S else None

    def _look_soon(self) -> None:
        self._woken.set()
        if self._serving is None or self._serving.done():
            # not in the context of the job that asks: its log fields and deadlines are its own
            self._serving = asyncio.get_running_loop().create_task(
                self._serve(), name=f"places at {self._provider}", context=Context()
            )

    async def _serve(self) -> None:
        """Look for places as long as calls wait for one."""
        while self._waiting:
            self._woken.clear()
            outcome = await outcome_of(self._look())
            if isinstance(outcome, Exception):  # each stage decides what an error of the database means for it
                for one in list(self._waiting):
                    self._refuse(one, outcome)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._woken.wait()

    async def _look(self) -> None:
        """Look once, and answer the calls that can be answered."""
        seen = {images: await self._see(images) for images in sorted({one.images for one in self._waiting})}
        await self._send_paused_back()
        staying: list[_Waiting] = []
        placed: list[_Waiting] = []
        for one in list(self._waiting):
            now = seen.get(one.images)
            if now is not None and now.refused is not None and now.refused.kind != "concurrency":
                self._refuse(one, self._refusal(now.refused))
            elif now is not None and now.places - self._taken - len(placed) > 0:
                placed.append(one)
            else:
                staying.append(one)
        for one in placed:
            if not one.placed.done():
                self._taken += 1
                self._waiting.remove(one)
                one.placed.set_result(None)
        if seen and staying and self._is_served_elsewhere(max(seen.values(), key=lambda now: now.admitted)):
            for one in staying:
                if time.monotonic() - one.since_s >= ELSEWHERE_S:
                    self._refuse(one, _sent_back(f"{self._provider}: another process has places"))

    async def _see(self, images: int) -> PlacesNow:
        look = partial(places_now, provider=self._provider, rules=self._rules, images=images)
        began_s, own = time.monotonic(), self._own
        self._has_ended = False
        now = await self._database.run(look)
        if self._own == own and began_s > self._forgot_s:
            self._seen, self._seen_s = now, began_s
        return now

    async def _send_paused_back(self) -> None:
        """Refuse the calls of jobs that an operator has paused, once a second."""
        now_s = time.monotonic()
        if now_s - self._pauses_seen_s < LOOK_S:
            return
        self._pauses_seen_s = now_s
        claims = [one.claim for one in self._waiting]
        paused = await self._database.run(partial(paused_claims, claims=claims))
        for one in list(self._waiting):
            if one.claim.lease_token in paused:
                self._refuse(one, _sent_back("an operator paused the job while it waited for a place"))

    def _is_served_elsewhere(self, now: PlacesNow) -> bool:
        """Return whether other processes could make calls for ELSEWHERE_S, in which this one could make none."""
        if self._taken > 0:
            return False
        others = now.admitted - self._own
        if self._others is None:
            self._others = others
        if self._elsewhere_s is None and (now.is_free_elsewhere or others > self._others):
            self._elsewhere_s = time.monotonic()
        return self._elsewhere_s is not None and time.monotonic() - self._elsewhere_s >= ELSEWHERE_S

    def _refuse(self, one: _Waiting, error: Exception) -> None:
        if not one.placed.done():  # it is done if the job was cancelled meanwhile
            self._waiting.remove(one)
            one.placed.set_exception(error)


def _sent_back(reason: str) -> SentBackError:
    return SentBackError(reason, retry_after=timedelta(0))
