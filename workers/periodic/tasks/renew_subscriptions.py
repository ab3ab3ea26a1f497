"""Subscriptions at the end of their period: the next one with its tokens, or the end."""

from collections.abc import Mapping
from typing import Final

import asyncpg

from models.queue.refusal import is_of_a_row
from models.queue.refusals import SPEAK_NOW
from workers.periodic.refusals import log_refused, refusable_chunk
from workers.periodic.schedule import Schedule
from workers.periodic.task import Chunk, Task, Work

_CHUNK: Final = "SELECT * FROM darkroom.renew_chunk($1, $2, $3, $4)"


_NEXT: Final = """
SELECT d.user_id FROM darkroom.due_periods($1) d WHERE d.user_id > $2 ORDER BY d.user_id LIMIT $3
"""


async def renew(work: Work) -> Chunk:
    """Renew one period of the next users; again from the first while a round has renewed any, for missed periods."""
    cursor = work.cursor or {"after": "", "late": [], "renewed": 0}
    if cursor["after"] is None:
        return await _renew_late(work, list(cursor["late"]))
    row = await refusable_chunk(
        work,
        lambda size: work.connection.fetchrow(_CHUNK, work.at_utc, cursor["after"], size, None),
        lambda size: work.connection.fetch(_NEXT, work.at_utc, cursor["after"], size),
        {"renewed": 0, "ended": 0},
    )
    late = sorted({*cursor["late"], *(row["late"] or [])})
    renewed = cursor["renewed"] + row["renewed"]
    counts = {"renewed": row["renewed"], "ended": row["ended"]}
    if row["last"] is not None:
        return Chunk({"after": row["last"], "late": late, "renewed": renewed}, counts)
    if renewed:
        return Chunk({"after": "", "late": [], "renewed": 0}, counts)
    return Chunk({"after": None, "late": late} if late else None, counts)


async def _renew_late(work: Work, late: list[str]) -> Chunk:
    """Wait for one user who was locked; the same again while that user has periods to make up."""
    row, counts = None, {}
    try:
        async with work.connection.transaction():
            await work.connection.execute(SPEAK_NOW)
            row = await work.connection.fetchrow(_CHUNK, work.at_utc, "", 1, late[-1])
    except asyncpg.LockNotAvailableError:
        counts = {"postponed": 1}  # the next tick makes it up
    except asyncpg.PostgresError as error:
        if not is_of_a_row(error):
            raise
        log_refused(TASK.name, late[-1], error)
        counts = {"refused": 1}  # so does it here: the others go on
    if row is not None:
        counts = {"renewed": row["renewed"], "ended": row["ended"]}
    if row is None or row["last"] is None:
        late.pop()
    return Chunk({"after": None, "late": late} if late else None, counts)


async def count(work: Work) -> Mapping[str, int]:
    """Count subscriptions whose period is over; a missed period after it isn't counted."""
    row = await work.connection.fetchrow(
        """SELECT count(*) FILTER (WHERE NOT d.is_ending) AS renewed, count(*) FILTER (WHERE d.is_ending) AS ended
           FROM darkroom.due_periods($1) d""",
        work.at_utc,
    )
    return dict(row or {})


TASK: Final = Task(
    "renew-subscriptions",
    Schedule("*/15 * * * *"),
    renew,
    count,
    moves_money=True,
    is_on=lambda settings: settings.subscriptions,
)
