"""Statistics of queues: jobs by status, and live worker processes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from models.connections import Connection
from models.job_state import TERMINAL
from models.queue.counts import JobGroup

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
_OF_QUEUES: Final = """
SELECT q.queue, count(*)::integer AS workers, sum(w.lanes)::integer AS lanes
FROM darkroom.workers w CROSS JOIN LATERAL unnest(w.queues) q (queue)
WHERE w.lease_expires_at > now() GROUP BY q.queue
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

    Jobs that wait because of a pause have the status `paused`, and jobs that wait for the time that their producer gave
    the status `scheduled`. Jobs that the database refuses to start
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


def by_status(groups: Iterable[JobGroup], now: datetime) -> list[QueueCount]:
    """Return how many jobs each queue has by status: one status for each job, the first that keeps it from running."""
    found: dict[tuple[str, str], list[JobGroup]] = {}
    for group in groups:
        status = group.held_by if group.held_by in _NAMED else _STATUSES.get(group.status, group.status)
        found.setdefault((group.queue, status), []).append(group)
    return [
        QueueCount(
            queue,
            status,
            sum(one.jobs for one in some),
            wait_s(min(one.oldest_at for one in some), now),
            min((one.next_due_at for one in some if one.next_due_at), default=None),
        )
        for (queue, status), some in sorted(found.items())
    ]


_NAMED: Final = frozenset({"paused", "refused", "suspect"})
_STATUSES: Final = {"waiting": "pending", "running": "processing"}


def wait_s(since: datetime, now: datetime) -> float:
    """Return for how many seconds something has waited; 0 if it begins later."""
    return round(max(0.0, (now - since).total_seconds()), 1)


async def queue_capacities(connection: Connection) -> dict[str, Capacity]:
    """Count, by queue, the live workers that claim from it, and their lanes, which they may share between queues."""
    return {row["queue"]: Capacity(row["workers"], row["lanes"]) for row in await connection.fetch(_OF_QUEUES)}


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
