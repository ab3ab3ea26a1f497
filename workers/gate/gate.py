"""What stands between a running job and its providers: may it call now, the intent before, the outcome after.

A call is prepared before it is admitted, so that it leaves the house at once.
Providers are asked in the order of PROVIDER. The next one is asked when one
can't do it, isn't configured, has an open breaker or a spent budget, or buying
is stopped; a rate that is used up is waited for.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import TypeVar

import structlog

from config.failpoints import failpoint
from config.settings import Settings
from models.connections import Connection
from models.database import Database
from models.gate.provider_calls import (
    CallOutcome,
    CallPlan,
    Refused,
    close_call,
    open_call,
    pause_left_s,
    provider_wait,
)
from models.queue.claims import Claim
from pipelines.analysis import Analysis
from pipelines.errors import (
    BrokenAnswerError,
    MissedRequestError,
    PermanentError,
    ProviderNotConfiguredError,
    ProviderTimedOutError,
    ProviderUnavailableError,
    StageError,
    ThrottledError,
)
from pipelines.job import Job, Prompt
from pipelines.options import AnalysisOptions
from pipelines.prompts import NO_CORRECTIONS
from pipelines.providers.provider import (
    Answer,
    EncodedImage,
    PreparedCall,
    Provider,
    Quote,
    StageProvider,
    Usage,
    hash_of_call,
)
from workers.gate.call_outcomes import call_outcome, unexpected_outcome
from workers.gate.paid_calls import require_calls_left, require_no_repeated_miss
from workers.gate.rules import rules_of
from workers.running.claim_loop import RunningJob
from workers.running.retry import retry_delay

T = TypeVar("T")

log = structlog.get_logger(__name__)

PASSED_OVER = frozenset({"stopped", "breaker", "quota", "budget"})
"""Refusals after which the next provider is asked: they last. The others are over in a moment."""

LONG_PAUSE_S = 300.0
"""A provider that wants to be left alone for longer is passed over, too."""

ANALYSIS_S = 60.0
"""For two tries at an analysis, which take seconds; the other half of its stage's deadline is for measuring."""

JITTER_FRACTION = 0.1
LEAST_JITTER_S = 1.0
"""A crowd that waits for the same moment comes spread over this much."""

SENT_WITHIN_S = 0.25
"""An admitted call that takes longer to connect asks once more: another process may have got a 429 by then."""

SHUT_LOOK_S = 1.0
"""How long a look at shut gates is believed."""


class BudgetSpentError(PermanentError):
    """A budget is spent, and by setting nobody waits for the next one."""


class _PassedOverError(ThrottledError):
    """Not now and not soon: another provider may do it."""


