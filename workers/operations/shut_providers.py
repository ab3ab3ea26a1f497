"""Which of the configured providers may not be called now, and why."""

from dataclasses import dataclass

from models.connections import Connection
from models.gate.costs import total_budget_reasons
from models.gate.provider_calls import provider_wait
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
    found = []
    spent = await total_budget_reasons(connection, settings.budgets)
    for name in settings.providers:
        refused = await provider_wait(connection, name, rules_of(settings, name), is_paid=PROVIDERS[name].is_paid)
        if refused is not None:
            found.append(
                ShutProvider(
                    name, refused.reason, float(refused.wait_s), refused.kind == "stopped" or refused.reason in spent
                )
            )
    return tuple(found)
