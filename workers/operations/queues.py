"""What waits, what runs, and who works."""

from dataclasses import dataclass
from typing import Any

from workers.operations.pauses import list_pauses
from workers.process.compose import Runtime

# held or not yet: what a pause covers and doesn't run is paused; what the database refuses to start is refused
_QUEUES = """
SELECT q.queue, s.status, count(*)::integer AS count,
       round(extract(epoch FROM now() - min(q.created_at))::numeric, 1)::double precision AS oldest_wait_s,
       min(q.scheduled_at) FILTER (WHERE q.status = 'retrying') AS next_due_at
FROM (SELECT coalesce(darkroom.setting('pauses'), '{}') AS now) p
CROSS JOIN darkroom.job_queue q
CROSS JOIN LATERAL (
    SELECT CASE WHEN q.status <> 'processing'
                     AND (p.now ? ('queue:' || q.queue) OR darkroom.pause_of(q.job_type, q.tier, p.now) IS NOT NULL)
                THEN 'paused' WHEN q.refused_since IS NOT NULL THEN 'refused' ELSE q.status END AS status) s
GROUP BY q.queue, s.status ORDER BY q.queue, s.status
"""
_LIVE = """
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


@dataclass(frozen=True, slots=True)
class QueueStats:
    """`queues` has a row for each queue and status with jobs in it, `workers` one for each live process.

    `pauses` are those that last; what they cover and doesn't run has the status `paused`. What the database refuses to
    start (`models.queue.refusals`) has the status `refused`.
    """

    queues: list[dict[str, Any]]
    workers: list[dict[str, Any]]
    pauses: list[dict[str, Any]]


async def queue_stats(runtime: Runtime) -> QueueStats:
    """Count what is in the queues, and name who takes from them and who paused what."""
    rows = await runtime.database.fetch(_QUEUES)
    return QueueStats([dict(row) for row in rows], await live_workers(runtime), await list_pauses(runtime))


async def live_workers(runtime: Runtime, queue: str | None = None) -> list[dict[str, Any]]:
    """Return the worker processes whose lease lasts, of one queue where one is named."""
    return [dict(row) for row in await runtime.database.fetch(_LIVE, queue)]
