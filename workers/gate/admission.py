"""Calls of one job to one provider: whether each is admitted, and one changed repetition if the answer suggests it.

A call is prepared before it is admitted, so that it can be sent at once.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from config.failpoints import failpoint
from config.logger import EventLogger
from models.database import Database
from models.gate.provider_calls import Admitted, CallPlan, Refused
from models.queue.claims import Claim
from pipelines.errors import BrokenAnswerError, MissedRequestError, StageError, ThrottledError
from pipelines.providers.calls import Answer, PreparedCall
from pipelines.providers.provider import Provider, Quote
from workers.gate.call_records import CallRecords
from workers.gate.open_calls import OpenCall
from workers.gate.paid_calls import EarlierCalls, require_calls_left, require_no_repeated_miss
from workers.gate.places import Place, Places
from workers.gate.refusals import PassedOverError, SentBackError, refusal_of, throttled
from workers.metrics.recording import Recording

T = TypeVar("T")

log = EventLogger(__name__)

KEPT: Final = (PassedOverError, SentBackError)
"""Refusals that are raised even after a bought answer was broken.

Another provider is asked, or the job goes back to the queue: neither the process's stop nor a pause uses an attempt.
"""


class CallingJob(Protocol):
    """Interface of the running job that makes calls.

    When its process stops, the job's state decides how long the job may continue.
    """

    @property
    def claim(self) -> Claim:
        """The claim for which the job's calls are recorded."""

    async def saved(self) -> object:
        """Wait until everything is committed that this claim has written; raise if it wasn't."""

    def calling(self) -> AbstractContextManager[None]:
        """Count a provider call as in flight until the block ends."""

    @property
    def ends_after_stage(self) -> bool:
        """Whether the process stops, so that no more calls are begun."""

    def await_call(self) -> None:
        """Record that the job needs a place at a provider for its next call."""

    def hold_answer(self, answer: Answer[Any], call: int) -> None:
        """Take a picture that a call has brought. A process that stops then still stores it, finished or not."""

    def drop_answer(self) -> None:
        """Forget a picture that isn't what was asked for."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a job asks of a provider: `analyze` or `generate`, and a hash over all that is asked."""

    purpose: str
    call_hash: str


