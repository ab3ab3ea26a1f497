"""A job's history: its stages, its provider calls, the objects that it stored, and ends that were refused."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, TypeAlias
from uuid import UUID

from models.connections import Connection

RUNS: Final = """
SELECT r.at, r.event, r.stage, r.attempt, r.duration_ms, r.worker_id, r.error,
       r.output -> 'treatments' AS treatments, r.output -> 'measures' AS measures,
       CASE r.event WHEN 'handed_over' THEN r.output ->> 'queue' END AS queue, w.host, w.pid
FROM darkroom.stage_runs r LEFT JOIN darkroom.workers w ON w.id = r.worker_id
WHERE r.job_id = $1 AND ($2::text[] IS NULL OR r.job_type = ANY ($2)) ORDER BY r.at, r.id
"""
CALLS: Final = """
SELECT c.id, c.started_at, c.finished_at, c.provider, c.model, c.purpose, c.attempt, c.outcome, c.may_be_paid,
       c.latency_ms, c.images, c.cost_usd, c.quoted_usd, c.problem
FROM darkroom.provider_calls c WHERE c.job_id = $1 AND ($2::text[] IS NULL OR c.job_type = ANY ($2)) ORDER BY c.id
"""
REFUSED: Final = """
SELECT r.refused_at, r.label, r.reason, r.words, coalesce(o.owed, 0) AS owed FROM darkroom.refused_ends r
LEFT JOIN darkroom.refunds_owed o ON o.job_type = r.job_type AND o.job_id = r.job_id
WHERE r.job_id = $1 AND ($2::text[] IS NULL OR r.job_type = ANY ($2))
"""
OBJECTS: Final = """
SELECT a.created_at, a.key, a.bytes, a.treatments FROM darkroom.artifacts a
WHERE a.job_id = $1 AND ($2::text[] IS NULL OR a.job_type = ANY ($2))
"""
_TYPES: Final = """
SELECT r.job_type FROM darkroom.stage_runs r WHERE r.job_id = $1
UNION SELECT c.job_type FROM darkroom.provider_calls c WHERE c.job_id = $1
UNION SELECT m.job_type FROM darkroom.job_money m WHERE m.job_id = $1
UNION SELECT a.job_type FROM darkroom.artifacts a WHERE a.job_id = $1
UNION SELECT e.job_type FROM darkroom.refused_ends e WHERE e.job_id = $1
UNION SELECT c.job_type FROM darkroom.checkpoints c WHERE c.job_id = $1
ORDER BY 1
"""
_TIMED: Final = """
SELECT r.job_id, r.stage, r.event, r.duration_ms, r.output FROM darkroom.stage_runs r
WHERE r.job_id = ANY ($1::text[]) AND r.duration_ms IS NOT NULL ORDER BY r.at, r.id
"""
_FINISHED: Final = """
SELECT DISTINCT r.stage FROM darkroom.stage_runs r WHERE r.job_id = $1 AND r.job_type = $2 AND r.event = 'finished'
"""
_PAYLOAD: Final = """
SELECT r.output FROM darkroom.stage_runs r
WHERE r.job_id = $1 AND r.job_type = $2 AND r.event = 'claimed' AND r.output IS NOT NULL ORDER BY r.at DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class StageRun:
    """One event in a job's history.

    `treatments` and `measures` are what a stage recorded besides its output: what was done to the picture, and figures
    by name. `queue` is the one to which the job was handed over. `host` and `pid` are the worker's; both are None once
    the worker's row is deleted.
    """

    at: datetime
    event: str
    stage: str | None
    attempt: int | None
    duration_ms: int | None
    worker_id: UUID | None
    error: str | None
    treatments: Any
    measures: Any
    queue: str | None
    host: str | None
    pid: int | None


@dataclass(frozen=True, slots=True)
class ProviderCall:
    """A provider call for a job, recorded before the call was made; `finished_at` is None until the call is closed."""

    id: int
    started_at: datetime
    finished_at: datetime | None
    provider: str
    model: str | None
    purpose: str
    attempt: int
    outcome: str
    may_be_paid: bool
    latency_ms: int | None
    images: int | None
    cost_usd: Decimal | None
    quoted_usd: Decimal
    problem: str | None


@dataclass(frozen=True, slots=True)
class RefusedEnd:
    """An end of a job of which the database refused the label, the refund, or both.

    Attributes:
        refused_at: when it was refused.
        label: the label that is still to be written into the job's row; None if the row has it.
        reason: why the job ended.
        words: PostgreSQL's message.
        owed: tokens that are still to be refunded.
    """

    refused_at: datetime
    label: str | None
    reason: str
    words: str
    owed: int


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object that a job stored."""

    created_at: datetime
    key: str
    bytes: int
    treatments: Sequence[str]


@dataclass(frozen=True, slots=True)
class TimedRun:
    """A finished stage of one of several jobs, with its duration and what it recorded."""

    job_id: str
    stage: str
    event: str
    duration_ms: int
    output: Any


Types: TypeAlias = Sequence[str] | None
"""The types of the jobs of a job's table, because another table may have a job of the same id.

None where nothing tells the table of a job whose row is deleted.
"""


async def recorded_types(connection: Connection, job_id: str) -> list[str]:
    """Return the types of all jobs with an id of which anything is recorded, also of those whose rows are deleted."""
    return [row["job_type"] for row in await connection.fetch(_TYPES, job_id)]


async def stage_runs(connection: Connection, job_id: str, types: Types) -> list[StageRun]:
    """Return the events of a job's history, oldest first."""
    return [StageRun(**row) for row in await connection.fetch(RUNS, job_id, types)]


async def provider_calls(connection: Connection, job_id: str, types: Types) -> list[ProviderCall]:
    """Return a job's provider calls in the order in which they were made."""
    return [ProviderCall(**row) for row in await connection.fetch(CALLS, job_id, types)]


async def timed_runs(connection: Connection, job_ids: Sequence[str]) -> list[TimedRun]:
    """Return the stages of several jobs that have a duration, oldest first."""
    return [TimedRun(**row) for row in await connection.fetch(_TIMED, job_ids)]


async def finished_stages(connection: Connection, job_id: str, job_type: str) -> set[str]:
    """Return the names of the stages that a job has finished."""
    return {row["stage"] for row in await connection.fetch(_FINISHED, job_id, job_type)}


async def last_payload(connection: Connection, job_id: str, job_type: str) -> dict[str, Any]:
    """Return the payload of a job's last claim."""
    return dict(await connection.fetchval(_PAYLOAD, job_id, job_type) or {})
