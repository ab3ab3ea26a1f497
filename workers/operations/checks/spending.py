"""Checks of what may be bought: for FREE jobs, and from which models."""

from typing import Final

from models.database import Database
from models.gate.costs import count_anonymous_free_calls
from models.schema.settings import recorded_setting
from pipelines.providers.registry import PROVIDERS
from pipelines.providers.terms import model_terms
from pipelines.settings import Settings
from workers.operations.checks.check import Check

LIMITING_FREE_USERS: Final = (
    *("free_user_day_calls", "user_day_calls", "user_day_usd"),
    *("day_calls", "day_usd", "total_calls", "total_usd"),
)
"""Budgets of which any one limits what a day's FREE jobs may cost."""

LIMITING_ANONYMOUS: Final = (
    *("anonymous_day_calls", "anonymous_day_usd"),
    *("day_calls", "day_usd", "total_calls", "total_usd"),
)


async def check_models(database: Database, settings: Settings) -> Check:
    """Check that the recorded models, against which `submit_enhancement` checks jobs, are those of the environment."""
    terms = model_terms(settings)
    recorded = await database.run(lambda connection: recorded_setting(connection, "models"))
    if recorded == terms or (recorded is None and not terms["paid"]):
        return Check("models", "ok", "those that may be asked are recorded" if recorded else "nothing is bought")
    found = "none are recorded" if recorded is None else "those recorded are not the environment's"
    advice = "run `darkroom db upgrade` with this environment to record them"
    return Check("models", "warn", f"which models may be asked: {found}", advice)


async def check_free_jobs(database: Database, settings: Settings) -> Check:
    """Check that a budget limits the paid calls of jobs of tier FREE, which no balance limits."""
    paid = [name for name in settings.providers if PROVIDERS[name].is_paid]
    if not paid or settings.prices.get("FREE", 0) != 0:
        return Check("FREE jobs", "ok", "they cost tokens" if paid else "no provider that is configured costs money")
    limits = [name for name in LIMITING_FREE_USERS if name in settings.budgets]
    if not limits:
        message = f"jobs of tier FREE cost no token, and nothing limits what their users have {', '.join(paid)} draw"
        return Check("FREE jobs", "warn", message, "set DARKROOM_BUDGETS=free_user_day_calls=20, or another number")
    if not any(name in settings.budgets for name in LIMITING_ANONYMOUS):
        calls = await database.run(lambda connection: count_anonymous_free_calls(connection, paid))
        if calls:
            message = f"{calls:,} calls for anonymous FREE jobs in the last 7 days, and nothing limits them"
            return Check("FREE jobs", "warn", message, "set anonymous_day_calls in DARKROOM_BUDGETS, too")
    return Check("FREE jobs", "ok", f"limited by {', '.join(limits)}")
