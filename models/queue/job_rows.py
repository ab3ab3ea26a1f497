"""Jobs as rows of the application's tables and of the queue: reading by id, cancellation."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final
from uuid import UUID

import asyncpg

from models.applications.registry import job_tables
from models.connections import Connection
from models.job_tables.rendering import as_state, as_types, id_as_text, last_write, over
from models.job_tables.row_facts import OF_A_ROW
from models.job_tables.table import Balance, JobTable, Tokens
from models.queue.job_names import JobKey, job_keys, job_names, key_of
from models.queue.refusal import CHECK_CONSTRAINTS_NOW

_UNFINISHED: Final = "SELECT q.job_type, q.job_id FROM darkroom.job_queue q ORDER BY q.position, q.id"
_QUEUED: Final = """
SELECT q.queue, q.stage, q.status, q.attempts, q.max_attempts, q.last_error, q.scheduled_at, q.run_at,
       q.created_at, q.started_at, q.worker_id, q.deadline_at
FROM darkroom.job_queue q WHERE q.job_id = $1 AND q.job_type = $2
"""
_QUEUED_STAGES: Final = (
    "SELECT q.job_type, q.job_id, q.stage FROM darkroom.job_queue q WHERE q.job_id = ANY ($1::text[])"
)
_COSTS: Final = 'SELECT j.type, j.id, j."tokensCost" FROM darkroom.jobs_of($1::text[]) j'
_OURS: Final = "darkroom."
"""Prefix of the columns that a statement adds to the columns of the application's own table."""

_STATUS: Final = """
SELECT j.type, j.id, j.status FROM darkroom.job_named($1) n CROSS JOIN LATERAL darkroom.jobs_of(ARRAY[n.id]) j
WHERE j.type = n.type
"""
_CANCEL: Final = "SELECT darkroom.cancel_job($1)"


@dataclass(frozen=True, slots=True)
class Job:
    """A job as its row describes it.

    Times are UTC without a zone, as in the application's tables.

    Attributes:
        key: its table and its id.
        name: by which people ask for it: its id, or TABLE/ID if another job table has a job with this id, too.
        id: of the job.
        job_type: such as `blend`.
        status: a `JobStatus`, whatever label its table uses for it.
        tier: a label of `EnhancementTier`.
        user_id: the user who submitted it.
        stage: the stage that its row shows; None where it shows none.
        created_at: when it was submitted.
        updated_at: when its row was last written.
        started_at: when a worker first claimed it; None before.
        completed_at: when it ended; None where the row has no such time.
        error: why it ended without success.
        cost: its price, where it is paid from a balance of the application's own; None elsewhere.
        columns: the whole row by its table's own column names, and `jobType`, for printing.
    """

    key: JobKey
    name: str
    id: str
    job_type: str
    status: str
    tier: str | None
    user_id: str | None
    stage: str | None
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    error: str | None
    cost: int | None
    columns: Mapping[str, Any]

    def tokens(self, cost_column: str) -> int | None:
        """Return what it costs in tokens; None where nobody pays for it.

        `cost_column` is the name of the column of the cost in the tables of `pictures`.
        """
        return self.columns.get(cost_column) if isinstance(self.key.table.money, Tokens) else self.cost


@dataclass(frozen=True, slots=True)
class QueueRow:
    """A job's row in the queue, while the job is unfinished."""

    queue: str
    stage: str | None
    status: str
    attempts: int
    max_attempts: int
    last_error: str | None
    scheduled_at: datetime
    run_at: datetime | None
    created_at: datetime
    started_at: datetime | None
    worker_id: UUID | None
    deadline_at: datetime | None


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A cancelled job's type and id, and its status before and after; both are the same if it was over already."""

    job_type: str
    job_id: str
    before: str
    after: str


async def read_jobs(connection: Connection, names: Sequence[str]) -> list[Job]:
    """Return jobs in the order of the given names, each an id or TABLE/ID. Names of no job are left out.

    Raises:
        asyncpg.InvalidParameterValueError: a name stands for jobs of several tables; the message names each of them.
    """
    keys = await job_keys(connection, names)
    return await jobs_at(connection, keys.values())


