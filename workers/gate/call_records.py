"""Records of one provider's calls by one process, in groups: intents that the gate admits, and how the calls ended."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from config.logger import EventLogger
from models.collector import Collector, Unanswered
from models.connections import DATABASE_ERRORS
from models.database import Database
from models.gate.provider_calls import (
    Admitted,
    CallOutcome,
    CallPlan,
    Refused,
    close_call,
    close_calls,
    open_call,
    open_calls,
)
from models.queue.claims import Claim
from workers.gate.places import Places

log = EventLogger(__name__)

CLOSE_RETRY_S: Final = 5.0
"""Seconds for which recording an outcome waits for rows that others hold.

The job gets the provider's answer only then.
"""

MOST_TOGETHER: Final = 128
"""How many calls are admitted together at most. All of them have to be sent within a quarter of a second."""


class CallRecords:
    """Records calls to one provider, all with the same rules and all free or all paid."""

    def __init__(self, database: Database, rules: Mapping[str, Any], places: Places | None = None) -> None:
        """Store where the records are, and the provider's rules; `places`, if it has some, learn of each admission."""
        self._database = database
        self._rules = rules
        self._places = places
        turns = database.turns_to_wait
        self._opening: Collector[tuple[Claim, CallPlan], Admitted | Refused] = Collector(
            self._open_all, self._open, most=MOST_TOGETHER, turns=turns, abandoned=self._take_back
        )
        self._closing: Collector[tuple[int, CallOutcome], None] = Collector(
            self._close_all, self._close, most=MOST_TOGETHER, turns=turns
        )

    async def open(self, claim: Claim, plan: CallPlan) -> Admitted | Refused:
        """Record that a call is about to be made, if the gate admits it.

        If the job is cancelled meanwhile, an intent that was recorded is closed, as of a call that was never sent.

        Raises:
            FencedError: the claim is lost; the call must not be made.
            DatabaseLostError, ContentionError, asyncpg.PostgresError: nothing is known to be recorded.
        """
        return await self._opening.ask((claim, plan))

    async def close(self, intent: int, outcome: CallOutcome) -> None:
        """Record how a call ended, and what that says about its provider.

        Raises:
            DatabaseLostError, ContentionError, asyncpg.PostgresError: it isn't recorded, and the intent stays open.
        """
        await self._closing.ask((intent, outcome))

    async def _open_all(self, asked: Sequence[tuple[Claim, CallPlan]]) -> Sequence[Admitted | Refused | Unanswered]:
        answers = await self._database.commit("open_calls", partial(open_calls, asked=asked))
        self._count(answers)
        return [one or Unanswered.ALONE for one in answers]

    async def _open(self, one: tuple[Claim, CallPlan]) -> Admitted | Refused:
        claim, plan = one
        answer = await self._database.commit("open_call", partial(open_call, claim=claim, plan=plan))
        self._count([answer])
        return answer

    def _count(self, answers: Sequence[Admitted | Refused | None]) -> None:
        """Count the admitted calls as this process's own, also those whose jobs no longer wait for them."""
        if self._places is None:
            return
        if number := sum(isinstance(one, Admitted) for one in answers):
            self._places.count_admitted(number)
        if any(isinstance(one, Refused) for one in answers):
            self._places.forget()

    async def _take_back(self, opened: Admitted | Refused) -> None:
        if isinstance(opened, Admitted):
            unsent = CallOutcome("cut_off", may_be_paid=False, latency_ms=0, was_sent=False)
            try:
                await self.close(opened.intent, unsent)
            except DATABASE_ERRORS as error:  # it stays open, and counts as paid
                log.warning("provider_call_unrecorded", intent=opened.intent, error=str(error))
            if self._places is not None:
                self._places.call_ended()

    async def _close_all(self, ends: Sequence[tuple[int, CallOutcome]]) -> Sequence[Unanswered | None]:
        work = partial(close_calls, ends=ends, rules=self._rules)
        recorded = await self._database.commit("close_calls", work, retry_for_s=CLOSE_RETRY_S)
        return [None if one else Unanswered.ALONE for one in recorded]

    async def _close(self, one: tuple[int, CallOutcome]) -> None:
        intent, outcome = one
        work = partial(close_call, intent=intent, outcome=outcome, rules=self._rules)
        await self._database.commit("close_call", work, retry_for_s=CLOSE_RETRY_S)
