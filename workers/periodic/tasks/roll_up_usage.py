"""Usage by user and month, cost by day and provider: computed anew from the facts, so a lost run costs nothing."""

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Final

from workers.periodic.schedule import Schedule
from workers.periodic.task import Chunk, Task, Work

LATE_FACTS: Final = timedelta(days=3)
"""How long into a month the one before is computed again: its last jobs end in this one."""

PATIENCE_S: Final = 900


def months(work: Work) -> list[date]:
    """Return the first days of the months to compute, the older first."""
    month = work.at_utc.date().replace(day=1)
    before = (month - timedelta(days=1)).replace(day=1)
    return [before, month] if work.at_utc.date() - month < LATE_FACTS else [month]


async def roll_up(work: Work) -> Chunk:
    """Compute one month."""
    left = months(work) if work.cursor is None else [date.fromisoformat(text) for text in work.cursor["months"]]
    month, *left = left
    users = await work.connection.fetchval("SELECT darkroom.roll_up_usage($1)", month, timeout=PATIENCE_S)
    days = await work.connection.fetchval("SELECT darkroom.roll_up_costs($1)", month, timeout=PATIENCE_S)
    warned = await work.connection.fetchval(
        "SELECT darkroom.warn_of_usage($1, $2)", month, dict(work.settings.usage_limits)
    )
    counts = {"users": users, "days": days, "warnings": warned}
    return Chunk({"months": [day.isoformat() for day in left]} if left else None, counts)


async def count(work: Work) -> Mapping[str, int]:
    """Count the months that would be computed."""
    return {"months": len(months(work))}


TASK: Final = Task("roll-up-usage", Schedule("5 * * * *"), roll_up, count)
