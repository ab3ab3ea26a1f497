"""Usage by user and month and cost by day, computed from the facts, and warnings of limits that usage has passed."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Final, TypeAlias

from models.connections import Connection

UsageLimits: TypeAlias = Mapping[Any, float]
"""How much of a measure a user may use in a month before warnings are written, by the measure's name."""

TIMEOUT_S: Final = 900
"""How long a month may take."""

_USAGE: Final = "SELECT darkroom.roll_up_usage($1)"
_COSTS: Final = "SELECT darkroom.roll_up_costs($1)"
_PASSED: Final = "SELECT DISTINCT t.user_id FROM darkroom.thresholds_passed($1, $2) t ORDER BY 1"
_WARN: Final = "SELECT darkroom.warn_of_usage($1, $2, $3)"


async def roll_up_month(connection: Connection, first_day: date) -> tuple[int, int]:
    """Compute a month; return how many rows changed of users' usage and of days' costs."""
    users: int = await connection.fetchval(_USAGE, first_day, timeout=TIMEOUT_S)
    days: int = await connection.fetchval(_COSTS, first_day, timeout=TIMEOUT_S)
    return users, days


async def users_past_limits(connection: Connection, first_day: date, limits: UsageLimits) -> Sequence[str]:
    """Return the ids of users whose usage of a month has passed a threshold of a limit."""
    return [row["user_id"] for row in await connection.fetch(_PASSED, first_day, limits)]


async def warn_of_usage(connection: Connection, first_day: date, limits: UsageLimits, user_ids: Sequence[str]) -> int:
    """Write the warnings of some users that aren't written yet; return how many."""
    warnings: int = await connection.fetchval(_WARN, first_day, limits, user_ids)
    return warnings
