"""Writes of one claim: each changes the job's row, its queue row and its history together, under the fence.

The fence is the queue row, locked after the job row. If it is gone, or has another
lease_token, the claim is lost and nothing is written.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from asyncpg import TriggeredDataChangeViolationError

from models.applications.registry import table_of
from models.connections import Connection, lock_waits
from models.job_state import JobStatus
from models.job_tables.rendering import state_of
from models.queue.claims import Claim, FencedError
from models.queue.ended import Ended, ended_as
from models.queue.transition_kinds import (
    Checkpoint,
    Completed,
    Failed,
    HandedOver,
    Kept,
    Released,
    Retried,
    Snoozed,
    Transition,
)
from models.queue.transition_statements import (
    HELD,
    MAX_ERROR_CHARS,
    ClaimWrite,
    as_json,
    cut,
    lock_statement,
    parts_of,
    transition_statement,
)

__all__ = [
    "BRIEF_LOCK_TIMEOUT_MS",
    "HELD",
    "HOUSEKEEPING_LOCK_TIMEOUT_MS",
    "HOUSEKEEPING_STATEMENT_S",
    "MAX_ERROR_CHARS",
    "Checkpoint",
    "Completed",
    "Failed",
    "HandedOver",
    "JobRef",
    "Kept",
    "Released",
    "Retried",
    "Snoozed",
    "Transition",
    "count_pipeline_use",
    "log_fenced",
    "record",
    "record_end",
    "record_without_claim",
]

HOUSEKEEPING_LOCK_TIMEOUT_MS = 50
"""How long, in ms, housekeeping waits for the locks of one job.

A program that holds one balance must not delay others.
"""

RECORD_S = 20.0
"""How long, in seconds, a claim's own write may take. A trigger may be slow, and the job must end nevertheless."""

HOUSEKEEPING_STATEMENT_S = 5.0
"""How long, in seconds, a single write of housekeeping may take. A trigger may be slow."""

BRIEF_LOCK_TIMEOUT_MS = 1
"""As HOUSEKEEPING_LOCK_TIMEOUT_MS, after one wait in vain: a program that holds one balance may hold many."""


@dataclass(frozen=True, slots=True)
class JobRef:
    """A job in the queue, by its type, its id and the id of its queue row. A claim isn't needed."""

    job_type: str
    job_id: str
    queue_id: int


async def record(connection: Connection, claim: Claim, *transitions: Transition) -> JobStatus:
    """Write a transition of a claim, or checkpoints in their order, in a transaction; return the job's status now.

    Raises as `record_end`.
    """
    return (await record_end(connection, claim, *transitions)).status


async def record_end(connection: Connection, claim: Claim, *transitions: Transition) -> Ended:
    """Write a transition of a claim as `record`; return the job's status now, and what its payer got back.

    It waits for the locks of the job's rows. Repeating it after a lost connection is safe: the fence shows whether the
    first try was committed.

    Raises:
        FencedError: another worker holds the job, or it is over; nothing was written.
        asyncpg.PostgresError: the database refused the change, or a trigger silently reverted it.
    """
    job_ref = JobRef(claim.job_type, claim.job_id, claim.id)
    async with connection.transaction():
        ended = await _written(connection, job_ref, transitions, HELD, claim.lease_token, skip="", timeout_s=RECORD_S)
    if ended is None:
        raise FencedError(f"{claim.job_type} job {claim.job_id} is no longer held by this claim")
    return ended


async def _written(
    connection: Connection,
    job_ref: JobRef,
    transitions: Sequence[Transition],
    condition: str,
    value: object,
    *,
    skip: str,
    timeout_s: float,
) -> Ended | None:
    """Lock a job's rows, write its transitions, and return what the job is now; None if `condition` doesn't hold.

    Raises:
        asyncpg.TriggeredDataChangeViolationError: a trigger has kept the end from being written.
        asyncpg.PostgresError: the database refused the change.
    """
    table = table_of(job_ref.job_type)
    held = await connection.fetchrow(
        lock_statement(table, condition, skip=skip), job_ref.job_id, job_ref.queue_id, value, timeout=timeout_s
    )
    if held is None:
        return None
    write = ClaimWrite(job_ref.job_id, job_ref.queue_id, held["lease_token"], list(transitions))
    writes = [as_json(table, 0, write)]
    row = await connection.fetchrow(transition_statement(table, parts_of(writes)), writes, timeout=timeout_s)
    status = None if row is None else state_of(table, row["label"])
    ends = isinstance(transitions[-1], Completed | Failed)
    if status is None or (ends and not status.is_terminal):
        what = "did not end" if ends else "was not written"
        raise TriggeredDataChangeViolationError(f"job {job_ref.job_id[:200]} {what}: a trigger or rule kept its row")
    return await ended_as(connection, job_ref.job_type, job_ref.job_id, status)


