"""The gate of a worker process: it gives each running job a provider, and tells for how many jobs one may be called."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from models.database import Database
from models.gate.provider_calls import Generation, provider_wait
from pipelines.corrections import NO_CORRECTIONS
from pipelines.errors import ProviderNotConfiguredError
from pipelines.job import Job, Prompt
from pipelines.providers.provider import Provider, StageProvider
from pipelines.settings import Settings
from workers.gate.admission import Admission, CallingJob
from workers.gate.call_records import CallRecords
from workers.gate.gated_provider import GatedProvider
from workers.gate.paid_calls import EarlierCalls, Generations
from workers.gate.places import LOOK_S, Places
from workers.gate.refusals import refusal_of
from workers.gate.rules import rules_of
from workers.metrics.recording import Recording

ON_THE_WAY_FRACTION: Final = 1 / 8
"""Part of a provider's ceiling for which jobs are claimed although no place is free.

They prepare their calls meanwhile. Without them a place would stay free for as long as that takes, and the ceiling
would never be reached, so that it couldn't grow.
"""


class Gate:
    """Gives running jobs a provider whose calls the gate decides on."""

    def __init__(
        self,
        database: Database,
        providers: Sequence[Provider],
        measuring: Provider,
        settings: Settings,
        recording: Recording | None = None,
    ) -> None:
        """Store what every call needs; the caller owns and closes it.

        Args:
            database: where calls are recorded and limits are kept.
            providers: in the order in which they are asked; not empty.
            measuring: the provider that analyzes a picture if no other gives a usable analysis.
            settings: limits and budgets.
            recording: counts the calls.
        """
        self._database = database
        self._providers = providers
        self._measuring = measuring
        self._recording = recording or Recording()
        self._refuses_over_budget = settings.over_budget == "refuse"
        self._rules = {provider.name: rules_of(settings, provider.name) for provider in providers}
        self._on_free: Callable[[], None] = _nothing
        self._places = {
            provider.name: Places(
                database,
                provider.name,
                self._rules[provider.name],
                refusal=partial(refusal_of, provider.name, refuses_over_budget=self._refuses_over_budget),
                on_free=self._call_ended,
            )
            for provider in providers
            if provider.is_paid
        }
        self._unpaused_s: dict[str, float] = {}
        self._generations = Generations(database)
        self._records = {
            (one.name, one.is_paid): CallRecords(
                database, self._rules.get(one.name, {}), self._places.get(one.name) if one.is_paid else None
            )
            for one in (*providers, measuring)
        }

    def for_job(
        self,
        job: CallingJob,
        *,
        most_paid_calls: int,
        earlier: Sequence[Generation] | None = None,
        pictures: int = 1,
    ) -> StageProvider:
        """Return the provider that one job may call, with at most `most_paid_calls` paid generations for each picture.

        The job makes so many `pictures`. `earlier` are the generate calls that were made for it before, as read under
        its claim; None: they are read.
        """
        admission = Admission(
            self._database,
            self._rules,
            self._places,
            self._records,
            EarlierCalls(self._generations, job.claim, earlier, pictures),
            job,
            most_paid_calls=most_paid_calls,
            refuses_over_budget=self._refuses_over_budget,
            recording=self._recording,
        )
        return GatedProvider(self._providers, self._measuring, admission)

    def require_makeable(self, job: Job) -> None:
        """Refuse a job whose picture no configured provider can make, before anything is bought for it.

        Raises:
            ProviderNotConfiguredError: the message has each provider's reason.
        """
        prompt, refusals = Prompt.of_job("", NO_CORRECTIONS, job), []
        for provider in self._providers:
            try:
                provider.quote_generation(prompt, job.tier.long_side_px)
            except ProviderNotConfiguredError as error:
                refusals.append(str(error))
            else:
                return
        raise ProviderNotConfiguredError("; ".join(refusals))

    def when_a_call_ends(self, wake: Callable[[], None]) -> None:
        """Let a function be called whenever a call to a paid provider has ended, so that its place is free."""
        self._on_free = wake

    def _call_ended(self) -> None:
        self._on_free()

    async def callable_jobs(self, awaiting: int, wanted: int) -> int | None:
        """Return for how many more jobs a provider may be called now; None if there is no limit.

        The first provider that may be called at all decides, because the calls of most jobs go to it.

        Args:
            awaiting: how many jobs of this process have yet to call a provider.
            wanted: how many more jobs this process could run.
        """
        for one in self._providers:
            if not one.is_paid:
                if not await self._is_paused(one.name):
                    return None
                continue
            now = await self._places[one.name].now(needed=awaiting + wanted)
            if now.refused is None or now.refused.kind == "concurrency":
                return max(0, now.places + int(now.ceiling * ON_THE_WAY_FRACTION) - awaiting)
            if now.refused.kind == "budget" and self._refuses_over_budget:
                return None
        return 0

    async def _is_paused(self, provider: str) -> bool:
        """Return whether an operator has paused a free provider, whose calls are refused then.

        That it isn't paused may have been seen within the last second, as the places at a paid one.
        """
        now_s = time.monotonic()
        if now_s - self._unpaused_s.get(provider, float("-inf")) < LOOK_S:
            return False
        if await self._database.run(partial(provider_wait, provider=provider, rules={}, is_paid=False)) is not None:
            return True
        self._unpaused_s[provider] = now_s
        return False


def _nothing() -> None:
    """Wake nobody: no claim loop has begun."""
