"""Statistics of queues: jobs by status, and live worker processes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from models.connections import Connection
from models.job_state import TERMINAL

# A job that a pause concerns counts as paused even if its row is still in the index; likewise for refused jobs.
_QUEUES: Final = """
SELECT q.queue, s.status, count(*)::integer AS count,
       round(extract(epoch FROM now() - min(q.created_at))::numeric, 1)::double precision AS oldest_wait_s,
       min(q.scheduled_at) FILTER (WHERE q.status = 'retrying') AS next_due_at
FROM (SELECT coalesce(darkroom.setting('pauses'), '{}') AS now) p
CROSS JOIN darkroom.job_queue q
CROSS JOIN LATERAL (
    SELECT CASE WHEN q.status <> 'processing'
                     AND (p.now ? ('queue:' || q.queue) OR darkroom.pause_of(q.job_type, q.tier, p.now) IS NOT NULL)
                THEN 'paused' WHEN q.refused_since IS NOT NULL THEN 'refused'
                WHEN q.suspect_of IS NOT NULL AND q.status <> 'processing' THEN 'suspect' ELSE q.status END AS status) s
GROUP BY q.queue, s.status ORDER BY q.queue, s.status
"""
_LIVE: Final = """
SELECT w.id, w.host, w.pid, w.queues, w.lanes,
       (SELECT count(*) FROM darkroom.job_queue q WHERE q.worker_id = w.id AND q.status = 'processing')::integer
           AS running,
       w.lease_expires_at,
       round(extract(epoch FROM w.lease_expires_at - now())::numeric, 1)::double precision AS lease_left_s,
       w.started_at
FROM darkroom.workers w
WHERE w.lease_expires_at > now() AND ($1::text IS NULL OR $1 = ANY (w.queues))
ORDER BY w.host, w.started_at
"""
_CAPACITY: Final = """
SELECT count(*) AS workers, coalesce(sum(w.lanes), 0) AS lanes FROM darkroom.workers w WHERE w.lease_expires_at > now()
"""
_ENDED: Final = """
SELECT j.status, count(*)::integer AS count FROM darkroom.jobs j
WHERE coalesce(j."processingCompletedAt", j."updatedAt") >= darkroom.utc_now() - interval '1 day'
  AND j.status = ANY ($1::text[])
GROUP BY j.status ORDER BY j.status
"""


@dataclass(frozen=True, slots=True)
class QueueCount:
    """How many jobs of a queue have a status.

    Jobs that wait because of a pause have the status `paused`. Jobs that the database refuses to start
    (`models.queue.refusals`) have the status `refused`, and jobs that have to run alone (`models.queue.suspects`) the
    status `suspect`.
    """

    queue: str
    status: str
    count: int
    oldest_wait_s: float
    next_due_at: datetime | None


@dataclass(frozen=True, slots=True)
class LiveWorker:
    """A worker process whose lease hasn't expired."""

    id: UUID
    host: str
    pid: int
    queues: Sequence[str]
    lanes: int
    running: int
    lease_expires_at: datetime
    lease_left_s: float
    started_at: datetime


@dataclass(frozen=True, slots=True)
class Capacity:
    """How many worker processes are alive, and how many jobs they can run at a time."""

    workers: int
    lanes: int


async def queue_counts(connection: Connection) -> list[QueueCount]:
    """Count the jobs in the queues, by queue and status."""
    return [QueueCount(**row) for row in await connection.fetch(_QUEUES)]


async def ended_of_last_day(connection: Connection) -> dict[str, int]:
    """Count the jobs that ended in the last 24 hours, by status."""
    return {row["status"]: row["count"] for row in await connection.fetch(_ENDED, sorted(TERMINAL))}


async def live_workers(connection: Connection, queue: str | None = None) -> list[LiveWorker]:
    """Return the worker processes whose lease hasn't expired; if a queue is given, only those that claim from it."""
    return [LiveWorker(**row) for row in await connection.fetch(_LIVE, queue)]


async def capacity(connection: Connection) -> Capacity:
    """Count live workers and their lanes."""
    row = await connection.fetchrow(_CAPACITY)
    assert row is not None  # noqa: S101 - an aggregate without groups has one row
    return Capacity(**row)
