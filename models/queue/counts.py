"""Counts of the jobs in the queues: counted now, or, where a queue is long, as a scheduler counted them last."""

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from models.connections import Connection
from models.database import Database

LONG: Final = 20_000
"""How many jobs are counted at once for whoever asks; of more, which takes a tenth of a second or longer, the
scheduler's last count is given."""

SHORT: Final = 999
"""As LONG, for pages, which look each second: of more jobs a page is given the last count, or an estimate."""

SAMPLED_PAGES: Final = 100
"""How many pages of a long queue an estimate reads: some thousand jobs."""

LEAST_INTERVAL_S: Final = 10.0
REST_FACTOR: Final = 100.0
"""The time between two counts, as a multiple of how long one took: counting takes at most 1 % of the time."""

STALE_FACTOR: Final = 3.0
"""After so many times the time between two counts the last one isn't given any more: no scheduler runs."""

COUNT_TIMEOUT_S: Final = 300.0

# First rows are counted, then groups are named, so that nothing is computed for each row. A job that a pause concerns
# counts as paused even if its row is still in the index; likewise for refused jobs.
_COUNT: Final = """
WITH found AS MATERIALIZED (
    SELECT q.queue, q.job_type, q.tier, q.stage, q.status, q.held_by, q.refused_since IS NOT NULL AS is_refused,
           q.suspect_of IS NOT NULL AS is_suspect, coalesce(q.run_at > now(), false) AS is_early,
           CASE WHEN q.held_by = 'cap' THEN q.user_id END AS user_id,
           {number} AS jobs, min(greatest(q.created_at, q.run_at)) AS oldest_at,
           min(q.scheduled_at) FILTER (WHERE q.status = 'retrying') AS next_due_at
    FROM {rows} GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
terms AS MATERIALIZED (
    SELECT coalesce(darkroom.setting('pauses'), '{{}}') AS pauses,
           coalesce(darkroom.setting('user_caps'), '{{}}') AS caps,
           darkroom.tiers_of(ARRAY(SELECT DISTINCT f.user_id FROM found f WHERE f.user_id IS NOT NULL)) AS tiers)
SELECT f.queue, f.job_type, f.tier, f.stage, s.status, s.held_by, sum(f.jobs)::bigint AS jobs,
       min(f.oldest_at) AS oldest_at, min(f.next_due_at) AS next_due_at,
       max(f.jobs / nullif((t.caps ->> coalesce(t.tiers ->> f.user_id, 'FREE'))::double precision, 0))
           FILTER (WHERE s.held_by = 'cap') AS turns
FROM found f CROSS JOIN terms t
CROSS JOIN LATERAL (
    SELECT CASE WHEN f.status = 'processing' THEN 'running' WHEN f.status = 'pending' THEN 'waiting'
                WHEN f.is_early THEN 'scheduled' ELSE 'retrying' END AS status,
           CASE WHEN f.status = 'processing' THEN ''
                WHEN t.pauses ? ('queue:' || f.queue) OR darkroom.pause_of(f.job_type, f.tier, t.pauses) IS NOT NULL
                THEN 'paused' WHEN f.is_refused THEN 'refused' WHEN f.is_suspect THEN 'suspect'
                ELSE coalesce(f.held_by, '') END AS held_by) s
GROUP BY 1, 2, 3, 4, 5, 6
"""
_GROUPS: Final = _COUNT.format(number="count(*)", rows="darkroom.job_queue q")
_COUNTED: Final = f"SELECT g.*, now() AS as_of FROM ({_GROUPS}) g ORDER BY 1, 5, 6, 2, 3, 4"
# $1 is the part of the table's pages that is read, in percent
_SAMPLE: Final = _COUNT.format(
    number="ceil(count(*) * 100 / $1::float8)",
    rows="darkroom.job_queue q TABLESAMPLE SYSTEM ($1::float8)",
)
_SAMPLED: Final = f"SELECT g.*, now() AS as_of, true AS is_estimate FROM ({_SAMPLE}) g ORDER BY 1, 5, 6, 2, 3, 4"
_KEPT: Final = """
SELECT c.queue, c.job_type, c.tier, c.stage, c.status, c.held_by, c.jobs, c.oldest_at, c.next_due_at, c.turns, a.as_of
FROM darkroom.queue_counting a CROSS JOIN darkroom.queue_counts c ORDER BY 1, 5, 6, 2, 3, 4
"""
_IS_KEPT: Final = f"""
EXISTS (SELECT FROM darkroom.queue_counting a
        WHERE a.jobs > $1 AND now() - a.as_of < {STALE_FACTOR} * make_interval(
            secs => greatest({LEAST_INTERVAL_S}, {REST_FACTOR} * a.took_s)))
"""
_WAY: Final = f"SELECT CASE WHEN {_IS_KEPT} THEN 'kept' ELSE 'counted' END AS way, 100.0::float8 AS percent"
_SMALL_WAY: Final = f"""
SELECT CASE WHEN {_IS_KEPT} THEN 'kept'
            WHEN (SELECT count(*) FROM (SELECT FROM darkroom.job_queue LIMIT $1 + 1) q) > $1 THEN 'sampled'
            ELSE 'counted' END AS way,
       least(100, 100.0::float8 * {SAMPLED_PAGES} / greatest(1, pg_relation_size('darkroom.job_queue')
                                                              / current_setting('block_size')::float8)) AS percent
"""
_IS_DUE: Final = "SELECT NOT EXISTS (SELECT FROM darkroom.queue_counting a WHERE a.due_at > now())"
_LOCK: Final = "SELECT true FROM darkroom.queue_counting a WHERE a.due_at <= now() FOR UPDATE SKIP LOCKED"
_BEGIN: Final = """
INSERT INTO darkroom.queue_counting (as_of, due_at, took_s, jobs) VALUES ('epoch', 'epoch', 0, 0) ON CONFLICT DO NOTHING
"""
_REPLACE: Final = f"""
INSERT INTO darkroom.queue_counts AS c
    (queue, job_type, tier, stage, status, held_by, jobs, oldest_at, next_due_at, turns)
{_GROUPS}
RETURNING c.jobs
"""
_END: Final = f"""
UPDATE darkroom.queue_counting a
SET as_of = now(), took_s = $1::float8, jobs = $2,
    due_at = clock_timestamp() + make_interval(
        secs => greatest({LEAST_INTERVAL_S}, {REST_FACTOR} * $1::float8))
"""


