"""Why an unfinished job waits: its place in the queue, the worker that runs it, and locks on its row."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from models.applications.registry import table_of
from models.connections import Connection
from models.job_tables.rendering import as_id, locked_row, types
from models.job_tables.table import JobTable

_QUEUED: Final = """
SELECT now() AS now, q.queue, q.job_type, q.tier, q.status, q.stage,
       coalesce(q.ready OR q.held_by = 'tag', false) AS ready, q.paused_by, q.held_by, q.last_error,
       q.refused_since, q.refusals, q.suspect_of, q.scheduled_at, q.run_at, q.created_at, q.started_at,
       q.deadline_at,
       w.host, w.pid, w.lease_expires_at > now() AS is_alive,
       t.before_it, t.users_slots, t.lanes, t.is_full
FROM darkroom.job_queue q LEFT JOIN darkroom.workers w ON w.id = q.worker_id CROSS JOIN LATERAL darkroom.turn_of(q) t
WHERE q.job_id = $1 AND ($2::text[] IS NULL OR q.job_type = ANY ($2))
"""
_REFUSED_END: Final = """
SELECT r.label, r.words, now() AS now, r.tried_at, coalesce(o.owed, 0) AS owed,
       EXISTS (SELECT FROM darkroom.job_money m
               WHERE m.job_type = r.job_type AND m.job_id = r.job_id AND m.kind = 'refund') AS is_refunded
FROM darkroom.refused_ends r
LEFT JOIN darkroom.refunds_owed o ON o.job_type = r.job_type AND o.job_id = r.job_id
WHERE r.job_type = $1 AND r.job_id = $2 AND r.label IS NOT NULL
"""
_UNQUEUED: Final = """
SELECT now() AS now, darkroom.takes_over() AS takes_over,
       extract(epoch FROM darkroom.utc_now() - greatest($1::timestamp, $2::timestamp))::float8 AS silent_s,
       extract(epoch FROM darkroom.utc_now() - $3::timestamp)::float8 AS age_s,
       EXISTS (SELECT FROM darkroom.job_money m WHERE m.job_type = $4 AND m.job_id = $5 AND m.kind = 'refund')
           AS is_refunded
"""
_OUTSIDE: Final = """
SELECT darkroom.takes_over() AS takes_over, count(*) FILTER (WHERE j.status = 'PENDING') AS pending,
       count(*) FILTER (WHERE j.status = 'PROCESSING') AS processing, min(j.id) AS example
FROM darkroom.job_rows('{PENDING,PROCESSING}') j
WHERE (j.status = 'PROCESSING' OR (j.status = 'PENDING' AND j."createdAt" < darkroom.utc_now() - interval '1 minute'))
  AND NOT EXISTS (SELECT FROM darkroom.job_queue q WHERE q.job_id = j.id AND q.job_type = j.type)
  AND NOT EXISTS (SELECT FROM darkroom.refused_ends r
                  WHERE r.job_id = j.id AND r.job_type = j.type AND r.label IS NOT NULL)
"""


def _is_ours(table: JobTable) -> str:
    """Return a query of whether a statement of Darkroom holds the row of job $1 (text), or has just claimed the job.

    While a claim runs, the row's xmax is the claim's transaction. Darkroom's own session may also be left idle in a
    transaction, as when its host froze; then it is in the way as any other program's.
    """
    return f"""
SELECT NOT EXISTS (SELECT FROM darkroom.job_queue q
                   WHERE q.job_id = $1 AND q.job_type IN ({types(table)}) AND q.status <> 'processing')
    OR EXISTS (SELECT FROM {table.name} j JOIN pg_locks l ON l.locktype = 'transactionid' AND l.transactionid = j.xmax
               JOIN pg_stat_activity a ON a.pid = l.pid
               WHERE j.{table.id_column} = {as_id(table, "$1")} AND l.granted
                 AND a.application_name = 'darkroom' AND a.state = 'active')
"""


def _is_locked(table: JobTable) -> str:
    """Return a query of whether a transaction that is open has locked or changed the row of job $1 (text)."""
    return f"""
SELECT EXISTS (SELECT FROM {table.name} j JOIN pg_locks l ON l.locktype = 'transactionid' AND l.transactionid = j.xmax
               WHERE j.{table.id_column} = {as_id(table, "$1")} AND l.granted)
