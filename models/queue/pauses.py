"""Queue rows of paused job types and tiers: taken out of the index that claims read, and put back after the pause."""

from dataclasses import dataclass
from typing import Final

from models.connections import Connection

HELD_AT_ONCE: Final = 2_000
"""How many rows one statement looks at; it holds their locks for about ten milliseconds."""

# There are few names among many rows: the index is read once for each name, and rows of pauses in force aren't read.
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
"""CTEs, for WITH RECURSIVE, that make claimable again up to a thousand rows whose pause is over."""

_HOLD: Final = f"""
WITH pauses AS MATERIALIZED (SELECT darkroom.setting('pauses') AS now),
    head AS MATERIALIZED (
        SELECT q.id, q.position, darkroom.pause_of(q.job_type, q.tier, s.now) AS pause
        FROM (SELECT h.* FROM darkroom.job_queue h WHERE h.queue = $1 AND h.ready AND h.status = 'pending'
                AND h.position > $2 ORDER BY h.position LIMIT {HELD_AT_ONCE}) q CROSS JOIN pauses s),
    held AS (
        UPDATE darkroom.job_queue q SET ready = false, paused_by = h.pause FROM head h
        WHERE q.id = h.id AND q.id = ANY (ARRAY(
            SELECT w.id FROM darkroom.job_queue w
            WHERE w.id = ANY (ARRAY(SELECT p.id FROM head p WHERE p.pause IS NOT NULL))
              AND w.ready AND w.status = 'pending'
            ORDER BY w.id FOR UPDATE SKIP LOCKED))
        RETURNING q.id)
SELECT (SELECT max(h.position) FROM head h) AS last, (SELECT count(*) FROM held) AS held
"""


@dataclass(frozen=True, slots=True)
class Held:
    """How many rows were taken out, and the position up to which rows were read; None at the queue's end."""

    count: int
    last: int | None


async def hold_paused(connection: Connection, queue: str, after: int = -1) -> Held:
    """Take paused rows out of the claims' index, among the next HELD_AT_ONCE claimable rows after a position.

    They keep their position. Locks only queue rows, with SKIP LOCKED, in a statement of its own.
    """
    row = await connection.fetchrow(_HOLD, queue, after)
    return Held(0, None) if row is None else Held(row["held"], row["last"])


async def let_go_on(connection: Connection) -> set[str]:
    """Make claimable again up to a thousand rows whose pause is over; return their queues."""
    return {row["queue"] for row in await connection.fetch(f"WITH RECURSIVE {RESUMED} SELECT queue FROM resumed")}
