"""Task regenerate-tokens: adds tokens to users' balances, an allowance a month, or a few at a time up to a cap."""

from collections.abc import Mapping
from typing import Final

import asyncpg

from models.money.regeneration import count_regenerations, regenerate_next, regenerate_user, users_to_regenerate
from models.queue.refusal import CHECK_CONSTRAINTS_NOW, is_of_a_row
from workers.periodic.refusals import log_refused, refusable_chunk
from workers.periodic.schedule import Schedule
from workers.periodic.task import Chunk, Task, Work

MOST_LATE: Final = 10_000
"""How many users with locked rows are remembered; all others wait for the next tick."""


async def regenerate(work: Work) -> Chunk:
    """Add the tokens that are due to the next users' balances; last, one by one, to those whose rows were locked."""
    cursor = work.cursor or {"after": "", "late": []}
    if cursor["after"] is None:
        return await _regenerate_late(work, list(cursor["late"]))
    done = await refusable_chunk(
        work,
        lambda size: regenerate_next(work.connection, work.at_utc, cursor["after"], size),
        lambda size: users_to_regenerate(work.connection, work.at_utc, cursor["after"], size),
        {"users": 0, "tokens": 0},
    )
    late = [*cursor["late"], *done.late][:MOST_LATE]
    if done.last is not None:
        return Chunk({"after": done.last, "late": late}, done.counts)
    return Chunk({"after": None, "late": late} if late else None, done.counts)


async def _regenerate_late(work: Work, late: list[str]) -> Chunk:
    tokens, counts = 0, {"users": 0, "tokens": 0}
    user = late.pop()
    try:
        async with work.connection.transaction():
            await work.connection.execute(CHECK_CONSTRAINTS_NOW)
            tokens = await regenerate_user(work.connection, user, work.at_utc)
        counts = {"users": int(tokens > 0), "tokens": tokens}
    except asyncpg.LockNotAvailableError:
        counts["postponed"] = 1  # the next tick adds the tokens: no interval is lost
    except asyncpg.NoDataFoundError:
        counts["deleted"] = 1
    except asyncpg.PostgresError as error:
        if not is_of_a_row(error):
            raise
        log_refused(TASK.name, user, error)
        counts["refused"] = 1  # no interval is lost in this case either, and the other users' tokens are added
    return Chunk({"after": None, "late": late} if late else None, counts)


async def count(work: Work) -> Mapping[str, int]:
    """Count the users to whom tokens are due, and the tokens."""
    return await count_regenerations(work.connection, work.at_utc)


TASK: Final = Task("regenerate-tokens", Schedule("*/15 * * * *"), regenerate, count, moves_money=True)
