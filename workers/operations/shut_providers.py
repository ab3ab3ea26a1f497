"""Which of the configured providers may not be called now, and why."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from models.connections import Connection
from models.gate.costs import total_budget_reasons
from models.gate.providers import AskedProvider, ProviderState, provider_states
from pipelines.providers.registry import PROVIDERS
from pipelines.settings import Settings
from workers.gate.rules import rules_of


@dataclass(frozen=True, slots=True)
class ShutProvider:
    """A provider that may not be called now.

    Attributes:
        name: of the provider.
        reason: why it may not be called.
        wait_s: after how many seconds it may be called at the earliest.
        is_stopped: only an operator can let it be called again: it is paused or stopped by the kill switch, or a budget
            without a period is spent.
    """

    name: str
    reason: str
    wait_s: float
    is_stopped: bool


async def shut_providers(connection: Connection, settings: Settings) -> tuple[ShutProvider, ...]:
    """Return those of the configured providers that may not be called now."""
    spent = await total_budget_reasons(connection, settings.budgets)
    return shut_of(await provider_states(connection, asked(settings, settings.providers)), spent)


def asked(settings: Settings, names: Iterable[str]) -> list[AskedProvider]:
    """Return what has to be known of some providers, to ask the gate about them."""
    return [
        AskedProvider(name, PROVIDERS[name].is_paid, rules_of(settings, name), PROVIDERS[name].quota_zone)
        for name in names
    ]


def shut_of(states: Iterable[ProviderState], spent: Collection[str]) -> tuple[ShutProvider, ...]:
    """Return which of some providers may not be called; `spent` are the reasons of budgets without a period."""
    return tuple(
        ShutProvider(
            one.name,
            one.refused.reason,
            float(one.refused.wait_s),
            one.refused.kind == "stopped" or one.refused.reason in spent,
        )
        for one in states
        if one.refused is not None
    )
