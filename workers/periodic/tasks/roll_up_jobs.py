"""Task roll-up-jobs: counts ended jobs and run stages by minute, with their times, and folds minutes into hours."""

from collections.abc import Mapping
from typing import Final

from models.periodic.rollups import count_left, fold_hour, keep_queue_counts, roll_up_ends, roll_up_stage_runs
from workers.periodic.schedule import Schedule
from workers.periodic.task import Chunk, Task, Work

FIRST_IDS: Final = 50_000
"""How many ids of stage_runs a chunk reads: several times as many as one range of its BRIN index has rows."""

MOST_IDS: Final = 1 << 40
REST_FACTOR: Final = 0.5
"""Rest after a chunk, as a multiple of its duration: after an upgrade a month's history may have to be rolled up."""


async def roll_up(work: Work) -> Chunk:
    """Roll up the next ends of jobs and the next events, then fold the next hour.

    After the last events a second chunk looks once more, because transactions that were open at the first look have
    ended by then, unless they hang; otherwise their events would wait for the next tick.
    """
    cursor = work.cursor or {"ids": FIRST_IDS, "looks": 0}
    ids = cursor["ids"]
    jobs = await roll_up_ends(work.connection, work.size)
    events, is_done = await roll_up_stage_runs(work.connection, ids)
    counts = {"jobs": jobs, "events": events}
    if jobs == work.size or not is_done:
        # Over a gap between ids, as a sequence that was moved leaves it, chunks grow
        return Chunk({"ids": FIRST_IDS if events else min(2 * ids, MOST_IDS), "looks": cursor["looks"]}, counts)
    folded = await fold_hour(work.connection, work.at)
    if folded or not cursor["looks"]:
        return Chunk({"ids": FIRST_IDS, "looks": 1}, {**counts, "folded": folded})
    await keep_queue_counts(work.connection, work.at)
    return Chunk(None, counts)


async def count(work: Work) -> Mapping[str, int]:
    """Count what isn't rolled up yet."""
    return await count_left(work.connection)


TASK: Final = Task("roll-up-jobs", Schedule("* * * * *"), roll_up, count, rest_factor=REST_FACTOR)