class Gate:
    """Lends providers to running jobs."""

    def __init__(
        self, database: Database, providers: Sequence[Provider], measuring: Provider, settings: Settings
    ) -> None:
        """Keep what every call needs; the caller owns and closes it.

        Args:
            database: where calls are written down and limits are kept.
            providers: in the order in which they are asked; not empty.
            measuring: analyzes when no other provider gives a usable analysis.
            settings: limits and budgets.
        """
        self.database = database
        self.providers = providers
        self.measuring = measuring
        self.refuses_over_budget = settings.over_budget == "refuse"
        self.rules = {provider.name: rules_of(settings, provider.name) for provider in providers}
        self._looked_s = float("-inf")
        self._is_shut = False

    def for_job(self, job: RunningJob, *, most_paid_calls: int) -> StageProvider:
        """Return the provider that one job may call, with at most so many paid generations in all."""
        return _GatedProvider(self, job, most_paid_calls)

    def require_makeable(self, job: Job) -> None:
        """Refuse a job whose picture no provider here can make, before anything is bought for it.

        Raises:
            ProviderNotConfiguredError: says why each can't.
        """
        prompt, refusals = Prompt.of_job("", NO_CORRECTIONS, job), []
        for provider in self.providers:
            try:
                provider.quote_generation(prompt, job.tier.long_side_px)
            except ProviderNotConfiguredError as error:
                refusals.append(str(error))
            else:
                return
        raise ProviderNotConfiguredError("; ".join(refusals))

    async def is_shut(self) -> bool:
        """Say whether no provider may be called now: then there is nothing to claim jobs for."""
        now_s = time.monotonic()
        if now_s - self._looked_s >= SHUT_LOOK_S:
            self._looked_s = now_s
            self._is_shut = await self.database.run(self._look_at_all)
        return self._is_shut

    async def _look_at_all(self, connection: Connection) -> bool:
        for one in self.providers:
            wait = await provider_wait(connection, one.name, self.rules[one.name], is_paid=one.is_paid)
            if wait is None or (wait.kind == "budget" and self.refuses_over_budget):
                return False
        return True


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a job asks of providers: `analyze` or `generate`, and of what, as a hash."""

    purpose: str
    input_hash: str


class _GatedProvider:
    """One job's provider. A crash in a call leaves its intent open: visible, and counted as paid."""

    def __init__(self, gate: Gate, job: RunningJob, most_paid_calls: int) -> None:
        self._gate = gate
        self._job = job
        self._most_paid_calls = most_paid_calls

    @property
    def is_paid(self) -> bool:
        return any(provider.is_paid for provider in self._gate.providers)

    async def analyze(self, image: EncodedImage, options: AnalysisOptions) -> Answer[Analysis]:
        """Analyze; what no provider can or will analyze is measured: that takes no attempt and ends no job."""
        asked = _Asked("analyze", hash_of_call([image], options))

        async def ask(providers: Sequence[Provider]) -> Answer[Analysis]:
            return await self._ask(
                asked,
                providers,
                lambda one: one.quote_analysis(options),
                lambda one: one.prepare_analysis(image, options),
            )

        with contextlib.suppress(ProviderNotConfiguredError, TimeoutError):
            async with asyncio.timeout(ANALYSIS_S):
                for _ in range(2):
                    try:
                        return await ask(self._gate.providers)
                    except (BrokenAnswerError, ProviderUnavailableError, ProviderTimedOutError) as error:
                        log.warning("analysis_unusable", error=str(error))
                        if isinstance(error, BrokenAnswerError):  # its provider has asked twice
                            break
                        await asyncio.sleep(retry_delay(1).total_seconds())
        try:
            return await ask([self._gate.measuring])
        except ThrottledError:  # an operator has paused our own engine: what it draws, not what it measures
            send = await self._gate.measuring.prepare_analysis(image, options)
            return await send(lambda: asyncio.sleep(0))

    async def generate(
        self, prompt: Prompt, images: Sequence[EncodedImage], long_side_px: int, aspect: float | None
    ) -> Answer[EncodedImage]:
        treated = [sorted(defects) for defects in (prompt.corrections.allowed, prompt.corrections.forced)]
        words = (prompt.purpose, prompt.text, prompt.model, prompt.temperature, *treated)
        return await self._ask(
            _Asked("generate", hash_of_call(images, *words, long_side_px, aspect)),
            self._gate.providers,
            lambda one: one.quote_generation(prompt, long_side_px),
            lambda one: one.prepare_generation(prompt, images, long_side_px, aspect),
        )

    @property
    def _claim(self) -> Claim:
        return self._job.claim

    async def _ask(
        self,
        asked: _Asked,
        providers: Sequence[Provider],
        quote_of: Callable[[Provider], Quote],
        prepare: Callable[[Provider], Awaitable[PreparedCall[T]]],
    ) -> Answer[T]:
        """Ask the providers in order; return the first answer.

        Raises:
            ThrottledError: a provider can, and not now; the shortest wait.
            ProviderNotConfiguredError: none can; says why each can't.
            StageError: the call of the first that can failed.
        """
        passed_over: list[_PassedOverError] = []
        refusals: list[ProviderNotConfiguredError] = []
        for provider in providers:
            try:
                return await self._call(provider, asked, quote_of(provider), partial(prepare, provider))
            except _PassedOverError as error:
                passed_over.append(error)
            except ProviderNotConfiguredError as error:
                refusals.append(error)
            if len(providers) > 1:
                log.info("provider_passed_over", provider=provider.name, purpose=asked.purpose)
        if passed_over:
            raise min(passed_over, key=lambda error: error.retry_after)
        if len(refusals) == 1:
            raise refusals[0]
        evidence = "; ".join(error.evidence for error in refusals if error.evidence) or None
        raise ProviderNotConfiguredError("; ".join(map(str, refusals)), evidence=evidence)

    async def _call(
        self,
        provider: Provider,
        asked: _Asked,
        quote: Quote,
        prepare: Callable[[], Awaitable[PreparedCall[T]]],
    ) -> Answer[T]:
        """Call one provider, and where its answer says what to change, once more at once.

        Raises:
            TooManyPaidCallsError: another generation would be one too many.
            RepeatedMissError: it has missed twice in the same way.
            StageError: it may not be called now, or the call failed.
        """
        rules = self._gate.rules.get(provider.name, {})
        if provider.is_paid:  # no pictures are made ready before a gate that is seen to be shut
            refused = await self._gate.database.run(
                lambda connection: provider_wait(connection, provider.name, rules, images=quote.images)
            )
            if refused is not None:
                raise self._refusal(provider, refused)
        bought: StageError | None = None
        while True:
            if provider.is_paid and asked.purpose == "generate":
                await require_no_repeated_miss(self._gate.database, self._claim, provider.name, quote.model)
                await require_calls_left(self._gate.database, self._claim, self._most_paid_calls)
            send = await prepare()
            try:
                return await self._send(provider, asked, quote, send)
            except StageError as error:
                if bought and isinstance(error, ThrottledError) and not isinstance(error, _PassedOverError):
                    raise bought from error  # a snooze costs no attempt: the first call would be bought over and over
                if isinstance(error, MissedRequestError):  # the second of its kind ends it at once
                    await require_no_repeated_miss(self._gate.database, self._claim, provider.name, quote.model)
                if error.again is None:
                    raise
                bought = error if isinstance(error, BrokenAnswerError) else bought
                log.info("provider_asked_again", provider=provider.name, purpose=asked.purpose, error=str(error))
                prepare = error.again

    async def _send(self, provider: Provider, asked: _Asked, quote: Quote, send: PreparedCall[T]) -> Answer[T]:
        """Have a prepared call admitted, send it at once, and write down how it ended."""
        rules = self._gate.rules.get(provider.name, {})
        plan = CallPlan(
            provider=provider.name,
            purpose=asked.purpose,
            may_be_paid=provider.is_paid,
            model=quote.model,
            price_usd=quote.cost_usd,
            images=quote.images,
            rules=rules,
            input_hash=asked.input_hash,
        )
        opened = await self._gate.database.commit(
            "open_call", lambda connection: open_call(connection, self._claim, plan)
        )
        if isinstance(opened, Refused):
            raise self._refusal(provider, opened)
        if opened.warning:
            log.warning("budget_warned", provider=provider.name, warning=opened.warning)
        intent, started_s, has_left = opened.intent, time.monotonic(), False

        async def look_again() -> None:
            nonlocal has_left
            await self._look_again(provider, started_s)
            has_left = True

        self._job.calls += 1
        try:
            with failpoint(f"call_{asked.purpose}"):
                answer = await send(look_again)
            self._job.holds_answer = asked.purpose == "generate"  # a process that stops lets it be stored
        except StageError as error:
            await self._close(provider, intent, started_s, call_outcome(error, is_paid=provider.is_paid), error.usage)
            if isinstance(error, ThrottledError):
                raise _throttled(str(error), error.retry_after, error.evidence) from error
            raise
        except asyncio.CancelledError:
            cut_off = CallOutcome("cut_off", provider.is_paid and has_left, 0, was_sent=has_left)
            await asyncio.shield(self._close(provider, intent, started_s, cut_off, None))
            raise
        except Exception as error:
            # a bug of ours, or a database that is lost while it is asked: what has left may have been paid
            await self._close(
                provider,
                intent,
                started_s,
                unexpected_outcome(error, may_be_paid=provider.is_paid, has_left=has_left),
                None,
            )
            raise
        finally:
            self._job.calls -= 1
        answered = CallOutcome("answered", provider.is_paid, 0, answer.model, verdict="answered")
        await self._close(provider, intent, started_s, answered, answer.usage)
        return answer

    async def _look_again(self, provider: Provider, admitted_s: float) -> None:
        """Refuse a call that is about to leave long after it was admitted, if a pause has begun in between."""
        if time.monotonic() - admitted_s < SENT_WITHIN_S:
            return
        left_s = await self._gate.database.run(lambda connection: pause_left_s(connection, provider.name))
        if left_s > 0:
            raise ThrottledError(f"{provider.name} asked to be left alone", retry_after=timedelta(seconds=left_s))

    def _refusal(self, provider: Provider, refused: Refused) -> StageError:
        message = f"{provider.name}: {refused.reason}"
        if refused.kind == "budget" and self._gate.refuses_over_budget:
            return BudgetSpentError(message)
        wait = timedelta(seconds=refused.wait_s)
        if refused.kind in PASSED_OVER:
            return _PassedOverError(f"{provider.name}: {refused.lasting()}", retry_after=_jittered(wait))
        return _throttled(message, wait)

    async def _close(
        self, provider: Provider, intent: int, started_s: float, outcome: CallOutcome, usage: Usage | None
    ) -> None:
        """Close an intent; if that fails it stays open, which is seen and counted."""
        if outcome.verdict == "stopped" and provider.is_paid:
            log.error("provider_stopped", provider=provider.name, reason=outcome.reason)
        usage = usage or Usage()
        closing = replace(
            outcome,
            latency_ms=round((time.monotonic() - started_s) * 1000),
            prompt_units=usage.prompt_units,
            output_units=usage.output_units,
            images=usage.images,
            cost_usd=usage.cost_usd,
        )
        rules = self._gate.rules.get(provider.name, {})
        try:
            await self._gate.database.commit(
                "close_call", lambda connection: close_call(connection, intent, closing, rules), patience_s=5
            )
        except Exception as error:  # noqa: BLE001 - the call is over, whatever becomes of its record
            log.warning("provider_call_unrecorded", intent=intent, error=str(error))


def _throttled(message: str, wait: timedelta, evidence: str | None = None) -> ThrottledError:
    kind = _PassedOverError if wait.total_seconds() > LONG_PAUSE_S else ThrottledError
    return kind(message, retry_after=_jittered(wait), evidence=evidence)


def _jittered(wait: timedelta) -> timedelta:
    most_s = max(LEAST_JITTER_S, wait.total_seconds() * JITTER_FRACTION)
    return wait + timedelta(seconds=random.uniform(0, min(most_s, 60)))  # noqa: S311 - jitter, not a secret
