"""Limits of a job's paid calls over all attempts: their number, and no third call of a model that missed twice."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from models.database import Database
from models.gate.provider_calls import PaidCall, paid_generations, repeated_miss
from models.queue.claims import Claim
from pipelines.errors import MISSES, PermanentError, ProviderNotConfiguredError

MOST_NAMED: Final = 3
"""How many kinds of answers an `errorMessage` names."""

_WITHOUT_WORDS: Final = {
    "open": "a call whose end nobody knows",
    "answered": "a picture that was lost before it was stored",
    "cut_off": "a call that was cut off",
}


class TooManyPaidCallsError(PermanentError):
    """Raised when a job has used all generate calls that may be paid for it, over all its attempts."""


class RepeatedMissError(ProviderNotConfiguredError):
    """Raised when a model has missed twice in the same way. The job doesn't call it again; it may call another."""


async def require_no_repeated_miss(database: Database, claim: Claim, provider: str, model: str) -> None:
    """Refuse a model that has missed twice in the same way.

    Raises:
        RepeatedMissError: the message says what came back.
    """
    kinds = [kind.__name__ for kind in MISSES]
    problem = await database.run(lambda connection: repeated_miss(connection, claim, provider, model, kinds))
    if problem is not None:
        raise RepeatedMissError(f"{problem}; it came twice, so it isn't bought a third time")


async def require_calls_left(database: Database, claim: Claim, most: int) -> None:
    """Refuse another generate call if as many calls as the job is allowed may have been paid.

    Raises:
        TooManyPaidCallsError: the message says what came back.
    """
    calls = await database.run(lambda connection: paid_generations(connection, claim))
    if len(calls) >= most:
        raise TooManyPaidCallsError(
            f"{came_back(calls)}; {len(calls)} generate calls may have been paid for this job; its limit is {most}"
        )


def came_back(calls: Sequence[PaidCall]) -> str:
    """Return words for what calls brought, the most frequent result first."""
    if not calls:
        return "nothing was asked"
    words = Counter(call.problem or _WITHOUT_WORDS.get(call.outcome, call.outcome) for call in calls)
    named = [text if count == 1 else f"{text} ({count} times)" for text, count in words.most_common(MOST_NAMED)]
    return "; ".join(named)
