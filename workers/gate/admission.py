"""One call of a job to one provider: is it allowed, and where its answer says what to change, once more at once.

A call is prepared before it is admitted, so that it leaves at once.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import structlog

from config.failpoints import failpoint
from models.database import Database
from models.gate.provider_calls import CallPlan, Refused, open_call, provider_wait
from models.queue.claims import Claim
from pipelines.errors import BrokenAnswerError, MissedRequestError, StageError, ThrottledError
from pipelines.providers.calls import Answer, PreparedCall
from pipelines.providers.provider import Provider, Quote
from workers.gate.open_calls import OpenCall
from workers.gate.paid_calls import require_calls_left, require_no_repeated_miss
from workers.gate.refusals import PassedOverError, refusal_of, throttled

T = TypeVar("T")

log = structlog.get_logger(__name__)


class CallingJob(Protocol):
    """The running job that asks; what it waits for decides what a process that stops may wait for."""

    @property
    def claim(self) -> Claim:
        """The claim that its calls are counted against."""

    def calling(self) -> AbstractContextManager[None]:
        """Count a provider call in flight, while the block lasts."""

    def hold_answer(self) -> None:
        """Note that a picture has come, which a process that stops lets be stored."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a job asks of providers: `analyze` or `generate`, and of what, as a hash."""

    purpose: str
    call_hash: str


class Admission:
    """Has the calls of one job admitted, sends them and writes them down."""

    def __init__(
        self,
        database: Database,
        rules: Mapping[str, Mapping[str, Any]],
        job: CallingJob,
        *,
        most_paid_calls: int,
        refuses_over_budget: bool,
    ) -> None:
        """Keep what every call of the job needs.

        Args:
            database: where calls are written down and limits are kept.
            rules: of each provider, by name.
            job: whose calls they are.
            most_paid_calls: paid generations in all, over all attempts.
            refuses_over_budget: a spent budget ends the job, and isn't waited for.
        """
        self._database = database
        self._rules = rules
        self._job = job
        self._most_paid_calls = most_paid_calls
        self._refuses_over_budget = refuses_over_budget

    async def call(
        self, provider: Provider, asked: Asked, quote: Quote, prepare: Callable[[], Awaitable[PreparedCall[T]]]
    ) -> Answer[T]:
        """Call one provider, and where its answer says what to change, once more at once.

        Raises:
            TooManyPaidCallsError: another generation would be one too many.
            RepeatedMissError: it has missed twice in the same way.
            StageError: it may not be called now, or the call failed.
        """
        if provider.is_paid:  # no pictures are made ready before a gate that is seen to be shut
            await self._require_open(provider, quote)
        bought: StageError | None = None
        while True:
            if provider.is_paid and asked.purpose == "generate":
                await self._require_no_repeated_miss(provider, quote)
                await require_calls_left(self._database, self._job.claim, self._most_paid_calls)
            send = await prepare()
            try:
                return await self._send(provider, asked, quote, send)
            except StageError as error:
                if bought and isinstance(error, ThrottledError) and not isinstance(error, PassedOverError):
                    raise bought from error  # a snooze costs no attempt: the first call would be bought over and over
                if isinstance(error, MissedRequestError):  # the second of its kind ends it at once
                    await self._require_no_repeated_miss(provider, quote)
                if error.again is None:
                    raise
                bought = error if isinstance(error, BrokenAnswerError) else bought
                log.info("provider_asked_again", provider=provider.name, purpose=asked.purpose, error=str(error))
                prepare = error.again

    async def _require_open(self, provider: Provider, quote: Quote) -> None:
        rules = self._rules_of(provider)
        refused = await self._database.run(
            lambda connection: provider_wait(connection, provider.name, rules, images=quote.images)
        )
        if refused is not None:
            raise self._refusal(provider, refused)

    async def _require_no_repeated_miss(self, provider: Provider, quote: Quote) -> None:
        await require_no_repeated_miss(self._database, self._job.claim, provider.name, quote.model)

    async def _send(self, provider: Provider, asked: Asked, quote: Quote, send: PreparedCall[T]) -> Answer[T]:
        """Have a prepared call admitted, send it at once, and write down how it ended."""
        rules = self._rules_of(provider)
        plan = CallPlan(
            provider=provider.name,
            purpose=asked.purpose,
            may_be_paid=provider.is_paid,
            model=quote.model,
            price_usd=quote.cost_usd,
            images=quote.images,
            rules=rules,
            call_hash=asked.call_hash,
        )
        opened = await self._database.commit(
            "open_call", lambda connection: open_call(connection, self._job.claim, plan)
        )
        if isinstance(opened, Refused):
            raise self._refusal(provider, opened)
        if opened.warning:
            log.warning("budget_warned", provider=provider.name, warning=opened.warning)
        try:
            async with OpenCall(self._database, provider, opened.intent, rules) as call:
                with self._job.calling(), failpoint(f"call_{asked.purpose}"):
                    answer = await send(call.look_again)
                if asked.purpose == "generate":
                    self._job.hold_answer()
                call.answered(answer)
        except ThrottledError as error:
            raise throttled(str(error), error.retry_after, error.evidence) from error
        return answer

    def _rules_of(self, provider: Provider) -> Mapping[str, Any]:
        return self._rules.get(provider.name, {})

    def _refusal(self, provider: Provider, refused: Refused) -> StageError:
        return refusal_of(provider.name, refused, refuses_over_budget=self._refuses_over_budget)
