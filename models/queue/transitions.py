"""Every write of a claim: one fenced statement that moves the job's row, its queue row and its history together.

The fence is the queue row, locked after the job row: whoever finds it gone or
with another lease_token has lost the claim and writes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from typing import Any, TypeAlias, cast

from asyncpg import TriggeredDataChangeViolationError

from models.connections import Connection, lock_waits
from models.job_state import TERMINAL
from models.job_tables import JobTable, table_of
from models.queue.claims import Claim, FencedError

MAX_ERROR_CHARS = 2_000
"""What a row keeps of an error: enough for every message of ours."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A stage has finished and the next one begins.

    `columns` are values for the job's own row, by column name.
    """

    finished: str
    following: str
    deadline_s: float
    duration_ms: int
    columns: Mapping[str, Any] = field(default_factory=dict)
    output: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Completed:
    """The last stage has finished and its object is stored: `columns` hold the result.

    `pipeline_id` is for `count_pipeline_use`, which follows after the commit.
    """

    finished: str
    duration_ms: int
    columns: Mapping[str, Any]
    output: Mapping[str, Any] | None = None
    pipeline_id: str | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The job is over without success; it is refunded if it was charged."""

    stage: str
    reason: str
    duration_ms: int = 0


@dataclass(frozen=True, slots=True)
class Retried:
    """The attempt failed, and another follows after `delay`. `event` is `rescued` when its worker died."""

    stage: str
    reason: str
    delay: timedelta
    duration_ms: int = 0
    event: str = "retried"


@dataclass(frozen=True, slots=True)
class Snoozed:
    """Not now, for a reason that isn't the job's: it waits `delay`, and the attempt is given back."""

    stage: str
    reason: str
    delay: timedelta
    duration_ms: int = 0


@dataclass(frozen=True, slots=True)
class Released:
    """The worker lets go of the job before its end: it is due at once, and the attempt is given back."""

    stage: str
    duration_ms: int = 0


Transition: TypeAlias = Checkpoint | Completed | Failed | Retried | Snoozed | Released

_JSON_COLUMNS = frozenset({"analysisResult", "cropDimensions"})

HELD = "q.lease_token = $3"
"""The fence of a claim's own writes."""


HOUSE_LOCK_TIMEOUT_MS = 50
"""How long a pass over many jobs waits for one: a producer that dawdles with a balance must not hold up the others."""

RECORD_S = 20.0
"""How long a claim's own write may take: a trigger may sleep, and the job must end all the same."""

HOUSE_STATEMENT_S = 5.0
"""How long such a pass lets one write take: a trigger may sleep."""

BRIEF_LOCK_TIMEOUT_MS = 1
"""The same once it has waited in vain: a program that holds one balance may hold many."""


@dataclass(frozen=True, slots=True)
class Unheld:
    """A job that nobody is known to hold, by its id and that of its queue row."""

    job_type: str
    job_id: str
    queue_id: int


async def record(connection: Connection, claim: Claim, transition: Transition) -> str:
    """Write one transition of a claim, in one statement; return the status that the job has now.

    Repeating it after a lost connection is safe: the fence tells whether the
    first one was committed.

    Raises:
        FencedError: another holds the job, or it is over; nothing was written.
        asyncpg.PostgresError: the database refuses the change, or a trigger has silently undone it.
    """
    table = table_of(claim.job_type)
    names, kind = tuple(_columns_of(transition)), cast("type", type(transition))
    row = await connection.fetchrow(
        _statement(table, kind, names, HELD, skip=""),
        claim.job_id,
        claim.id,
        claim.lease_token,
        *_values(transition),
        *(_columns_of(transition)[name] for name in names),
        timeout=RECORD_S,
    )
    if isinstance(transition, Completed | Failed) and (row is None or row["status"] not in TERMINAL):
        await _require_over(connection, Unheld(claim.job_type, claim.job_id, claim.id), HELD, claim.lease_token)
    if row is None:
        raise FencedError(f"{claim.job_type} job {claim.job_id} is no longer held by this claim")
    return str(row["status"])


_STILL = """
SELECT q.id FROM darkroom.job_queue q
WHERE q.id = $2 AND q.job_id = $1 AND {condition} FOR UPDATE SKIP LOCKED
"""


