"""Usage by user and month, and costs by day, computed from their records; and warnings when usage passes a limit."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Final, TypeAlias

from models.connections import Connection

UsageLimits: TypeAlias = Mapping[Any, float]
"""How much of a measure a user may use in a month before warnings are written, by the measure's name."""

TIMEOUT_S: Final = 900
"""Seconds that computing one month may take."""

_USAGE: Final = "SELECT darkroom.roll_up_usage($1)"
_COSTS: Final = "SELECT darkroom.roll_up_costs($1)"
_PASSED: Final = "SELECT DISTINCT t.user_id FROM darkroom.thresholds_passed($1, $2) t ORDER BY 1"
_WARN: Final = "SELECT darkroom.warn_of_usage($1, $2, $3)"


async def roll_up_month(connection: Connection, first_day: date) -> tuple[int, int]:
    """Compute usage and costs of one month; return how many rows changed in users' usage and in daily costs."""
    users: int = await connection.fetchval(_USAGE, first_day, timeout=TIMEOUT_S)
    days: int = await connection.fetchval(_COSTS, first_day, timeout=TIMEOUT_S)
    return users, days


async def users_past_limits(connection: Connection, first_day: date, limits: UsageLimits) -> Sequence[str]:
    """Return the ids of users whose usage in a month has passed 80 % or 100 % of a limit."""
    return [row["user_id"] for row in await connection.fetch(_PASSED, first_day, limits)]


async def warn_of_usage(connection: Connection, first_day: date, limits: UsageLimits, user_ids: Sequence[str]) -> int:
    """Write those warnings for some users that haven't been written before; return how many this call wrote."""
    warnings: int = await connection.fetchval(_WARN, first_day, limits, user_ids)
    return warnings
