"""Task roll-up-usage: computes usage by user and month, and costs by day and provider, each time from all records."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Final

from models.periodic.usage import roll_up_month, users_past_limits, warn_of_usage
from workers.periodic.refusals import permitted_rows
from workers.periodic.schedule import Schedule
from workers.periodic.task import Chunk, Task, Work

LATE_FACTS: Final = timedelta(days=3)
"""How long after a month's end the month is computed again, because its last jobs end in the next month."""


def months(work: Work) -> list[date]:
    """Return the first days of the months to compute, the older one first."""
    month = work.at_utc.date().replace(day=1)
    before = (month - timedelta(days=1)).replace(day=1)
    return [before, month] if work.at_utc.date() - month < LATE_FACTS else [month]


async def roll_up(work: Work) -> Chunk:
    """Compute one month."""
    left = months(work) if work.cursor is None else [date.fromisoformat(text) for text in work.cursor["months"]]
    month, *left = left
    users, days = await roll_up_month(work.connection, month)
    limits = dict(work.settings.usage_limits)

    async def warn(some: Sequence[str]) -> Mapping[str, int]:
        return {"warnings": await warn_of_usage(work.connection, month, limits, some)}

    passed = {user_id: user_id for user_id in await users_past_limits(work.connection, month, limits)}
    counts = {"users": users, "days": days, **await permitted_rows(work, TASK.name, passed, warn)}
    return Chunk({"months": [day.isoformat() for day in left]} if left else None, counts)


async def count(work: Work) -> Mapping[str, int]:
    """Count the months that would be computed."""
    return {"months": len(months(work))}


TASK: Final = Task("roll-up-usage", Schedule("5 * * * *"), roll_up, count)
