"""The transitions of a claim as values, and the one SQL statement that writes each of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from typing import Any, TypeAlias

from models.job_state import JobStatus
from models.job_tables.rendering import (
    as_id,
    as_label,
    assigned,
    id_as_text,
    label,
    locked_job,
    now,
    over,
    quoted,
    shown_stage,
)
from models.job_tables.table import JobTable

MAX_ERROR_CHARS = 2_000
"""How many characters of an error message a row keeps; every message of ours is shorter."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The output of a stage, as JSON, that darkroom.checkpoints keeps; `output` is None if the stage has none."""

    output: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Transition: a stage has finished, and the next one begins.

    `columns` are the parts of the stage's output that the job's own row stores, by column name; `output` is the rest,
    which the history keeps. If the row has no column for the stage, `kept` is set in place of `columns`.
    """

    finished: str
    following: str
    deadline_s: float
    duration_ms: int
    columns: Mapping[str, Any] = field(default_factory=dict)
    output: Mapping[str, Any] | None = None
    kept: Kept | None = None


@dataclass(frozen=True, slots=True)
class Completed:
    """Transition: the last stage has finished and its object is stored. `columns` hold the result.

    `pipeline_id` is for `count_pipeline_use`, which runs after the commit.
    """

    finished: str
    duration_ms: int
    columns: Mapping[str, Any]
    output: Mapping[str, Any] | None = None
    pipeline_id: str | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """Transition: the job ends without success. It is refunded if it was charged."""

    stage: str
    reason: str
    duration_ms: int = 0


@dataclass(frozen=True, slots=True)
class Retried:
    """Transition: the attempt failed, and the job is retried after `delay`. `event` is `rescued` if its worker died."""

    stage: str
    reason: str
    delay: timedelta
    duration_ms: int = 0
    event: str = "retried"


@dataclass(frozen=True, slots=True)
class Snoozed:
    """Transition: the job can't run now, and not because of itself.

    It waits for `delay`, and the attempt isn't counted.
    """

    stage: str
    reason: str
    delay: timedelta
    duration_ms: int = 0


@dataclass(frozen=True, slots=True)
class Released:
    """Transition: the worker gives the job back before its end.

    The job is due at once, and the attempt isn't counted.
    """

    stage: str
    duration_ms: int = 0


Transition: TypeAlias = Checkpoint | Completed | Failed | Retried | Snoozed | Released

HELD = "q.lease_token = $3"
"""The fence: the condition on the queue row under which a claim's own writes take effect."""


def transition_columns(transition: Transition) -> Mapping[str, Any]:
    """Return the values for columns of the job's own row; empty for a transition that writes none."""
    return transition.columns if isinstance(transition, Checkpoint | Completed) else {}


