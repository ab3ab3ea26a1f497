"""What the gate allows a provider unless DARKROOM_PROVIDER_LIMITS says otherwise, for Python and SQL."""

from typing import Final

MOST_CONCURRENT: Final = 64
FIRST_CONCURRENT: Final = 16
"""Calls in flight before a provider has said anything: it grows by one a round, and halves with a 429."""

BREAKER_FAILURES: Final = 5
"""So many failures in a row open a provider's breaker."""

BREAKER_S: Final = 10
"""How long a breaker stays open at first; twice as long each further time."""

WARNING_FRACTION: Final = 0.8
"""Of a budget: from here on it is said to be nearly spent."""

OTHER_ZONE: Final = "UTC"
"""Where the day of quota begins of a provider that says nothing else."""

BUDGETS: Final = frozenset(
    {f"{whose}_{unit}" for whose in ("total", "day", "user_day", "anonymous_day") for unit in ("usd", "calls")}
    | {"free_user_day_calls"}
)
"""What DARKROOM_BUDGETS may name."""

RATES: Final = frozenset(
    {"requests_per_minute", "requests_per_day", "images_per_minute", "images_per_day", "concurrency"}
    | {"breaker_failures", "breaker_s"}
)
"""What DARKROOM_PROVIDER_LIMITS may name of a provider."""
