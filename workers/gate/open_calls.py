"""Admitted calls, from intent to outcome: the end of each is recorded, however it ends."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from types import TracebackType
from typing import Any, Final, Self

from config.logger import EventLogger
from models.connections import DATABASE_ERRORS
from models.database import Database
from models.gate.provider_calls import Admitted, CallOutcome, pause_left_s
from pipelines.errors import StageError, ThrottledError
from pipelines.providers.calls import Answer, Usage
from pipelines.providers.provider import Provider
from workers.gate.call_outcomes import call_outcome, unexpected_outcome
from workers.gate.call_records import CallRecords

log = EventLogger(__name__)

SENT_WITHIN_S: Final = 0.25
"""After how many seconds an admitted call that is still connecting has to check for a pause once more.

Another process may have got an HTTP status 429 meanwhile.
"""


class OpenCall:
    """A committed intent, as a context manager: leaving the block closes the intent, with the error if there is one.

    If the process dies in the block, the intent stays open: operators see it, and it counts as paid.
    """

    def __init__(
        self,
        database: Database,
        provider: Provider,
        opened: Admitted,
        records: CallRecords,
        count: Callable[[CallOutcome], None],
    ) -> None:
        """Store what closing the intent needs.

        Args:
            database: where the provider's cell is.
            provider: the provider that is called.
            opened: the call that the gate has admitted, whose duration is measured from then on.
            records: where its end is recorded.
            count: counts how it has ended.
        """
        self._database = database
        self._provider = provider
        self._intent = opened.intent
        self._records = records
        self._count = count
        self._began_s = opened.at_s
        self._has_left = False
        self._answer: Answer[Any] | None = None

    async def look_again(self) -> None:
        """Raise an error if the provider was paused since the call was admitted.

        Called just before the first byte is sent.

        Raises:
            ThrottledError: connecting took long, and the provider has asked for a wait meanwhile.
        """
        if time.monotonic() - self._began_s >= SENT_WITHIN_S:
            name = self._provider.name
            left_s = await self._database.run(lambda connection: pause_left_s(connection, name))
            if left_s > 0:
                raise ThrottledError(f"{name} asked to be left alone", retry_after=timedelta(seconds=left_s))
        self._has_left = True

    def answered(self, answer: Answer[Any]) -> None:
        """Store the answer, so that the intent is closed with it, also if the job is ended before it was looked at."""
        self._answer = answer

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        await asyncio.shield(self._close(*self._outcome(error)))  # a job that is cancelled meanwhile loses no end

    def _outcome(self, error: BaseException | None) -> tuple[CallOutcome, Usage]:
        is_paid = self._provider.is_paid
        if isinstance(error, StageError):
            return call_outcome(error, is_paid=is_paid), error.usage or Usage()
        if self._answer is not None and (error is None or isinstance(error, asyncio.CancelledError)):
            answered = CallOutcome("answered", is_paid, 0, self._answer.model, verdict="answered")
            return answered, self._answer.usage
        # a bug of ours, or a lost database: if the call was sent, it may have been paid
        if isinstance(error, Exception):
            return unexpected_outcome(error, may_be_paid=is_paid, has_left=self._has_left), Usage()
        return CallOutcome("cut_off", is_paid and self._has_left, 0, was_sent=self._has_left), Usage()

    async def _close(self, outcome: CallOutcome, usage: Usage) -> None:
        """Close the intent. If the database fails, it stays open and counts as paid."""
        if outcome.verdict == "stopped" and self._provider.is_paid:
            log.error("provider_stopped", provider=self._provider.name, reason=outcome.reason)
        closing = replace(
            outcome,
            latency_ms=round((time.monotonic() - self._began_s) * 1000),
            prompt_units=usage.prompt_units,
            output_units=usage.output_units,
            images=usage.images,
            cost_usd=usage.cost_usd,
        )
        self._count(closing)
        try:
            await self._records.close(self._intent, closing)
        except DATABASE_ERRORS as error:  # the call is over, even if that can't be recorded
            log.warning("provider_call_unrecorded", intent=self._intent, error=str(error))