def transition_values(transition: Transition) -> tuple[object, ...]:
    """Return the values of the statement's parameters from $4 on, in the order in which `_Parts` uses them."""
    match transition:
        case Checkpoint():
            return (
                transition.finished,
                transition.duration_ms,
                None if transition.output is None else dict(transition.output),
                transition.following,
                transition.deadline_s,
                *(() if transition.kept is None else (transition.kept.output,)),
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
    """The parts of the statement that differ between transitions, as SQL over the parameters from $4 on."""

    event: str
    job: tuple[str, ...]
    queue: str | None = None
    output: str = "NULL"
    error: str = "NULL"
    first_column: int = 0
    history: str = ""
    returning: str = ""


# The job waits again: until a time, or, without a delay, only until workers come to its position.
_WAITS = """worker_id = NULL, lease_token = NULL, deadline_at = NULL, scheduled_at = now() + {delay},
            status = CASE WHEN {delay} > interval '0' THEN 'retrying' ELSE 'pending' END,
            ready = {delay} <= interval '0'"""


def _parts(table: JobTable, kind: type) -> _Parts:
    error, waits = table.error_column, f"{table.status_column} = {label(table, JobStatus.PENDING)}"
    no_error = (f"{error} = NULL",) if error else ()
    why = (f"{error} = $6::text",) if error else ()
    if kind is Checkpoint:
        return _Parts(
            event="'finished'",
            job=(*((shown_stage(table.stage_column, "$7::text"),) if table.stage_column else ()), *no_error),
            queue="""stage = $7::text, deadline_at = now() + make_interval(secs => $8::float8), last_error = NULL,
            notified_at = CASE WHEN q.notified_at < now() - interval '1 second' THEN now() ELSE q.notified_at END""",
            output="$6::jsonb",
            first_column=9,
            # If the statement is repeated after a lost answer, the claim still holds, and the stage must not finish
            # twice
            history="WHERE held.stage = $4::text",
            returning=""", CASE WHEN held.notified_at < now() - interval '1 second'
                      THEN darkroom.notify_job(held.job_type, held.job_id, 'PROCESSING', $7::text) END""",
        )
    if kind is Completed:
        completed = (f"{table.completed_column} = {now(table)}",) if table.completed_column else ()
        return _Parts(
            event="'finished'",
            job=(f"{table.status_column} = {label(table, JobStatus.COMPLETED)}", *no_error, *completed),
            output="$6::jsonb",
            first_column=7,
        )
    if kind is Failed:
        settled = f"darkroom.label_of_failure(held.job_type, held.job_id, {over(table.user, 'j')}, $6::text)"
        return _Parts(
            event="'failed'",
            job=(f"{table.status_column} = {as_label(table, settled)}", *why, *_failed_once(table)),
            error="$6::text",
        )
    if kind is Retried:
        tried_again = table.labels[JobStatus.PENDING] if table.retrying_label is None else table.retrying_label
        return _Parts(
            event="$8::text",
            job=(f"{table.status_column} = {quoted(tried_again)}", *why, *_failed_once(table)),
            queue=_WAITS.format(delay="$7::interval") + ", last_error = $6::text",
            error="$6::text",
        )
    if kind is Snoozed:
        return _Parts(
            event="'snoozed'",
            job=(waits, *why),
            queue=_WAITS.format(delay="$7::interval") + ", last_error = $6::text, attempts = q.attempts - 1",
            error="$6::text",
        )
    return _Parts(
        event="'released'",
        job=(waits,),
        queue=_WAITS.format(delay="interval '0'") + ", attempts = q.attempts - 1",
    )


def _failed_once(table: JobTable) -> tuple[str, ...]:
    """Return assignments that count a failed attempt, up to the largest integer. A snoozed attempt isn't counted."""
    if table.retries_column is None:
        return ()
    retries = f"j.{table.retries_column}"
    return (
        f"""{table.retries_column} = CASE WHEN held.status = 'processing' AND {retries} < 2147483647
                                            THEN {retries} + 1 ELSE {retries} END""",
    )


_NEXT = ",\n    "


# For a stage whose output has no column. If the statement is repeated after a lost answer, it writes the same row again
_KEEP = """,
    kept AS (
        INSERT INTO darkroom.checkpoints (job_type, job_id, stage, output)
        SELECT held.job_type, held.job_id, $4::text, $9::jsonb FROM held
        ON CONFLICT (job_type, job_id, stage) DO UPDATE SET output = excluded.output, at = now())"""


@lru_cache(maxsize=256)
def transition_statement(
    table: JobTable, kind: type, columns: tuple[str, ...], condition: str, *, skip: str, keeps: bool = False
) -> str:
    """Return the statement of a kind of transition. With `keeps` it also writes darkroom.checkpoints.

    Both locks are taken in CTEs of their own: after waiting for a lock, PostgreSQL rechecks a condition only on rows
    that it locks, so a fence that is joined without being locked would let a zombie write.
    """
    parts = _parts(table, kind)
    values = enumerate(columns, start=parts.first_column + keeps)
    assignments = [
        *parts.job,
        *(f'"{name}" = ${number}{"::jsonb" if name in table.json_columns else ""}' for number, name in values),
    ]
    queue = (
        f""", queue AS (
        UPDATE darkroom.job_queue q SET {parts.queue} FROM held WHERE q.id = held.id)"""
        if parts.queue
        else ""
    )
    return f"""
WITH {locked_job(table, skip)},
    held AS MATERIALIZED (
        SELECT q.id, q.job_type, q.job_id, q.stage, q.status, q.attempts, q.worker_id, q.notified_at
        FROM darkroom.job_queue q JOIN job ON {id_as_text(table, "job")} = q.job_id
        WHERE q.id = $2 AND {condition} FOR UPDATE OF q{skip}){queue},
    history AS (
        INSERT INTO darkroom.stage_runs
            (job_type, job_id, event, stage, attempt, worker_id, duration_ms, output, error)
        SELECT held.job_type, held.job_id, {parts.event}, $4::text, held.attempts, held.worker_id, $5::integer,
               {parts.output}, {parts.error}
        FROM held {parts.history}){_KEEP if keeps else ""}
UPDATE {table.name} j SET {assigned(table, assignments, _NEXT)}
FROM held WHERE j.{table.id_column} = {as_id(table, "held.job_id")}
RETURNING j.{table.status_column}{parts.returning}
"""