async def _require_over(connection: Connection, job: Unheld, condition: str, value: object) -> None:
    """See that an end that wasn't written found its claim gone, and not a trigger that keeps the row as it is.

    Raises:
        asyncpg.TriggeredDataChangeViolationError: the job's row is there and could be ended.
    """
    async with connection.transaction():
        free = await connection.fetchval(
            f"SELECT j.id FROM {table_of(job.job_type).name} j WHERE j.id = $1 FOR NO KEY UPDATE SKIP LOCKED",
            job.job_id,
        )
        if free is None or (
            await connection.fetchval(_STILL.format(condition=condition), job.job_id, job.queue_id, value) is None
        ):
            return
    raise TriggeredDataChangeViolationError(f"job {job.job_id[:200]} did not end: a trigger or rule kept its row")


async def record_for_house(
    connection: Connection,
    unheld: Unheld,
    transition: Failed | Retried | Released,
    condition: str,
    value: object,
    lock_timeout_ms: int = HOUSE_LOCK_TIMEOUT_MS,
) -> str | None:
    """Write a transition that no claim asks for (rescue, maximum wait), if `condition` still holds.

    Job and queue row are locked with SKIP LOCKED, and nothing waits for longer
    than `lock_timeout_ms`: other jobs are next.

    Args:
        connection: a connection in no transaction.
        unheld: the job and its queue row.
        transition: what to write.
        condition: SQL over `q` (the locked queue row), with `$3` for `value`.
        value: what `condition` compares with.
        lock_timeout_ms: how long it waits for a balance, or for what a trigger wants.

    Returns:
        The job's status now, or None if the condition no longer held or a row was locked.

    Raises:
        asyncpg.PostgresError: the database refuses the change, or something that a trigger wants is locked.
    """
    async with connection.transaction(), lock_waits(connection, lock_timeout_ms):
        row = await connection.fetchrow(
            _statement(table_of(unheld.job_type), cast("type", type(transition)), (), condition, skip=" SKIP LOCKED"),
            unheld.job_id,
            unheld.queue_id,
            value,
            *_values(transition),
            timeout=HOUSE_STATEMENT_S,
        )
        if isinstance(transition, Failed) and (row is None or row["status"] not in TERMINAL):
            await _require_over(connection, unheld, condition, value)
    return None if row is None else str(row["status"])


_FENCED = """
INSERT INTO darkroom.stage_runs (job_type, job_id, event, stage, attempt, worker_id)
SELECT $1, $2, 'fenced', $3, $4, $5
WHERE NOT EXISTS (
    SELECT FROM darkroom.stage_runs r
    WHERE r.job_id = $2 AND r.job_type = $1 AND r.attempt = $4 AND r.worker_id = $5
      AND (r.event IN ('failed', 'released', 'retried', 'snoozed') OR (r.event = 'finished' AND r.stage = $3)))
"""


async def log_fenced(connection: Connection, claim: Claim, stage: str) -> None:
    """Add to a job's history that a write of a lost claim came too late; not if that write was committed before."""
    await connection.execute(_FENCED, claim.job_type, claim.job_id, stage, claim.attempt, claim.worker_id)


async def count_pipeline_use(connection: Connection, pipeline_id: str) -> None:
    """Count one completed job on its pipeline. The row may be held by another program: no claim waits for it."""
    await connection.execute(
        """UPDATE public.enhancement_pipelines SET "usageCount" = "usageCount" + 1
           WHERE id = $1 AND "usageCount" < 2147483647""",
        pipeline_id,
    )


def _columns_of(transition: Transition) -> Mapping[str, Any]:
    return transition.columns if isinstance(transition, Checkpoint | Completed) else {}


def _values(transition: Transition) -> tuple[object, ...]:
    """Return $4 onwards, in the order in which `_Parts` names them."""
    match transition:
        case Checkpoint():
            return (
                transition.finished,
                transition.duration_ms,
                None if transition.output is None else dict(transition.output),
                transition.following,
                transition.deadline_s,
            )
        case Completed():
            return (
                transition.finished,
                transition.duration_ms,
                None if transition.output is None else dict(transition.output),
            )
        case Failed():
            return transition.stage, transition.duration_ms, _cut(transition.reason)
        case Retried():
            return (
                transition.stage,
                transition.duration_ms,
                _cut(transition.reason),
                transition.delay,
                transition.event,
            )
        case Snoozed():
            return transition.stage, transition.duration_ms, _cut(transition.reason), transition.delay
        case Released():
            return transition.stage, transition.duration_ms


def _cut(text: str) -> str:
    return text.replace("\0", "")[:MAX_ERROR_CHARS]


@dataclass(frozen=True, slots=True)
class _Parts:
    """What differs between transitions: SQL over $4 onwards."""

    event: str
    job: str
    queue: str | None = None
    output: str = "NULL"
    error: str = "NULL"
    first_column: int = 0
    history: str = ""
    returning: str = ""


