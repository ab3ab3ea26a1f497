"""Usage by user and month, cost by day and provider: computed anew from the facts, so a lost run costs nothing."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Final

from workers.periodic.refusals import permitted_rows
from workers.periodic.schedule import Schedule
from workers.periodic.task import Chunk, Task, Work

LATE_FACTS: Final = timedelta(days=3)
"""How long into a month the one before is computed again: its last jobs end in this one."""

PATIENCE_S: Final = 900

_PASSED: Final = "SELECT DISTINCT t.user_id FROM darkroom.thresholds_passed($1, $2) t ORDER BY 1"
_WARN: Final = "SELECT darkroom.warn_of_usage($1, $2, $3)"


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
    limits = dict(work.settings.usage_limits)

    async def warn(some: Sequence[str]) -> Mapping[str, int]:
        return {"warnings": await work.connection.fetchval(_WARN, month, limits, some)}

    passed = {row["user_id"]: row["user_id"] for row in await work.connection.fetch(_PASSED, month, limits)}
    counts = {"users": users, "days": days, **await permitted_rows(work, TASK.name, passed, warn)}
    return Chunk({"months": [day.isoformat() for day in left]} if left else None, counts)


async def count(work: Work) -> Mapping[str, int]:
    """Count the months that would be computed."""
    return {"months": len(months(work))}


TASK: Final = Task("roll-up-usage", Schedule("5 * * * *"), roll_up, count)
