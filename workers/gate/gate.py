"""The gate of a worker process: it gives each running job a provider, and tells whether no provider may be called."""

import time
from collections.abc import Sequence
from typing import Final

from models.connections import Connection
from models.database import Database
from models.gate.provider_calls import provider_wait
from pipelines.corrections import NO_CORRECTIONS
from pipelines.errors import ProviderNotConfiguredError
from pipelines.job import Job, Prompt
from pipelines.providers.provider import Provider, StageProvider
from pipelines.settings import Settings
from workers.gate.admission import Admission, CallingJob
from workers.gate.gated_provider import GatedProvider
from workers.gate.rules import rules_of

SHUT_LOOK_S: Final = 1.0
"""Seconds for which the result of the last check of all providers is used again."""


class Gate:
    """Gives running jobs a provider whose calls the gate decides on."""

    def __init__(
        self, database: Database, providers: Sequence[Provider], measuring: Provider, settings: Settings
    ) -> None:
        """Store what every call needs; the caller owns and closes it.

        Args:
            database: where calls are recorded and limits are kept.
            providers: in the order in which they are asked; not empty.
            measuring: the provider that analyzes a picture if no other gives a usable analysis.
            settings: limits and budgets.
        """
        self._database = database
        self._providers = providers
        self._measuring = measuring
        self._refuses_over_budget = settings.over_budget == "refuse"
        self._rules = {provider.name: rules_of(settings, provider.name) for provider in providers}
        self._looked_s = float("-inf")
        self._is_shut = False

    def for_job(self, job: CallingJob, *, most_paid_calls: int) -> StageProvider:
        """Return the provider that one job may call, with at most `most_paid_calls` paid generations in all."""
        admission = Admission(
            self._database,
            self._rules,
            job,
            most_paid_calls=most_paid_calls,
            refuses_over_budget=self._refuses_over_budget,
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

    async def is_shut(self) -> bool:
        """Return whether no provider may be called now, so that no job needs to be claimed."""
        now_s = time.monotonic()
        if now_s - self._looked_s >= SHUT_LOOK_S:
            self._looked_s = now_s
            self._is_shut = await self._database.run(self._look_at_all)
        return self._is_shut

    async def _look_at_all(self, connection: Connection) -> bool:
        for one in self._providers:
            wait = await provider_wait(connection, one.name, self._rules[one.name], is_paid=one.is_paid)
            if wait is None or (wait.kind == "budget" and self._refuses_over_budget):
                return False
        return True
