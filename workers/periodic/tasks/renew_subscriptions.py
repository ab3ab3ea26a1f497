"""Task renew-subscriptions: at the end of a subscription's period, begins the next one with its tokens, or ends it."""

from collections.abc import Mapping
from typing import Final

import asyncpg

from models.money.chunks import UserChunk
from models.money.subscriptions import count_renewals, renew_next, renew_user, users_to_renew
from models.queue.refusal import CHECK_CONSTRAINTS_NOW, is_of_a_row
from workers.periodic.refusals import log_refused, refusable_chunk
from workers.periodic.schedule import Schedule
from workers.periodic.task import Chunk, Task, Work


async def renew(work: Work) -> Chunk:
    """Renew one period of each of the next users; after the last, begin again if any has more missed periods."""
    cursor = work.cursor or {"after": "", "late": [], "renewed": 0}
    if cursor["after"] is None:
        return await _renew_late(work, list(cursor["late"]))
    done = await refusable_chunk(
        work,
        lambda size: renew_next(work.connection, work.at_utc, cursor["after"], size),
        lambda size: users_to_renew(work.connection, work.at_utc, cursor["after"], size),
        {"renewed": 0, "ended": 0},
    )
    late = sorted({*cursor["late"], *done.late})
    renewed = cursor["renewed"] + done.counts["renewed"]
    if done.last is not None:
        return Chunk({"after": done.last, "late": late, "renewed": renewed}, done.counts)
    if renewed:
        return Chunk({"after": "", "late": [], "renewed": 0}, done.counts)
    return Chunk({"after": None, "late": late} if late else None, done.counts)


async def _renew_late(work: Work, late: list[str]) -> Chunk:
    """Wait until one user's rows, which were locked, are free, and renew the user's subscription.

    The chunk repeats while that user has more missed periods.
    """
    done: UserChunk | None = None
    counts: Mapping[str, int] = {}
    try:
        async with work.connection.transaction():
            await work.connection.execute(CHECK_CONSTRAINTS_NOW)
            done = await renew_user(work.connection, work.at_utc, late[-1])
    except asyncpg.LockNotAvailableError:
        counts = {"postponed": 1}  # the next tick renews it
    except asyncpg.PostgresError as error:
        if not is_of_a_row(error):
            raise
        log_refused(TASK.name, late[-1], error)
        counts = {"refused": 1}  # the next tick tries it again, and the other users are renewed
    if done is not None:
        counts = done.counts
    if done is None or done.last is None:
        late.pop()
    return Chunk({"after": None, "late": late} if late else None, counts)


async def count(work: Work) -> Mapping[str, int]:
    """Count subscriptions whose period is over; further missed periods aren't counted."""
    return await count_renewals(work.connection, work.at_utc)


TASK: Final = Task(
    "renew-subscriptions",
    Schedule("*/15 * * * *"),
    renew,
    count,
    moves_money=True,
    is_on=lambda settings: settings.subscriptions,
)
