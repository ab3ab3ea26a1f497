"""Statistics of queues: jobs, workers and pauses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from models.connections import Connection
from models.queue.counts import JobGroup, job_groups
from models.queue.pause_records import LastingPause, lasting_pauses
from models.queue.stats import (
    Capacity,
    LiveWorker,
    Moment,
    QueueCount,
    by_status,
    capacities_of,
    live_workers,
    moment,
    wait_s,
)
from pipelines.settings import Settings
from workers.operations.drain_times import drain_times
from workers.operations.shut_providers import ShutProvider
from workers.process.runtime import Runtime


@dataclass(frozen=True, slots=True)
class QueueNow:
    """A queue that has jobs, or from which a live worker claims.

    Each of its jobs is in one of the first four numbers; the next four say what keeps some of these from being claimed.

    Attributes:
        queue: its name.
        waiting: jobs that wait for a lane.
        running: jobs that workers hold.
        retrying: jobs that wait for the time of their next attempt.
        scheduled: jobs that wait for the time that their producer gave.
        paused: jobs that an operator's pause keeps.
        held: jobs that wait for a slot under their user's cap, or for their position.
        refused: jobs that the database refuses to start.
        suspect: jobs that have to run alone, because a worker died with them.
        oldest_wait_s: for how long the oldest of the waiting and retrying ones has waited; 0 if there is none.
        next_due_at: when the first of those that wait for a time is due.
        drain_s: in how many seconds its waiting jobs have left it; None if that is unknown (`drain_times`).
        lanes: the lanes of the live workers that claim from it, also if they claim from other queues, too.
        workers: how many of these worker processes there are.
        as_of: when its jobs were counted.
    """

    queue: str
    waiting: int
    running: int
    retrying: int
    scheduled: int
    paused: int
    held: int
    refused: int
    suspect: int
    oldest_wait_s: float
    next_due_at: datetime | None
    drain_s: float | None
    lanes: int
    workers: int
    as_of: datetime


@dataclass(frozen=True, slots=True)
class QueueStats:
    """`queues` has a row for each queue, `statuses` one for each queue and status with jobs in it.

    `workers` has one for each live process, and `pauses` are the present pauses.
    """

    queues: Sequence[QueueNow]
    statuses: Sequence[QueueCount]
    workers: Sequence[LiveWorker]
    pauses: Sequence[LastingPause]


@dataclass(frozen=True, slots=True)
class QueuesRead:
    """Statistics of queues, and what they were made of.

    Attributes:
        stats: the statistics.
        groups: the jobs in the queues.
        moment: when they were read, and what is recorded.
    """

    stats: QueueStats
    groups: Sequence[JobGroup]
    moment: Moment

    @property
    def is_estimate(self) -> bool:
        """Whether the numbers of jobs were concluded from a part of the queue."""
        return any(one.is_estimate for one in self.groups)


async def queue_stats(runtime: Runtime) -> QueueStats:
    """Count the jobs in the queues, and return the live workers and the pauses.

    Where a queue is long, the jobs are those that a scheduler counted last; `as_of` says when.
    """
    read = await runtime.database.run(lambda connection: read_queues(connection, runtime.settings))
    return read.stats


async def small_queue_stats(runtime: Runtime) -> QueuesRead:
    """Return the same with little reading, however long the queues are; then the numbers may be estimates."""
    return await runtime.database.run(lambda connection: read_queues(connection, runtime.settings, is_small=True))


async def read_queues(
    connection: Connection, settings: Settings, *, is_small: bool = False, shut: Sequence[ShutProvider] | None = None
) -> QueuesRead:
    """Return the jobs in the queues, the live workers and the pauses.

    Args:
        connection: where these are.
        settings: with the providers and their limits.
        is_small: read little, however long the queues are (`models.queue.counts`).
        shut: the providers that may not be called, if the caller knows them.
    """
    groups = await job_groups(connection, is_small=is_small)
    workers = await live_workers(connection)
    capacities = capacities_of(workers)
    lanes = {queue: one.lanes for queue, one in capacities.items()}
    now = await moment(connection)
    drains = await drain_times(connection, settings, groups, lanes, stage_queues=now.stage_queues, shut=shut)
    queues = [_queue_now(name, groups, capacities, drains[name], now.now) for name in sorted(drains)]
    pauses = await lasting_pauses(connection, groups)
    return QueuesRead(QueueStats(queues, by_status(groups, now.now), workers, pauses), groups, now)


_NO_WORKER = Capacity(0, 0)


def _queue_now(
    name: str,
    groups: Sequence[JobGroup],
    capacities: Mapping[str, Capacity],
    drain_s: float | None,
    now: datetime,
) -> QueueNow:
    own = [one for one in groups if one.queue == name]

    def jobs(*names: str) -> int:
        return sum(one.jobs for one in own if one.status in names or one.held_by in names)

    since = [one.oldest_at for one in own if one.status in {"waiting", "retrying"}]
    capacity = capacities.get(name, _NO_WORKER)
    return QueueNow(
        name,
        waiting=jobs("waiting"),
        running=jobs("running"),
        retrying=jobs("retrying"),
        scheduled=jobs("scheduled"),
        paused=jobs("paused"),
        held=jobs("cap"),
        refused=jobs("refused"),
        suspect=jobs("suspect"),
        oldest_wait_s=wait_s(min(since), now) if since else 0.0,
        next_due_at=min((one.next_due_at for one in own if one.next_due_at), default=None),
        drain_s=drain_s,
        lanes=capacity.lanes,
        workers=capacity.workers,
        as_of=own[0].as_of if own else now,
    )
