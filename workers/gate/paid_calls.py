"""Limits of a job's paid calls over all attempts: their number, and no third call of a model that missed twice."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Final

from models.collector import Collector
from models.database import Database
from models.gate.provider_calls import Generation, generations, generations_asked
from models.queue.claims import Claim
from pipelines.errors import MISSES, PermanentError, ProviderNotConfiguredError

MISS_NAMES: Final = frozenset(kind.__name__ for kind in MISSES)
"""The outcomes that are misses, as calls are recorded."""

MOST_NAMED: Final = 3
"""How many kinds of answers an `errorMessage` names."""

MOST_TOGETHER: Final = 256
"""The most jobs whose earlier calls one statement reads."""

_WITHOUT_WORDS: Final = {
    "open": "a call whose end nobody knows",
    "answered": "a picture that was lost before it was stored",
    "cut_off": "a call that was cut off",
}


class TooManyPaidCallsError(PermanentError):
    """Raised when a job has used all generate calls that may be paid for it, over all its attempts."""


class RepeatedMissError(ProviderNotConfiguredError):
    """Raised when a model has missed twice in the same way. The job doesn't call it again; it may call another."""


class Generations:
    """Reads the generate calls of jobs, by one statement for the jobs of a process that ask at a moment."""

    def __init__(self, database: Database) -> None:
        """Store where the calls are recorded."""
        self._database = database
        self._reading: Collector[Claim, list[Generation]] = Collector(
            self._read_all, self._read, most=MOST_TOGETHER, turns=database.turns_to_wait
        )

    async def of(self, claim: Claim) -> list[Generation]:
        """Return the generate calls of a job, of all attempts, oldest first.

        Raises:
            DatabaseLostError, ContentionError, asyncpg.PostgresError: they can't be read.
        """
        return await self._reading.ask(claim)

    async def asked(self, claim: Claim, call_hash: str) -> list[Generation]:
        """Return those generate calls of a job that asked for the same; raises as `of`."""
        return await self._database.run(partial(generations_asked, claim=claim, call_hash=call_hash))

    async def _read_all(self, claims: Sequence[Claim]) -> list[list[Generation]]:
        return await self._database.run(partial(generations, claims=claims))

    async def _read(self, claim: Claim) -> list[Generation]:
        return (await self._read_all([claim]))[0]


class EarlierCalls:
    """The generate calls of one running job, of all attempts.

    Only the holder of its claim makes calls for the job, and a call that has ended changes only where a run finds its
    picture unusable later, which ends that run. So what was read when the run began holds until its own first call,
    unless a call of an earlier run was open then.
    """

    def __init__(
        self, generations: Generations, claim: Claim, read: Sequence[Generation] | None, pictures: int = 1
    ) -> None:
        """Store where the calls of a claim's job are read, and what was read under the claim already, if anything.

        `pictures` is how many pictures the job makes, each by calls of its own.
        """
        self._generations = generations
        self._claim = claim
        self._read = read
        self._pictures = pictures

    async def all(self) -> Sequence[Generation]:
        """Return the calls, oldest first; raises as `Generations.of`."""
        if self._read is None or any(one.outcome == "open" for one in self._read):
            return await self._generations.of(self._claim)
        return self._read

    async def of_picture(self, call_hash: str) -> Sequence[Generation]:
        """Return the calls for one of the job's pictures, oldest first; raises as `Generations.of`.

        Args:
            call_hash: of the call that is to be made for it.
        """
        if self._pictures == 1:
            return await self.all()
        return await self._generations.asked(self._claim, call_hash)

    async def require_calls_left_of_all(self, most: int) -> None:
        """Refuse another generate call if the job's pictures together have used all of theirs.

        So the limit holds even if what is asked for a picture changes between two attempts.

        Args:
            most: how many calls each picture is allowed.

        Raises:
            TooManyPaidCallsError: the message says what came back.
        """
        if self._pictures > 1:
            require_calls_left(await self.all(), most * self._pictures)

    def forget(self) -> None:
        """Read the calls anew from now on, because the run is about to make one."""
        self._read = None


def require_no_repeated_miss(calls: Sequence[Generation], provider: str, model: str) -> None:
    """Refuse a model that has missed twice in the same way.

    Args:
        calls: the job's generate calls of all attempts, oldest first.
        provider: the provider's name.
        model: the model that would be asked.

    Raises:
        RepeatedMissError: the message says what came back.
    """
    misses = [one for one in calls if (one.provider, one.model) == (provider, model) and one.outcome in MISS_NAMES]
    repeated = {outcome for outcome, count in Counter(one.outcome for one in misses).items() if count > 1}
    if last := next((one for one in reversed(misses) if one.outcome in repeated), None):
        raise RepeatedMissError(f"{last.problem or last.outcome}; it came twice, so it isn't bought a third time")


def require_calls_left(calls: Sequence[Generation], most: int) -> None:
    """Refuse another generate call if as many calls as the job is allowed may have been paid.

    Args:
        calls: the job's generate calls of all attempts.
        most: how many the job is allowed.

    Raises:
        TooManyPaidCallsError: the message says what came back.
    """
    paid = [one for one in calls if one.may_be_paid]
    if len(paid) >= most:
        raise TooManyPaidCallsError(
            f"{came_back(paid)}; {len(paid)} generate calls may have been paid for this job; its limit is {most}"
        )


def came_back(calls: Sequence[Generation]) -> str:
    """Return words for what calls brought, the most frequent result first."""
    if not calls:
        return "nothing was asked"
    words = Counter(call.problem or _WITHOUT_WORDS.get(call.outcome, call.outcome) for call in calls)
    named = [text if count == 1 else f"{text} ({count} times)" for text, count in words.most_common(MOST_NAMED)]
    return "; ".join(named)