@dataclass(frozen=True, slots=True)
class JobGroup:
    """Jobs of a queue that are alike, and how many there are.

    Attributes:
        queue: the queue.
        job_type: their type.
        tier: their tier.
        stage: the stage that runs or comes next.
        status: `waiting`, `running`, `retrying` until a time, or `scheduled` until the time that their producer gave.
        held_by: what keeps those that don't run from being claimed, whatever the time: `paused`, `refused` (by the
            database, `models.queue.refusals`), `suspect` (`models.queue.suspects`), `cap` or `tag`
            (`models.queue.fair`); empty for nothing.
        jobs: how many there are.
        oldest_at: since when the oldest of them could have begun.
        next_due_at: when the first of them is due; None unless they wait for a time.
        turns: of jobs held by a cap, the largest number of turns that a user needs for those of his jobs, with as many
            at a time as his cap allows.
        as_of: when they were counted.
        is_estimate: whether their number was concluded from a part of the queue.
    """

    queue: str
    job_type: str
    tier: str
    stage: str
    status: str
    held_by: str
    jobs: int
    oldest_at: datetime
    next_due_at: datetime | None
    turns: float | None
    as_of: datetime
    is_estimate: bool = False


async def job_groups(connection: Connection, *, is_small: bool = False) -> list[JobGroup]:
    """Return the jobs in the queues, counted now, or by a scheduler some time ago if there are more than LONG.

    Args:
        connection: where the queue is.
        is_small: read little, however long the queue is: from SHORT jobs on, the scheduler's last count counts, and if
            no scheduler counts, an estimate by a sample.
    """
    row = await connection.fetchrow(_SMALL_WAY if is_small else _WAY, SHORT if is_small else LONG)
    if row is None:
        raise AssertionError("unreachable: it has one row")
    if row["way"] == "sampled":
        rows = await connection.fetch(_SAMPLED, row["percent"])
    else:
        rows = await connection.fetch(_KEPT if row["way"] == "kept" else _COUNTED, timeout=COUNT_TIMEOUT_S)
    return [JobGroup(**row) for row in rows]


def is_waiting_for(group: JobGroup, name: str) -> bool:
    """Return whether a pause of a queue, type or tier, such as `tier:TIER_4K`, concerns jobs that don't run."""
    names = {f"queue:{group.queue}", f"type:{group.job_type}", f"tier:{group.tier}"}
    return group.status != "running" and name in names


async def count_queues(database: Database) -> int | None:
    """Count the jobs in the queues for others to read, if that is due; return how many there are.

    The result is None if it isn't due, or if another scheduler counts. Any number of processes may call this.
    """
    if not await database.fetchval(_IS_DUE):
        return None
    jobs: int | None = await database.commit("count_queues", _count)
    return jobs


async def _count(connection: Connection) -> int | None:
    async with connection.transaction():
        await connection.execute(_BEGIN)
        if not await connection.fetchval(_LOCK):
            return None
        began_s = time.monotonic()
        await connection.execute("DELETE FROM darkroom.queue_counts")
        counted = await connection.fetch(_REPLACE, timeout=COUNT_TIMEOUT_S)
        jobs: int = sum(row["jobs"] for row in counted)
        await connection.execute(_END, time.monotonic() - began_s, jobs)
        return jobs
