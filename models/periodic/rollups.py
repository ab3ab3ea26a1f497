"""Roll-ups of ended jobs and of stages, by minute and later by hour; models/periodic/rollups.sql says how."""

from datetime import datetime
from typing import Final

from models.connections import Connection

_ENDS: Final = "SELECT darkroom.roll_up_ends($1)"
_STAGES: Final = "SELECT * FROM darkroom.roll_up_stage_runs($1)"
_FOLD: Final = "SELECT darkroom.fold_hour($1)"
# Counts that are older were made before a time at which no scheduler counted. Empty queues leave a row, too, so that a
# minute without a row is one in which nobody counted.
_KEEP: Final = """
INSERT INTO darkroom.queue_minutes (minute, queue, status, jobs, oldest_wait_s)
SELECT date_trunc('minute', a.as_of, 'UTC'), coalesce(c.queue, 'default'), coalesce(c.status, 'waiting'),
       coalesce(sum(c.jobs), 0), greatest(0, extract(epoch FROM a.as_of - min(c.oldest_at)))
FROM darkroom.queue_counting a LEFT JOIN darkroom.queue_counts c ON true
WHERE a.as_of > $1::timestamptz - interval '15 minutes'
GROUP BY a.as_of, c.queue, c.status ORDER BY 1, 2, 3
ON CONFLICT DO NOTHING
"""
_LEFT: Final = """
SELECT (SELECT count(*) FROM darkroom.job_ends) AS jobs,
       (SELECT count(*) FROM darkroom.stage_runs r WHERE r.id > coalesce(
            (SELECT c.last_id FROM darkroom.rollup_cursor c WHERE c.source = 'stage_runs'), 0)) AS stage_runs
"""


async def roll_up_ends(connection: Connection, most: int) -> int:
    """Roll up and delete up to so many ends of jobs, in the caller's transaction; return how many there were."""
    found: int = await connection.fetchval(_ENDS, most)
    return found


async def roll_up_stage_runs(connection: Connection, ids: int) -> tuple[int, bool]:
    """Roll up the events of jobs' histories with the next `ids` ids, in the caller's transaction.

    Return how many there were, and whether none are left of which it is certain that no earlier one is still missing.
    """
    row = await connection.fetchrow(_STAGES, ids)
    if row is None:
        raise AssertionError("unreachable: a function with OUT parameters returns a row")
    return row["events"], row["is_done"]


async def fold_hour(connection: Connection, at: datetime) -> int:
    """Fold the oldest hour whose minutes are two days old into rows of hours; return how many rows it folded."""
    folded: int = await connection.fetchval(_FOLD, at)
    return folded


async def keep_queue_counts(connection: Connection, at: datetime) -> None:
    """Keep the counts of the queues that were made last as those of their minute. Idempotent.

    If nothing is in any queue, that is kept as no waiting job in the queue `default`.
    """
    await connection.execute(_KEEP, at)


async def count_left(connection: Connection) -> dict[str, int]:
    """Count the ends of jobs and the events of histories that no roll-up has yet."""
    return dict(await connection.fetchrow(_LEFT, timeout=600) or {})
