"""Default limits of a provider, which hold unless DARKROOM_PROVIDER_LIMITS sets others. Python and SQL use them."""

from typing import Final

MOST_CONCURRENT: Final = 64
FIRST_CONCURRENT: Final = 16
"""How many calls to a provider may be in flight at first.

The limit doubles each time that as many calls were in flight as it allows and all of them were answered. The first
HTTP status 429 halves it. From then on it grows by one instead of doubling, and each further 429 halves it.
"""

BREAKER_FAILURES: Final = 5
"""How many failures in a row open a provider's breaker."""

BREAKER_S: Final = 10
"""Seconds that a breaker stays open the first time; each further time in a row takes twice as long."""

WARNING_FRACTION: Final = 0.8
"""Fraction of a budget from which on a warning says that the budget is nearly spent."""

OTHER_ZONE: Final = "UTC"
"""Time zone in which the day of a provider's quota begins, unless the provider's description names another."""

BUDGETS: Final = frozenset(
    {f"{whose}_{unit}" for whose in ("total", "day", "user_day", "anonymous_day") for unit in ("usd", "calls")}
    | {"free_user_day_calls"}
)
"""The budgets that DARKROOM_BUDGETS may name."""

RATES: Final = frozenset(
    {"requests_per_minute", "requests_per_day", "images_per_minute", "images_per_day"}
    | {"concurrency", "first_concurrency"}
    | {"breaker_failures", "breaker_s"}
)
"""The limits of a provider that DARKROOM_PROVIDER_LIMITS may name."""
