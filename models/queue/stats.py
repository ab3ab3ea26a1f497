"""Statistics of queues: jobs by status, and live worker processes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from models.connections import Connection
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
_CAPACITY: Final = """
SELECT count(*) AS workers, coalesce(sum(w.lanes), 0) AS lanes FROM darkroom.workers w WHERE w.lease_expires_at > now()
"""
_MOMENT: Final = """
SELECT clock_timestamp() AS now, coalesce(darkroom.setting('stage_queues'), '{}') AS stage_queues,
       coalesce(darkroom.setting('prices'), '{}') AS prices,
       greatest((SELECT a.as_of FROM darkroom.queue_counting a WHERE a.as_of > 'epoch'),
                (SELECT max(t.finished_at) FROM darkroom.ticks t WHERE t.task = 'roll-up-jobs')) AS scheduler_seen_at
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


@dataclass(frozen=True, slots=True)
class Moment:
    """When something was read, and what is recorded then.

    Attributes:
        now: the time by the database's clock.
        stage_queues: the queues of stages that have one of their own, by stage.
        prices: what a job costs, in tokens by tier.
        scheduler_seen_at: when a scheduler has counted the queues, or rolled up, for the last time, which it does at
            least once a minute; None if none ever has.
    """

    now: datetime
    stage_queues: Mapping[str, str]
    prices: Mapping[str, int]
    scheduler_seen_at: datetime | None


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


def capacities_of(workers: Iterable[LiveWorker]) -> dict[str, Capacity]:
    """Count, by queue, the live workers that claim from it, and their lanes, which they may share between queues."""
    found: dict[str, Capacity] = {}
    for worker in workers:
        for queue in worker.queues:
            had = found.get(queue, Capacity(0, 0))
            found[queue] = Capacity(had.workers + 1, had.lanes + worker.lanes)
    return found


async def moment(connection: Connection) -> Moment:
    """Return the time, what is recorded, and when a scheduler was seen last."""
    row = await connection.fetchrow(_MOMENT)
    assert row is not None  # noqa: S101 - it selects one row
    return Moment(**row)


async def live_workers(connection: Connection, queue: str | None = None) -> list[LiveWorker]:
    """Return the worker processes whose lease hasn't expired; if a queue is given, only those that claim from it."""
    return [LiveWorker(**row) for row in await connection.fetch(_LIVE, queue)]


async def capacity(connection: Connection) -> Capacity:
    """Count live workers and their lanes."""
    row = await connection.fetchrow(_CAPACITY)
    assert row is not None  # noqa: S101 - an aggregate without groups has one row
    return Capacity(**row)