"""


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """An unfinished job's place in the queue, as read at time `now`.

    Attributes:
        now: the database's time when it was read.
        queue: the queue in which it waits.
        job_type: such as `blend`.
        tier: a label of `EnhancementTier`.
        status: pending, processing, or retrying, which waits for `scheduled_at`.
        stage: the stage that runs, or the next one.
        ready: whether neither its user's cap nor a pause keeps it from being claimed, and it has a position.
        paused_by: name of the pause that keeps it from being claimed; None if none does.
        held_by: 'cap' while it waits for a slot, 'tag' until it has a position; None otherwise.
        last_error: error of its last attempt, or with which the database last refused to start it.
        refused_since: since when the database refuses to start it; None if it doesn't.
        refusals: how often the database has refused.
        suspect_of: the worker that died while it ran the job, so that the job has to run alone; None for other jobs.
        scheduled_at: when it is due; `datetime.max` without a time zone while it waits for its producer.
        run_at: the time before which its producer doesn't want it to begin; None for at once.
        created_at: when it entered the queue.
        started_at: when it was claimed.
        deadline_at: deadline of the stage that runs.
        host: host of the worker that has claimed it.
        pid: process id of that worker.
        is_alive: whether that worker's lease is valid; None without a worker.
        before_it: how many jobs workers will claim before it; for a job that has to run alone, how many such jobs. None
            if more than 10,000 can be claimed before it.
        users_slots: how many jobs of its user run or can be claimed, counted to 5,000; 0 unless it waits for a slot.
        lanes: how many jobs the live workers of its queue can run at a time.
        is_full: whether they run that many.
    """

    now: datetime
    queue: str
    job_type: str
    tier: str
    status: str
    stage: str
    ready: bool
    paused_by: str | None
    held_by: str | None
    last_error: str | None
    refused_since: datetime | None
    refusals: int
    suspect_of: UUID | None
    scheduled_at: datetime
    run_at: datetime | None
    created_at: datetime
    started_at: datetime | None
    deadline_at: datetime | None
    host: str | None
    pid: int | None
    is_alive: bool | None
    before_it: int | None
    users_slots: int
    lanes: int
    is_full: bool

    @property
    def waits_for_producer(self) -> bool:
        """Whether it isn't due before its producer lets it go. The driver gives an infinite time no zone."""
        return self.scheduled_at.tzinfo is None


@dataclass(frozen=True, slots=True)
class UnlabelledEnd:
    """A job that is over although the database refuses to write its label.

    `now` and `tried_at` are the database's times.
    """

    label: str
    words: str
    now: datetime
    tried_at: datetime
    owed: int
    is_refunded: bool


@dataclass(frozen=True, slots=True)
class UnqueuedJob:
    """An unfinished job without a queue row.

    Attributes:
        now: the database's time of this look.
        takes_over: whether Darkroom may adopt jobs that another worker left on these tables.
        silent_s: seconds since its row was last written.
        age_s: seconds since its creation.
        is_refunded: whether its tokens have been refunded already.
    """

    now: datetime
    takes_over: bool
    silent_s: float
    age_s: float
    is_refunded: bool


@dataclass(frozen=True, slots=True)
class OutsideQueue:
    """How many unfinished jobs have no queue row, and the id of one. `takes_over` is as in `UnqueuedJob`."""

    takes_over: bool
    pending: int
    processing: int
    example: str | None


async def queued_job(connection: Connection, job_id: str, types: Sequence[str] | None = None) -> QueuedJob | None:
    """Return a job's place in the queue; None if it has none.

    `types` are those of the jobs of its table; None if nothing tells the table of a job whose row is deleted.
    """
    row = await connection.fetchrow(_QUEUED, job_id, types)
    return None if row is None else QueuedJob(**row)


async def unlabelled_end(connection: Connection, job_type: str, job_id: str) -> UnlabelledEnd | None:
    """Return what is known of a job that is over without its label; None for a job that has its label."""
    row = await connection.fetchrow(_REFUSED_END, job_type, job_id)
    return None if row is None else UnlabelledEnd(**row)


async def unqueued_job(
    connection: Connection,
    job_type: str,
    job_id: str,
    *,
    updated_at: datetime,
    started_at: datetime | None,
    created_at: datetime,
) -> UnqueuedJob:
    """Return the facts that decide what happens to an unfinished job without a queue row.

    The times are from its row.
    """
    row = await connection.fetchrow(_UNQUEUED, updated_at, started_at, created_at, job_type, job_id)
    assert row is not None  # noqa: S101 - a SELECT without FROM returns a row
    return UnqueuedJob(**row)


async def jobs_outside_queue(connection: Connection) -> OutsideQueue:
    """Count unfinished jobs without a queue row."""
    row = await connection.fetchrow(_OUTSIDE)
    assert row is not None  # noqa: S101 - an aggregate without groups has one row
    return OutsideQueue(**row)


async def is_row_held(connection: Connection, job_type: str, job_id: str) -> bool:
    """Return whether a transaction that isn't at work for Darkroom holds the row lock of a job that waits.

    It is found by trying to lock the row; the lock isn't kept. In a session that only reads, it is found by the
    transaction that the row names.
    """
    table = table_of(job_type)
    try:
        if getattr(connection.get_settings(), "default_transaction_read_only", "off") == "on":
            is_held = await connection.fetchval(_is_locked(table), job_id)
        else:
            is_held = await connection.fetchval(locked_row(table, " SKIP LOCKED"), job_id) is None
    except asyncpg.ReadOnlySQLTransactionError:
        is_held = await connection.fetchval(_is_locked(table), job_id)
    if not is_held:
        return False
    return not await connection.fetchval(_is_ours(table), job_id)