class Admission:
    """Asks the gate for one job's calls, sends them and records them."""

    def __init__(
        self,
        database: Database,
        rules: Mapping[str, Mapping[str, Any]],
        places: Mapping[str, Places],
        records: Mapping[tuple[str, bool], CallRecords],
        earlier: EarlierCalls,
        job: CallingJob,
        *,
        most_paid_calls: int,
        refuses_over_budget: bool,
        recording: Recording,
    ) -> None:
        """Store what every call of the job needs.

        Args:
            database: where calls are recorded and limits are kept.
            rules: the rules of each provider, by name.
            places: the places at each paid provider, by name.
            records: the records of each provider's calls, by its name and whether it is paid.
            earlier: the generate calls that were made for the job before.
            job: the job that makes the calls.
            most_paid_calls: how many paid generations each of the job's pictures may have over all attempts, the first
                included.
            refuses_over_budget: whether a spent budget ends the job instead of making it wait.
            recording: counts the calls.
        """
        self._database = database
        self._rules = rules
        self._places = places
        self._records = records
        self._earlier = earlier
        self._job = job
        self._most_paid_calls = most_paid_calls
        self._refuses_over_budget = refuses_over_budget
        self._recording = recording

    async def call(
        self, provider: Provider, asked: Asked, quote: Quote, prepare: Callable[[], Awaitable[PreparedCall[T]]]
    ) -> Answer[T]:
        """Call one provider; if its answer suggests a change of the request, call it once more at once.

        Raises:
            TooManyPaidCallsError: another generation would exceed the job's limit.
            RepeatedMissError: the model has missed twice in the same way.
            StageError: the provider may not be called now, or the call failed.
        """
        bought: StageError | None = None
        try:
            while True:
                try:
                    opened, send = await self._opened(provider, asked, quote, prepare)
                    return await self._sent(provider, asked, quote, opened, send)
                except StageError as error:
                    if bought and isinstance(error, ThrottledError) and not isinstance(error, KEPT):
                        # a snooze costs no attempt, so the first call would be bought again and again
                        raise bought from error
                    if isinstance(error, MissedRequestError):  # a second miss of its kind ends it at once
                        calls = await self._earlier.of_picture(asked.call_hash)
                        require_no_repeated_miss(calls, provider.name, quote.model)
                    if error.again is None:
                        raise
                    bought = error if isinstance(error, BrokenAnswerError) else bought
                    log.info("provider_asked_again", provider=provider.name, purpose=asked.purpose, error=str(error))
                    prepare = error.again
        finally:
            del bought  # it holds this frame: in a cycle, the pictures would last until a garbage collection

    async def _opened(
        self, provider: Provider, asked: Asked, quote: Quote, prepare: Callable[[], Awaitable[PreparedCall[T]]]
    ) -> tuple[Admitted, PreparedCall[T]]:
        """Prepare a call and record its intent, which the gate admits.

        It is prepared only once there is a place for it, so that no pictures are kept while it waits.
        """
        await self._job.saved()
        places = self._places_of(provider)
        if self._job.ends_after_stage and places is not None:
            raise SentBackError("the process stops", retry_after=timedelta(0))
        self._job.await_call()
        async with nullcontext(None) if places is None else places.one(self._job.claim, quote.images) as place:
            if provider.is_paid and asked.purpose == "generate":
                calls = await self._earlier.of_picture(asked.call_hash)
                require_no_repeated_miss(calls, provider.name, quote.model)
                require_calls_left(calls, self._most_paid_calls)
                await self._earlier.require_calls_left_of_all(self._most_paid_calls)
            send = await prepare()
            return await self._admitted(provider, asked, quote, place), send

    async def _admitted(self, provider: Provider, asked: Asked, quote: Quote, place: Place | None) -> Admitted:
        """Ask the gate to admit a call until it does.

        Raises:
            StageError: the gate refuses it, for another reason than that another process took the place.
        """
        plan = CallPlan(
            provider=provider.name,
            purpose=asked.purpose,
            may_be_paid=provider.is_paid,
            model=quote.model,
            price_usd=quote.cost_usd,
            images=quote.images,
            rules=self._rules_of(provider),
            call_hash=asked.call_hash,
        )
        while True:
            if asked.purpose == "generate":
                self._earlier.forget()
            opened = await self._records_of(provider).open(self._job.claim, plan)
            if isinstance(opened, Admitted):
                if place is not None:
                    place.give_up()
                if opened.warning:
                    log.warning("budget_warned", provider=provider.name, warning=opened.warning)
                return opened
            if opened.kind != "concurrency" or place is None:
                raise self._refusal(provider, opened)
            await place.take(is_first=True)

    async def _sent(
        self, provider: Provider, asked: Asked, quote: Quote, opened: Admitted, send: PreparedCall[T]
    ) -> Answer[T]:
        """Send an admitted call at once, record how it ended, and return its answer."""
        places = self._places_of(provider)

        def take(answer: Answer[T]) -> None:
            call.answered(answer)
            if asked.purpose == "generate":
                self._job.hold_answer(answer, opened.intent)

        count = partial(self._recording.call_ended, provider.name, asked.purpose, quote.model, quote.cost_usd)
        try:
            async with OpenCall(self._database, provider, opened, self._records_of(provider), count) as call:
                with self._job.calling(), failpoint(f"call_{asked.purpose}"):
                    answer = await send(call.look_again, take)
                take(answer)
        except StageError as error:
            self._job.drop_answer()
            if places is not None:
                places.forget()  # the provider may have asked for a pause, or stopped answering
            if isinstance(error, ThrottledError):
                raise throttled(str(error), error.retry_after, error.evidence) from error
            raise
        finally:
            if places is not None:
                places.call_ended()
        return answer

    def _places_of(self, provider: Provider) -> Places | None:
        return self._places.get(provider.name) if provider.is_paid else None

    def _records_of(self, provider: Provider) -> CallRecords:
        return self._records[provider.name, provider.is_paid]

    def _rules_of(self, provider: Provider) -> Mapping[str, Any]:
        return self._rules.get(provider.name, {})

    def _refusal(self, provider: Provider, refused: Refused) -> StageError:
        return refusal_of(provider.name, refused, refuses_over_budget=self._refuses_over_budget)