async def record_without_claim(
    connection: Connection,
    job_ref: JobRef,
    transition: Failed | Retried | Released,
    condition: str,
    value: object,
    lock_timeout_ms: int = HOUSEKEEPING_LOCK_TIMEOUT_MS,
) -> Ended | None:
    """Write a transition that no claim makes (rescue, maximum wait), if `condition` still holds.

    The job row and the queue row are locked with SKIP LOCKED, and other locks are waited for at most `lock_timeout_ms`,
    because the caller has further jobs to write.

    Args:
        connection: a connection that is in no transaction.
        job_ref: the job and its queue row.
        transition: what to write.
        condition: SQL over `q` (the locked queue row), with `$3` for `value`.
        value: what `condition` compares with.
        lock_timeout_ms: how long to wait for a balance, or for a lock that a trigger needs.

    Returns:
        What the job is now, or None if the condition no longer held or a row was locked.

    Raises:
        asyncpg.PostgresError: the database refused the change, or a lock that a trigger needs was held.
    """
    async with connection.transaction(), lock_waits(connection, lock_timeout_ms):
        return await _written(
            *(connection, job_ref, (transition,), condition, value),
            skip=" SKIP LOCKED",
            timeout_s=HOUSEKEEPING_STATEMENT_S,
        )


_FENCED = """
WITH own AS MATERIALIZED (
        SELECT r.event, r.error FROM darkroom.stage_runs r
        WHERE r.job_id = $2 AND r.job_type = $1 AND r.attempt = $4 AND r.worker_id = $5
          AND (r.event IN ('failed', 'released', 'retried', 'snoozed', 'handed_over')
               OR (r.event = 'finished' AND r.stage = $3))),
    fenced AS (
        INSERT INTO darkroom.stage_runs (job_type, job_id, event, stage, attempt, worker_id)
        SELECT $1, $2, 'fenced', $3, $4, $5 WHERE NOT EXISTS (SELECT FROM own))
SELECT own.event, own.error FROM own
"""


async def log_fenced(
    connection: Connection, claim: Claim, stage: str, tried: Sequence[Transition] = ()
) -> tuple[bool, Transition | None]:
    """Record in a job's history that the fence refused a claim's write.

    If the claim is lost because its end was committed before, record nothing.

    Args:
        connection: where the history is.
        claim: the claim.
        stage: the stage at which it was lost.
        tried: the ends that the claim has tried to write.

    Returns:
        Whether it was recorded that the fence refused a write, and that one of `tried` which was committed before: its
        answer got lost, or its job was told to end meanwhile. None if none was, as where housekeeping ended the claim.
    """
    rows = await connection.fetch(_FENCED, claim.job_type, claim.job_id, stage, claim.attempt, claim.worker_id)
    written = (one for one in tried for row in rows if _is_record_of(one, row["event"], row["error"]))
    return not rows, next(written, None)


def _is_record_of(tried: Transition, event: str, error: str | None) -> bool:
    """Return whether an event of a job's history is that of a transition; housekeeping has reasons of its own."""
    match tried:
        case Checkpoint():
            return False
        case Completed():
            return event == "finished"
        case Failed() | Retried() | Snoozed():
            name = tried.event if isinstance(tried, Retried) else type(tried).__name__.lower()
            return event == name and error == cut(tried.reason)
        case Released():
            return event == "released"
        case HandedOver():
            return event == "handed_over"


async def count_pipeline_use(connection: Connection, pipeline_id: str) -> None:
    """Count one completed job on its pipeline's row. If another program holds that row, the count is skipped."""
    await connection.execute(
        """UPDATE public.enhancement_pipelines SET "usageCount" = "usageCount" + 1
           WHERE id = $1 AND "usageCount" < 2147483647""",
        pipeline_id,
    )
