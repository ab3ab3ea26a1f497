"""The gate's rules for one provider, from settings: what `darkroom.open_call` reads."""

from collections.abc import Mapping
from typing import Any, Final

from config.model_terms import FREE_PROVIDERS
from config.settings import Settings

MOST_CONCURRENT: Final = 64
FIRST_CONCURRENT: Final = 16
"""Calls in flight before a provider has said anything: it grows by one a round, and halves with a 429."""

BREAKER_FAILURES: Final = 5
BREAKER_S: Final = 10

ZONES: Final = {"gemini": "America/Los_Angeles"}
"""Where a provider's day of quota begins; UTC unless it says otherwise (Gemini: midnight Pacific, read 2026-11-20)."""


FREE: Final = FREE_PROVIDERS
"""Providers that buy nothing, so that the kill switch doesn't stop them."""


def stops_of(settings: Settings) -> list[list[str]]:
    """Return, for each provider in the order of PROVIDER, the names of operators' pauses that stop it."""
    return [[f"provider:{name}", *(() if name in FREE else ("buying",))] for name in settings.providers]


def rules_of(settings: Settings, provider: str) -> Mapping[str, Any]:
    """Return the rules of one provider for the whole fleet."""
    given = {
        name.removeprefix(f"{provider}/"): value
        for name, value in settings.provider_limits.items()
        if name.startswith(f"{provider}/")
    }
    whole = {name: int(value) if name != "breaker_s" else value for name, value in given.items()}
    most = whole.get("concurrency", MOST_CONCURRENT)
    return {
        "breaker_failures": BREAKER_FAILURES,
        "breaker_s": BREAKER_S,
        **whole,
        "concurrency": most,
        "first_concurrency": min(FIRST_CONCURRENT, most),
        "zone": ZONES.get(provider, "UTC"),
        "budgets": dict(settings.budgets),
        "warning_fraction": settings.budget_warning_fraction,
    }
