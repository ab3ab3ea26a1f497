"""Providers as operators see them: whether each may be called, budgets, and what each day cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from models.connections import Connection
from models.gate.costs import CostDay, Spending, cost_days, spending
from models.gate.providers import ProviderState, provider_states
from models.queue.pause_records import LastingPause, lasting_pauses
from pipelines.providers.registry import PROVIDERS
from pipelines.settings import Settings
from workers.operations.shut_providers import asked
from workers.process.runtime import Runtime

COST_DAYS: Final = 30
BUYING: Final = "buying"
"""The name of the pause that the kill switch is."""


@dataclass(frozen=True, slots=True)
class ProviderNow:
    """A provider, and how it is now.

    Attributes:
        state: whether it may be called, its throttling and its breaker.
        place: its place in PROVIDER, from 1; None if it isn't used.
        pause: the operator's pause that stops it.
    """

    state: ProviderState
    place: int | None
    pause: LastingPause | None

    @property
    def name(self) -> str:
        """Its name."""
        return self.state.name


@dataclass(frozen=True, slots=True)
class ProvidersNow:
    """All providers, what is spent, and the kill switch.

    Attributes:
        providers: all that this release knows, those of PROVIDER first.
        spending: of today, and the budgets.
        days: what each provider cost on each of the last COST_DAYS days (UTC), the newest first.
        buying: the kill switch, if it is on.
    """

    providers: Sequence[ProviderNow]
    spending: Spending
    days: Sequence[CostDay]
    buying: LastingPause | None


async def providers_now(runtime: Runtime) -> ProvidersNow:
    """Return all providers, what is spent, and the kill switch."""

    async def read(connection: Connection) -> ProvidersNow:
        pauses = await lasting_pauses(connection, ())
        states = await known_providers(connection, runtime.settings)
        return ProvidersNow(
            with_pauses(runtime.settings, states, pauses),
            await spending(connection, runtime.settings.budgets),
            await cost_days(connection, list(PROVIDERS), days=COST_DAYS),
            next((one for one in pauses if one.name == BUYING), None),
        )

    return await runtime.database.run(read)


async def known_providers(connection: Connection, settings: Settings) -> list[ProviderState]:
    """Return how all providers are that this release knows, those of PROVIDER first and in its order."""
    names = [*settings.providers, *(name for name in PROVIDERS if name not in settings.providers)]
    return await provider_states(connection, asked(settings, names))


def with_pauses(
    settings: Settings, states: Sequence[ProviderState], pauses: Sequence[LastingPause]
) -> list[ProviderNow]:
    """Return providers with their places in PROVIDER and the pauses that stop them."""
    used = list(settings.providers)
    by_name = {pause.name: pause for pause in pauses}
    return [
        ProviderNow(
            state,
            used.index(state.name) + 1 if state.name in used else None,
            by_name.get(f"provider:{state.name}"),
        )
        for state in states
    ]