# A job waits again: until its time, or, with no delay, only for its turn.
_WAITS = """worker_id = NULL, lease_token = NULL, deadline_at = NULL, scheduled_at = now() + {delay},
            status = CASE WHEN {delay} > interval '0' THEN 'retrying' ELSE 'pending' END,
            ready = {delay} <= interval '0'"""


def _parts(table: JobTable, kind: type) -> _Parts:
    stage = f'{table.stage_column} = $7::text::public."PipelineStage", ' if table.stage_column else ""
    # what only waited failed no attempt
    # a counter stops at its largest value
    retries = f"j.{table.retries_column}"
    failed_once = (
        f""", {table.retries_column} = CASE WHEN held.status = 'processing' AND {retries} < 2147483647
                                            THEN {retries} + 1 ELSE {retries} END"""
        if table.retries_column
        else ""
    )
    if kind is Checkpoint:
        return _Parts(
            event="'finished'",
            job=f'{stage}"errorMessage" = NULL',
            queue="""stage = $7::text, deadline_at = now() + make_interval(secs => $8::float8), last_error = NULL,
            notified_at = CASE WHEN q.notified_at < now() - interval '1 second' THEN now() ELSE q.notified_at END""",
            output="$6::jsonb",
            first_column=9,
            # repeated after a lost answer: the claim lives on, and its stage has finished once
            history="WHERE held.stage = $4::text",
            returning=""", CASE WHEN held.notified_at < now() - interval '1 second'
                      THEN darkroom.notify_job(held.job_type, held.job_id, 'PROCESSING', $7::text) END""",
        )
    if kind is Completed:
        return _Parts(
            event="'finished'",
            job="""status = 'COMPLETED', "errorMessage" = NULL, "processingCompletedAt" = darkroom.utc_now()""",
            output="$6::jsonb",
            first_column=7,
        )
    if kind is Failed:
        return _Parts(
            event="'failed'",
            job=f"""status = darkroom.settle_failure(held.job_type, held.job_id, j."userId", $6::text),
            "errorMessage" = $6::text{failed_once}""",
            error="$6::text",
        )
    if kind is Retried:
        return _Parts(
            event="$8::text",
            job=f"""status = 'PENDING', "errorMessage" = $6::text{failed_once}""",
            queue=_WAITS.format(delay="$7::interval") + ", last_error = $6::text",
            error="$6::text",
        )
    if kind is Snoozed:
        return _Parts(
            event="'snoozed'",
            job="""status = 'PENDING', "errorMessage" = $6::text""",
            queue=_WAITS.format(delay="$7::interval") + ", last_error = $6::text, attempts = q.attempts - 1",
            error="$6::text",
        )
    return _Parts(
        event="'released'",
        job="status = 'PENDING'",
        queue=_WAITS.format(delay="interval '0'") + ", attempts = q.attempts - 1",
    )


@lru_cache(maxsize=256)
def _statement(table: JobTable, kind: type, columns: tuple[str, ...], condition: str, *, skip: str) -> str:
    """Build the one statement of a kind of transition.

    Both locks are taken in CTEs of their own: PostgreSQL rechecks a condition
    only on rows that it locks, so a fence that is merely joined lets a zombie through.
    """
    parts = _parts(table, kind)
    assignments = parts.job
    for number, name in enumerate(columns, start=parts.first_column):
        cast = "::jsonb" if name in _JSON_COLUMNS else ""
        assignments += f', "{name}" = ${number}{cast}'
    queue = (
        f""", queue AS (
        UPDATE darkroom.job_queue q SET {parts.queue} FROM held WHERE q.id = held.id)"""
        if parts.queue
        else ""
    )
    return f"""
WITH job AS MATERIALIZED (SELECT j.id FROM {table.name} j WHERE j.id = $1 FOR NO KEY UPDATE{skip}),
    held AS MATERIALIZED (
        SELECT q.id, q.job_type, q.job_id, q.stage, q.status, q.attempts, q.worker_id, q.notified_at
        FROM darkroom.job_queue q JOIN job ON job.id = q.job_id
        WHERE q.id = $2 AND {condition} FOR UPDATE OF q{skip}){queue},
    history AS (
        INSERT INTO darkroom.stage_runs
            (job_type, job_id, event, stage, attempt, worker_id, duration_ms, output, error)
        SELECT held.job_type, held.job_id, {parts.event}, $4::text, held.attempts, held.worker_id, $5::integer,
               {parts.output}, {parts.error}
        FROM held {parts.history})
UPDATE {table.name} j SET {assignments}, "updatedAt" = darkroom.utc_now()
FROM held WHERE j.id = held.job_id
RETURNING j.status{parts.returning}
"""