async def jobs_at(connection: Connection, keys: Iterable[JobKey]) -> list[Job]:
    """Return jobs in the order of the given keys, each once. Keys of no job are left out."""
    asked = list(dict.fromkeys(keys))
    rows: dict[JobKey, asyncpg.Record] = {}
    for table in job_tables():
        if ids := [key.job_id for key in asked if key.table is table]:
            found = await connection.fetch(_rows(table), ids)
            rows |= {JobKey(table, row[f"{_OURS}id"]): row for row in found}
    names = await job_names(connection, rows)
    return [_job(key, names[key], rows[key]) for key in asked if key in rows]


@cache
def _rows(table: JobTable) -> str:
    """Render the statement that reads a table's jobs: its own columns, and the facts that every job table has.

    The facts have names that no column of an application has.
    """

    def time(column: str | None) -> str:
        if column is None:
            return "NULL::timestamp"
        return f"j.{column}" + ("" if table.time_type == "timestamp" else " AT TIME ZONE 'utc'")

    facts = {
        "id": id_as_text(table, "j"),
        "job_type": over(table.job_type, "j"),
        "status": as_state(table, f"j.{table.status_column}"),
        "tier": over(table.tier, "j"),
        "user_id": over(table.user, "j"),
        "stage": OF_A_ROW["stage"](table, "j") if table.stage_column else "NULL::text",
        "created_at": over(table.created, "j"),
        "updated_at": over(last_write(table), "j"),
        "started_at": time(table.started_column),
        "completed_at": time(table.completed_column),
        "error": "NULL::text" if table.error_column is None else f"j.{table.error_column}",
        "cost": f"({over(table.cost, 'j')})::bigint" if isinstance(table.money, Balance) else "NULL::bigint",
    }
    named = ", ".join(f'{sql} AS "{_OURS}{name}"' for name, sql in facts.items())
    return f"""
SELECT j.*, {named}, {facts["job_type"]} AS "jobType" FROM {table.name} j
WHERE j.{table.id_column} = ANY ({as_types(table.id_type, "$1::text[]")}) AND {facts["job_type"]} IS NOT NULL
"""


def _job(key: JobKey, name: str, row: asyncpg.Record) -> Job:
    columns = dict(row)
    facts = {one.removeprefix(_OURS): columns.pop(one) for one in list(columns) if one.startswith(_OURS)}
    return Job(key=key, name=name, columns=columns, **facts)


async def unfinished_jobs(connection: Connection) -> list[JobKey]:
    """Return the keys of all jobs in the queue, in the queue's order."""
    return [key_of(row["job_type"], row["job_id"]) for row in await connection.fetch(_UNFINISHED)]


async def queue_row(connection: Connection, job: Job) -> QueueRow | None:
    """Return a job's queue row; None once the job is over."""
    row = await connection.fetchrow(_QUEUED, job.id, job.job_type)
    return None if row is None else QueueRow(**row)


async def queued_stages(connection: Connection, keys: Sequence[JobKey]) -> dict[JobKey, str]:
    """Return the stage that each of some jobs has in the queue; jobs that aren't there are left out."""
    if not keys:
        return {}
    asked = set(keys)
    rows = await connection.fetch(_QUEUED_STAGES, [key.job_id for key in keys])
    stages = {key_of(row["job_type"], row["job_id"]): row["stage"] for row in rows}
    return {key: stage for key, stage in stages.items() if key in asked}


async def costs_of(connection: Connection, keys: Sequence[JobKey]) -> dict[JobKey, int]:
    """Return what each of some jobs costs in tokens, as its row says; jobs without a price are left out."""
    asked = set(keys)
    rows = await connection.fetch(_COSTS, [key.job_id for key in keys]) if keys else []
    costs = {key_of(row["type"], row["id"]): row["tokensCost"] for row in rows}
    return {key: cost for key, cost in costs.items() if key in asked and cost is not None}


async def cancel_job(connection: Connection, name: str) -> Cancelled | None:
    """Cancel a job, given by its id or TABLE/ID, in the caller's transaction. Return None if there is no such job.

    The application's deferred constraints are checked in this call and not at the commit, so that the caller learns of
    a refused label, and can cancel the job without writing the label into its row.

    Raises:
        asyncpg.InvalidParameterValueError: the name stands for jobs of several tables; the message names each of them.
    """
    await connection.execute(CHECK_CONSTRAINTS_NOW)
    before = await connection.fetchrow(_STATUS, name)
    if before is None:
        return None
    after = await connection.fetchval(_CANCEL, key_of(before["type"], before["id"]).full_name)
    return Cancelled(before["type"], before["id"], before["status"], after)
