"""The gauges of a scheduler: the state of the whole installation, which every scheduler reads alike."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

from models.connections import Connection
from models.gate.costs import budget_shares
from models.gate.operating import count_open
from models.periodic.ticks import LastTick, failed_ticks, last_ticks
from models.queue.counts import JobGroup, job_groups
from models.queue.pause_records import pause_names
from models.queue.queues import recorded_stage_queues
from models.queue.stats import by_status, capacities_of, capacity, live_workers, wait_s
from models.schema.server import server_time
from pipelines.settings import Settings
from workers.metrics import families
from workers.metrics.families import Family
from workers.metrics.values import Key
from workers.operations.drain_times import drain_times
from workers.operations.providers import BUYING
from workers.operations.shut_providers import shut_providers
from workers.periodic.registry import periodic_tasks
from workers.periodic.tasks.audit_ledger import TASK as AUDIT
from workers.process.runtime import Runtime

STATUSES: Final = ("pending", "processing", "retrying", "scheduled", "paused", "refused", "suspect")
"""The statuses of jobs in a queue, as `models.queue.stats.by_status` names them."""

Series = Iterator[tuple[Family, tuple[str, ...], float]]


async def read_gauges(runtime: Runtime) -> dict[Key, float]:
    """Read the state of queues, workers, providers, budgets, pauses and periodic tasks.

    No statement reads a job table. Where a queue is long, its jobs are those that a scheduler counted last
    (`models.queue.counts`). What isn't known is left out.

    Raises:
        DatabaseLostError, ContentionError, asyncpg.PostgresError: the database can't be read.
    """

    async def read(connection: Connection) -> dict[Key, float]:
        groups = await job_groups(connection)
        now = await server_time(connection)
        found = [
            *await _of_queues(connection, runtime.settings, groups, now),
            *await _of_purchases(connection, runtime.settings),
            *await _of_tasks(connection, runtime.settings, now),
        ]
        return {(family.name, labels, ""): value for family, labels, value in found}

    return await runtime.database.run(read)


async def _of_queues(
    connection: Connection, settings: Settings, groups: Sequence[JobGroup], now: datetime
) -> list[tuple[Family, tuple[str, ...], float]]:
    lanes = {queue: one.lanes for queue, one in capacities_of(await live_workers(connection)).items()}
    stage_queues = await recorded_stage_queues(connection)
    drains = await drain_times(connection, settings, groups, lanes, stage_queues=stage_queues)
    live = await capacity(connection)
    return [
        *_jobs(drains, groups, now),
        *((families.QUEUE_DRAIN, (queue,), drain_s) for queue, drain_s in drains.items() if drain_s is not None),
        (families.WORKERS_LIVE, (), live.workers),
        (families.LANES_LIVE, (), live.lanes),
    ]


def _jobs(queues: Mapping[str, float | None], groups: Sequence[JobGroup], now: datetime) -> Series:
    counts = {(one.queue, one.status): one.count for one in by_status(groups, now)}
    for queue in queues:
        for status in STATUSES:
            yield families.QUEUE_JOBS, (queue, status), counts.get((queue, status), 0)
        since = [one.oldest_at for one in groups if one.queue == queue and one.status in {"waiting", "retrying"}]
        yield families.QUEUE_OLDEST, (queue,), wait_s(min(since), now) if since else 0.0


async def _of_purchases(connection: Connection, settings: Settings) -> list[tuple[Family, tuple[str, ...], float]]:
    shut = {one.name for one in await shut_providers(connection, settings)}
    paused = await pause_names(connection)
    shares = await budget_shares(connection, settings.budgets)
    return [
        *((families.PROVIDER_OPEN, (name,), float(name not in shut)) for name in settings.providers),
        *((families.BUDGET_SPENT, (name,), share) for name, share in shares.items()),
        (families.PAUSED, (BUYING,), float(BUYING in paused)),  # shown while it is off, too, since there is one
        *((families.PAUSED, (name,), 1.0) for name in paused),
        (families.CALLS_OPEN, (), await count_open(connection)),
    ]


async def _of_tasks(
    connection: Connection, settings: Settings, now: datetime
) -> list[tuple[Family, tuple[str, ...], float]]:
    names = [task.name for task in periodic_tasks(settings)]
    last = await last_ticks(connection, names)
    failed = await failed_ticks(connection, names)
    return [
        *_ages(last, now),
        *((families.TICKS_FAILED, (name,), number) for name, number in failed.items()),
        *((families.MONEY_VIOLATIONS, (), found) for found in _violations(last[AUDIT.name])),
    ]


def _ages(last: Mapping[str, LastTick], now: datetime) -> Series:
    for name, tick in last.items():
        if tick.last_run is not None:
            yield families.TICK_AGE, (name,), max(0.0, (now - tick.last_run).total_seconds())


def _violations(audit: LastTick) -> list[int]:
    """Return how many violations the last audit found; nothing if there was none, or if it failed."""
    found = (audit.last_counts or {}).get("violations")
    return [] if found is None else [found]
