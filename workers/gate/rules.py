"""The gate's rules for one provider, made from the settings, as `darkroom.open_call` reads them."""

from collections.abc import Mapping
from typing import Any

from config.gate_terms import (
    BREAKER_FAILURES,
    BREAKER_S,
    FIRST_CONCURRENT,
    MOST_CONCURRENT,
)
from pipelines.providers.registry import PROVIDERS
from pipelines.settings import Settings


def stops_of(settings: Settings) -> list[list[str]]:
    """Return, for each provider in the order of PROVIDER, the names of operators' pauses that stop it.

    The kill switch is listed only for providers that charge for calls.
    """
    return [[f"provider:{name}", *(("buying",) if PROVIDERS[name].is_paid else ())] for name in settings.providers]


def recorded_providers(settings: Settings) -> list[dict[str, Any]]:
    """Return the providers in the order of PROVIDER with their rules, as estimates of jobs' ends need them."""
    limits = ("requests_per_minute", "concurrency", "first_concurrency")

    def limits_of(name: str) -> dict[str, Any]:
        return {limit: number for limit, number in rules_of(settings, name).items() if limit in limits}

    return [{"name": name, "is_paid": PROVIDERS[name].is_paid, "rules": limits_of(name)} for name in settings.providers]


def rules_of(settings: Settings, provider: str) -> Mapping[str, Any]:
    """Return the rules of one provider, which hold for all processes together."""
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
        "first_concurrency": min(whole.get("first_concurrency", FIRST_CONCURRENT), most),
        "zone": PROVIDERS[provider].quota_zone,
        "budgets": dict(settings.budgets),
        "warning_fraction": settings.budget_warning_fraction,
    }
