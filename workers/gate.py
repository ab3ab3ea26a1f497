"""What stands between a running job and its provider: an intent before each call, its outcome after it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import structlog

from models.claims import Claim
from models.database import Database
from models.provider_calls import CallOutcome, close_intent, open_intent, paid_generations
from pipelines.analysis import Analysis
from pipelines.errors import PermanentError, StageError, TransientError
from pipelines.job import Prompt
from pipelines.options import AnalysisOptions
from pipelines.providers.provider import Answer, EncodedImage, Provider
from workers.claim_loop import RunningJob

T = TypeVar("T")

log = structlog.get_logger(__name__)


class TooManyPaidCallsError(PermanentError):
    """A job has used up the generate calls that may be paid for it, over all its attempts."""


class Gate:
    """Lends a provider to running jobs."""

    def __init__(self, database: Database, provider: Provider) -> None:
        """Keep what every call needs; the caller owns and closes both."""
        self._database = database
        self._provider = provider

    def for_job(self, job: RunningJob, *, most_paid_calls: int) -> Provider:
        """Return the provider that one job may call, with at most so many paid generations in all."""
        return _GatedProvider(self._database, self._provider, job, most_paid_calls)


class _GatedProvider:
    """One job's provider. A crash in a call leaves its intent open: visible, and counted as paid."""

    def __init__(self, database: Database, provider: Provider, job: RunningJob, most_paid_calls: int) -> None:
        self._database = database
        self._provider = provider
        self._job = job
        self._most_paid_calls = most_paid_calls

    @property
    def name(self) -> str:
        return self._provider.name

    @property
    def is_paid(self) -> bool:
        return self._provider.is_paid

    async def analyze(self, image: EncodedImage, options: AnalysisOptions) -> Answer[Analysis]:
        return await self._call("analyze", lambda: self._provider.analyze(image, options))

    async def generate(
        self, prompt: Prompt, images: Sequence[EncodedImage], long_side_px: int, aspect: float | None
    ) -> Answer[EncodedImage]:
        if self.is_paid:
            paid = await self._database.run(lambda connection: paid_generations(connection, self._claim))
            if paid >= self._most_paid_calls:
                raise TooManyPaidCallsError(
                    f"{paid} generate calls may have been paid for this job; its limit is {self._most_paid_calls}"
                )
        return await self._call("generate", lambda: self._provider.generate(prompt, images, long_side_px, aspect))

    @property
    def _claim(self) -> Claim:
        return self._job.claim

    async def _call(self, purpose: str, call: Callable[[], Awaitable[Answer[T]]]) -> Answer[T]:
        provider = self._provider
        intent = await self._database.run(
            lambda connection: open_intent(
                connection, self._claim, provider=provider.name, purpose=purpose, may_be_paid=provider.is_paid
            )
        )
        started_s = time.monotonic()
        self._job.calls += 1
        try:
            answer = await call()
        except StageError as error:
            is_paid = provider.is_paid and isinstance(error, TransientError) and error.is_paid
            await self._close(intent, type(error).__name__, started_s, may_be_paid=is_paid)
            raise
        except asyncio.CancelledError:
            await asyncio.shield(self._close(intent, "cut_off", started_s, may_be_paid=provider.is_paid))
            raise
        finally:
            self._job.calls -= 1
        await self._close(intent, "answered", started_s, may_be_paid=provider.is_paid, answer=answer)
        return answer

    async def _close(
        self, intent: int, outcome: str, started_s: float, *, may_be_paid: bool, answer: Answer[T] | None = None
    ) -> None:
        """Close an intent; if that fails it stays open, which is seen and counted."""
        usage = answer.usage if answer else None
        closing = CallOutcome(
            outcome=outcome,
            may_be_paid=may_be_paid,
            latency_ms=round((time.monotonic() - started_s) * 1000),
            model=answer.model if answer else None,
            prompt_units=usage.prompt_units if usage else None,
            output_units=usage.output_units if usage else None,
            images=usage.images if usage else None,
            cost_usd=usage.cost_usd if usage else None,
        )
        try:
            await self._database.run(lambda connection: close_intent(connection, intent, closing), patience_s=5)
        except Exception as error:  # noqa: BLE001 - the call is over, whatever becomes of its record
            log.warning("provider_call_unrecorded", intent=intent, error=str(error))
