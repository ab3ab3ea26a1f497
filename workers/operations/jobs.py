"""Jobs as operators see and change them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from models.connections import Connection
from models.job_state import JobStatus
from workers.operations.actions import record_action
from workers.operations.errors import JobNotCancellableError, NotFoundError, translated
from workers.process.compose import Runtime

_LIST = """
SELECT j.id FROM darkroom.jobs j
WHERE (cardinality($1::text[]) = 0 OR j.status = ANY ($1::text[]))
  AND ($2::text IS NULL OR j."userId" = $2) AND ($3::text IS NULL OR j.type = $3)
  AND ($4::timestamptz IS NULL OR j."createdAt" >= $4 AT TIME ZONE 'utc')
  AND ($5::text IS NULL OR strpos(lower(j."errorMessage"), lower($5)) > 0)
  AND NOT ($6 AND EXISTS (SELECT FROM darkroom.operator_actions a WHERE a.action = 'job_retry' AND a.target = j.id))
ORDER BY j."createdAt" DESC, j.id DESC LIMIT $7
"""
# The tables' own columns and not the view's, so that a reader finds the names of the application's schema.
_ENHANCEMENTS = """
SELECT j.*, CASE WHEN j."isBlend" THEN 'blend' ELSE 'enhance' END AS "jobType"
FROM public.image_enhancement_jobs j WHERE j.id = ANY ($1::text[])
"""
_GENERATIONS = """
SELECT j.*, lower(j.type::text) AS "jobType" FROM public.mcp_generation_jobs j WHERE j.id = ANY ($1::text[])
"""
_QUEUE = """
SELECT q.queue, q.stage, q.status, q.attempts, q.max_attempts, q.last_error, q.scheduled_at, q.created_at,
       q.started_at, q.worker_id, q.deadline_at
FROM darkroom.job_queue q WHERE q.job_id = $1 AND q.job_type = $2
"""
_HISTORY = """
SELECT r.at, r.event, r.stage, r.attempt, r.duration_ms, r.worker_id, r.error,
       r.output -> 'treatments' AS treatments
FROM darkroom.stage_runs r WHERE r.job_id = $1 AND r.job_type = $2 ORDER BY r.at, r.id
"""
_CALLS = """
SELECT c.started_at, c.provider, c.model, c.purpose, c.attempt, c.outcome, c.may_be_paid, c.latency_ms, c.images,
       c.cost_usd, c.problem
FROM darkroom.provider_calls c WHERE c.job_id = $1 AND c.job_type = $2 ORDER BY c.id
"""
_MONEY = "SELECT m.kind, m.amount, m.at FROM darkroom.job_money m WHERE m.job_id = $1 AND m.job_type = $2 ORDER BY m.at"


@dataclass(frozen=True, slots=True)
class JobDetails:
    """A job's row, its queue row while it is unfinished, and what happened to it, oldest first."""

    job: dict[str, Any]
    queue: dict[str, Any] | None
    history: list[dict[str, Any]]
    calls: list[dict[str, Any]]
    money: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs are meant. What isn't given leaves out none.

    `since` is the earliest creation, `error` a text that the error message holds, in whatever case.
    `leaves_out_retried` is for retrying many: what an operator has retried once isn't found again.
    """

    statuses: Sequence[str] = ()
    user_id: str | None = None
    job_type: str | None = None
    since: datetime | None = None
    error: str | None = None
    leaves_out_retried: bool = False


async def list_jobs(runtime: Runtime, wanted: JobFilter, *, limit: int = 50) -> list[dict[str, Any]]:
    """Return jobs, newest first, each with its table's columns and `jobType`."""
    rows = await runtime.database.fetch(
        _LIST,
        *(list(wanted.statuses), wanted.user_id, wanted.job_type, wanted.since, wanted.error),
        *(wanted.leaves_out_retried, limit),
    )
    return await get_jobs(runtime, [row["id"] for row in rows])


async def get_jobs(runtime: Runtime, job_ids: Iterable[str]) -> list[dict[str, Any]]:
    """Return jobs in the order of their ids, each with its table's columns and `jobType`; unknown ids are left out."""
    ids = list(job_ids)

    async def read(connection: Connection) -> list[asyncpg.Record]:
        return [*await connection.fetch(_ENHANCEMENTS, ids), *await connection.fetch(_GENERATIONS, ids)]

    found = {row["id"]: dict(row) for row in await runtime.database.run(read)}
    return [found[job_id] for job_id in ids if job_id in found]


async def unfinished_job_ids(runtime: Runtime) -> list[str]:
    """Return the ids of all jobs that are in the queue, in its order."""
    rows = await runtime.database.fetch("SELECT q.job_id FROM darkroom.job_queue q ORDER BY q.position")
    return [row["job_id"] for row in rows]


async def get_job(runtime: Runtime, job_id: str) -> JobDetails:
    """Return all that is known about a job.

    Raises:
        NotFoundError: there is no such job.
    """
    jobs = await get_jobs(runtime, [job_id])
    if not jobs:
        raise job_not_found(job_id)
    job_type = jobs[0]["jobType"]
    queue = await runtime.database.fetchrow(_QUEUE, job_id, job_type)
    history, calls, money = [
        [dict(row) for row in await runtime.database.fetch(sql, job_id, job_type)] for sql in (_HISTORY, _CALLS, _MONEY)
    ]
    return JobDetails(jobs[0], None if queue is None else dict(queue), history, calls, money)


async def cancel_job(runtime: Runtime, job_id: str, *, actor: str, reason: str | None = None) -> str:
    """Cancel a job and return its status, CANCELLED; a job cancelled before stays so.

    Raises:
        JobNotCancellableError: it has ended otherwise.
        NotFoundError: there is no such job.
    """

    async def cancel(connection: Connection) -> str:
        async with connection.transaction():
            # a rule that speaks only at the commit is heard while the cancellation can still do without the row's label
            await connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
            before = await connection.fetchval("SELECT j.status::text FROM darkroom.jobs j WHERE j.id = $1", job_id)
            if before is None:
                raise job_not_found(job_id)
            status: str = await connection.fetchval("SELECT darkroom.cancel_job($1)", job_id)
            if status != JobStatus.CANCELLED:
                raise JobNotCancellableError(job_id, status)
            if before != status:
                await record_action(
                    connection,
                    actor=actor,
                    action="job_cancel",
                    target=job_id,
                    before={"status": before},
                    after={"status": status},
                    reason=reason,
                )
            return status

    with translated():
        return await runtime.database.commit("cancel", cancel)


def job_not_found(job_id: str) -> NotFoundError:
    """Say that there is no such job, and where to look."""
    return NotFoundError(f"job {job_id} not found; `darkroom jobs list` shows the newest")
