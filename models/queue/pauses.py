"""Queue rows of paused job types and tiers: removed from the index that claims read, and put back after the pause."""

from dataclasses import dataclass
from typing import Final

from models.connections import Connection

HELD_AT_ONCE: Final = 2_000
"""How many rows one statement reads; it holds their locks for about ten milliseconds."""

# There are few names of pauses among many rows, so the index is read once for each name, and not at all for present
# pauses.
RESUMED: Final = """names AS (
        (SELECT q.paused_by AS name FROM darkroom.job_queue q
         WHERE q.paused_by IS NOT NULL ORDER BY q.paused_by LIMIT 1)
        UNION ALL
        SELECT (SELECT q.paused_by FROM darkroom.job_queue q
                WHERE q.paused_by > n.name ORDER BY q.paused_by LIMIT 1) FROM names n WHERE n.name IS NOT NULL),
    over AS MATERIALIZED (
        SELECT n.name FROM names n
        WHERE n.name IS NOT NULL AND NOT coalesce(darkroom.setting('pauses') ? n.name, false)),
    resumed AS (
        UPDATE darkroom.job_queue q SET ready = true, paused_by = NULL
        WHERE q.id = ANY (ARRAY(
            SELECT w.id FROM over CROSS JOIN LATERAL (
                SELECT h.id FROM darkroom.job_queue h WHERE h.paused_by = over.name AND h.paused_by IS NOT NULL
                ORDER BY h.paused_by LIMIT 1000 FOR UPDATE SKIP LOCKED) w LIMIT 1000))
        RETURNING q.queue)"""
"""CTEs, for WITH RECURSIVE, that make up to a thousand rows claimable again whose pause is over."""

# IS TRUE hides the condition from the planner, which could read all of the index of claims because of it.
_HOLD: Final = f"""
WITH pauses AS MATERIALIZED (SELECT darkroom.setting('pauses') AS now),
    head AS MATERIALIZED (
        SELECT q.id, q.position, darkroom.pause_of(q.job_type, q.tier, s.now) AS pause
        FROM (SELECT h.* FROM darkroom.job_queue h WHERE h.queue = $1 AND h.ready AND h.status = 'pending'
                AND h.position > $2 ORDER BY h.position, h.id LIMIT {HELD_AT_ONCE}) q CROSS JOIN pauses s),
    held AS (
        UPDATE darkroom.job_queue q SET ready = false, paused_by = darkroom.pause_of(q.job_type, q.tier, s.now)
        FROM pauses s WHERE darkroom.pause_of(q.job_type, q.tier, s.now) IS NOT NULL AND q.id = ANY (ARRAY(
            SELECT w.id FROM darkroom.job_queue w
            WHERE w.id = ANY (ARRAY(SELECT p.id FROM head p WHERE p.pause IS NOT NULL))
              AND (w.ready AND w.status = 'pending') IS TRUE
            ORDER BY w.id FOR UPDATE SKIP LOCKED))
        RETURNING q.id)
SELECT (SELECT max(h.position) FROM head h) AS last, (SELECT count(*) FROM held) AS held
"""


@dataclass(frozen=True, slots=True)
class Held:
    """How many rows were removed from the index, and the last position that was read.

    `last` is None if there were no more rows to read.
    """

    count: int
    last: int | None


async def hold_paused(connection: Connection, queue: str, after: int = -1) -> Held:
    """Remove paused rows from the index that claims read, among the next HELD_AT_ONCE claimable rows after a position.

    The rows keep their position. Only queue rows are locked, with SKIP LOCKED, in one statement.
    """
    row = await connection.fetchrow(_HOLD, queue, after)
    return Held(0, None) if row is None else Held(row["held"], row["last"])


async def let_go_on(connection: Connection) -> set[str]:
    """Make claimable again up to a thousand rows whose pause is over; return the rows' queues."""
    return {row["queue"] for row in await connection.fetch(f"WITH RECURSIVE {RESUMED} SELECT queue FROM resumed")}
