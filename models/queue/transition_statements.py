"""The SQL statement that writes transitions of many claims of one job table at once.

The rows of a job are written if all of them are free and the claim still holds the job; otherwise none of them is, and
the other claims of the statement aren't affected.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final
from uuid import UUID

from config.json_text import plain
from models.connections import LOCK_TIMEOUT_MS
from models.history.artifacts import Artifact
from models.job_state import JobStatus
from models.job_tables.rendering import (
    NEXT,
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
from models.queue.handing_over import WAKES, handed_over
from models.queue.statement_parts import ARTIFACT, KEPT, made_columns, result_rows
from models.queue.transition_kinds import Checkpoint, Completed, Failed, HandedOver, Retried, Snoozed, Transition, Waits

MAX_ERROR_CHARS: Final = 2_000
"""How many characters of an error message a row keeps; every message of ours is shorter."""

GROUP_LOCK_MS: Final = 100
"""How long, in ms, a statement for many claims waits for a lock that a trigger of the application's needs."""

HELD: Final = "q.lease_token = $3"
"""The fence: the condition on the queue row under which a claim's own writes take effect."""


@dataclass(slots=True)
class ClaimWrite:
    """What one claim writes in a statement: checkpoints in their order, or one end, or checkpoints and COMPLETED.

    `lease_token` is None for a job that nobody has claimed. `artifact` is written even if a trigger keeps the end from
    being written, because the picture is stored.
    """

    job_id: str
    queue_id: int
    lease_token: UUID | None
    transitions: list[Transition]
    artifact: Artifact | None = None


_FINISHING: Final = (Checkpoint, Completed)
_OF_AN_ARTIFACT: Final = tuple(one.name for one in fields(Artifact))
_values_of_an_artifact: Final = attrgetter(*_OF_AN_ARTIFACT)

_PARTS: Final = {"retried": "waits", "snoozed": "waits", "released": "waits"}
"""The parts of the statement that write ends of several kinds, by kind."""


def as_json(table: JobTable, number: int, write: ClaimWrite) -> dict[str, Any]:
    """Return one claim's write as an element of the statement's parameter $1; the statement returns `number`.

    It is made of JSON's own types.

    Raises:
        TypeError, ValueError: an output isn't JSON.
    """
    transitions = write.transitions
    # Each row is a list of event, stage, duration, output and error, because names would be half of a group's JSON.
    # What is NULL at its end is left out.
    history: list[list[Any]] = []
    columns: dict[str, Any] = {}
    kept = []
    for one in transitions:
        if isinstance(one, _FINISHING):
            row = ["finished", one.finished, one.duration_ms]
            history.append(row if one.output is None else [*row, plain(one.output)])
            columns.update(one.columns)
            if type(one) is Checkpoint and one.kept is not None:
                kept.append({"stage": one.finished, "output": plain(one.kept.output)})
        else:
            history.append(_unfinished(one))
    last = transitions[-1] if transitions else None
    made: dict[str, Any] = {
        "n": number,
        "job_id": write.job_id,
        "queue_id": write.queue_id,
        "lease_token": None if write.lease_token is None else str(write.lease_token),
        "kind": "artifact" if last is None else type(last).__name__.lower(),
        "history": history,
        "columns": plain(columns),
    }
    if kept:
        made["kept"] = kept
    if isinstance(last, Completed) and last.pictures:
        made["pictures"] = plain(list(last.pictures))
    if isinstance(last, Checkpoint):
        made["began_at"] = history[0][1]
        made["following"] = last.following
        made["shown"] = _shown(table, transitions)
        made["deadline_s"] = last.deadline_s
    elif last is not None and not isinstance(last, Completed):
        made |= _facts_of_an_end(last)
    if write.artifact is not None:
        made["artifact"] = dict(zip(_OF_AN_ARTIFACT, _values_of_an_artifact(write.artifact), strict=True))
    return made


def _facts_of_an_end(end: Failed | Waits) -> dict[str, Any]:
    """Return what else the statement needs to know of an end by which no stage finishes."""
    match end:
        case Retried() | Snoozed():
            is_suspect = isinstance(end, Retried) and end.event == "rescued"
            return {"reason": cut(end.reason), "delay_s": end.delay.total_seconds(), "is_suspect": is_suspect}
        case Failed():
            return {"reason": cut(end.reason)}
        case HandedOver():
            return {"queue": end.queue}
        case _:
            return {"delay_s": 0}


def parts_of(writes: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the parts of the statement that writes need: kinds of writes, and the columns of the job's row.

    `writes` are made by `as_json`.
    """
    parts = {f'"{name}"' for name in set().union(*[one["columns"] for one in writes])}
    parts.update(_PARTS.get(kind, kind) for kind in {one["kind"] for one in writes})
    parts.update(name for name in ("artifact", "kept", "pictures") if any(name in one for one in writes))
    return parts


def _shown(table: JobTable, transitions: Sequence[Transition]) -> str | None:
    """Return the last stage reached that the job's row has a label for; None if there is none."""
    labels = table.stage_column.labels if table.stage_column else ()
    reached = [one.following for one in transitions if isinstance(one, Checkpoint) and one.following in labels]
    return reached[-1] if reached else None


def _unfinished(transition: Failed | Waits) -> list[Any]:
    """Return the row of a transition by which no stage finishes in the job's history (`as_json`)."""
    if isinstance(transition, HandedOver):
        return ["handed_over", transition.stage, transition.duration_ms, {"queue": transition.queue}]
    event = transition.event if isinstance(transition, Retried) else type(transition).__name__.lower()
    row = [event, transition.stage, transition.duration_ms]
    return [*row, None, cut(transition.reason)] if isinstance(transition, Failed | Retried | Snoozed) else row


def cut(text: str) -> str:
    """Return as much of a message as a row keeps, without characters that PostgreSQL can't store."""
    return text.replace("\0", "")[:MAX_ERROR_CHARS].encode("utf-8", "replace").decode()


_AT_ITS_PLACE: Final = "j.ctid = held.row_at AND j.tableoid = held.row_in"
"""The condition on a job's row. If its table has partitions or heirs, a row of each may be at the same place."""


def _reached(table: JobTable, parts: Collection[str]) -> str:
    """Return the write of a claim whose next stage begins."""
    told = "held.notified_at < now() - interval '1 second'"
    stage = [shown_stage(table.stage_column, "held.shown")] if table.stage_column else []
    return f"""
    reached AS (
        UPDATE {table.name} j
        SET {assigned(table, [*stage, *_no_error(table), *_filled(_checkpoint_columns(table), parts)], NEXT)}
        FROM held WHERE held.kind = 'checkpoint' AND {_AT_ITS_PLACE}
        RETURNING held.n, j.{table.status_column} AS label, CASE WHEN {told}
                  THEN darkroom.notify_job(held.job_type, held.job_id, 'PROCESSING', held.following) END),
    queue_reached AS (
        UPDATE darkroom.job_queue q
        SET stage = held.following, deadline_at = now() + make_interval(secs => held.deadline_s), last_error = NULL,
            suspect_of = NULL,
            notified_at = CASE WHEN {told} THEN now() ELSE q.notified_at END
        FROM held JOIN reached USING (n) WHERE q.ctid = held.queue_at)"""


def _completed(table: JobTable, parts: Collection[str]) -> str:
    """Return the write of a claim whose job is completed, with those checkpoints of it that are written at once."""
    names = dict.fromkeys([*_checkpoint_columns(table), *(f'"{name}"' for name in table.result)])
    set_to = [f"{table.status_column} = {label(table, JobStatus.COMPLETED)}", *_no_error(table)]
    set_to += [f"{table.completed_column} = {now(table)}"] if table.completed_column else []
    set_to += [f"{table.stage_column.name} = NULL"] if table.stage_column else []
    set_to += made_columns(table) if "pictures" in parts else ()
    job = ", j AS job" if "pictures" in parts and table.result_rows else ""
    return f"""
    completed AS (
        UPDATE {table.name} j
        SET {assigned(table, [*set_to, *_filled(names, parts)], NEXT)}
        FROM held WHERE held.kind = 'completed' AND {_AT_ITS_PLACE}
        RETURNING held.n, j.{table.status_column} AS label{job})"""


def _failed(table: JobTable, _parts: Collection[str]) -> str:
    """Return the write of a claim whose job fails."""
    settled = f"darkroom.label_of_failure(held.job_type, held.job_id, {over(table.user, 'j')}, held.reason)"
    set_to = [f"{table.status_column} = {as_label(table, settled)}", *_reason(table), *_failed_once(table)]
    return f"""
    failed AS (
        UPDATE {table.name} j
        SET {assigned(table, set_to, NEXT)}
        FROM held WHERE held.kind = 'failed' AND {_AT_ITS_PLACE}
        RETURNING held.n, j.{table.status_column} AS label)"""


def _waits(table: JobTable, _parts: Collection[str]) -> str:
    """Return the write of a claim whose job waits again: until a time, or only until workers come to its position."""
    pending = label(table, JobStatus.PENDING)
    retrying = pending if table.retrying_label is None else quoted(table.retrying_label)
    status = f"(CASE held.kind WHEN 'retried' THEN {retrying} ELSE {pending} END)::{table.status_type}"
    set_to = [f"{table.status_column} = {status}", *_reason(table), *_failed_once(table)]
    return f"""
    waits AS (
        UPDATE {table.name} j
        SET {assigned(table, set_to, NEXT)}
        FROM held WHERE held.kind IN ('retried', 'snoozed', 'released') AND {_AT_ITS_PLACE}
        RETURNING held.n, j.{table.status_column} AS label),
    queue_waits AS (
        UPDATE darkroom.job_queue q
        SET worker_id = NULL, lease_token = NULL, deadline_at = NULL, ready = held.delay_s <= 0,
            status = CASE WHEN held.delay_s > 0 THEN 'retrying' ELSE 'pending' END,
            scheduled_at = now() + make_interval(secs => held.delay_s),
            last_error = CASE WHEN held.kind = 'released' THEN q.last_error ELSE held.reason END,
            attempts = q.attempts - CASE WHEN held.kind = 'retried' THEN 0 ELSE 1 END,
            suspect_of = CASE WHEN held.is_suspect THEN coalesce(q.suspect_of, q.worker_id) ELSE q.suspect_of END
        FROM held JOIN waits USING (n) WHERE q.ctid = held.queue_at)"""


_WRITTEN: Final = {"checkpoint": ("reached", _reached), "completed": ("completed", _completed)} | {
    "failed": ("failed", _failed),
    "waits": ("waits", _waits),
    "handedover": ("handed", lambda table, _parts: handed_over(table, _AT_ITS_PLACE)),
}


def _checkpoint_columns(table: JobTable) -> list[str]:
    return list(dict.fromkeys(f'"{name}"' for columns in table.checkpoint_columns.values() for name in columns))


def _filled(names: Collection[str], parts: Collection[str]) -> list[str]:
    """Return assignments that give columns the values that a write has for them; others of the group keep theirs.

    Columns that no write of the group has aren't assigned, so that no `UPDATE OF` trigger for them fires.
    """
    return [
        f"{name} = CASE WHEN held.columns ? {quoted(name[1:-1])} THEN (held.filled).{name} ELSE j.{name} END"
        for name in names
        if name in parts
    ]


def _no_error(table: JobTable) -> tuple[str, ...]:
    return (f"{table.error_column} = NULL",) if table.error_column else ()


def _reason(table: JobTable) -> tuple[str, ...]:
    error = table.error_column
    return (f"{error} = CASE WHEN held.kind = 'released' THEN j.{error} ELSE held.reason END",) if error else ()


def _failed_once(table: JobTable) -> tuple[str, ...]:
    """Return assignments that count a failed attempt, up to the largest integer. A snoozed attempt isn't counted."""
    if table.retries_column is None:
        return ()
    retries = f"j.{table.retries_column}"
    return (
        f"""{table.retries_column} = {retries} + CASE
            WHEN held.kind IN ('failed', 'retried') AND held.queue_status = 'processing' AND {retries} < 2147483647
            THEN 1 ELSE 0 END""",
    )


def transition_statement(table: JobTable, parts: Collection[str], *, is_group: bool = False) -> str:
    """Return the statement for writes that need these parts (`parts_of`); $1 is an array of `as_json`.

    It returns, for each claim whose rows were written, its number and the label that its job has now.

    Args:
        table: the table of the jobs.
        parts: the parts of all writes together.
        is_group: whether it waits only GROUP_LOCK_MS for locks that triggers need, since many jobs wait for it.
    """
    return _statement(table, tuple(sorted(parts)), is_group=is_group)


# A plan is kept, and is right for an empty queue and a full one: each row is looked up by its key in a LATERAL query,
# and changed by its place (ctid), which leaves the planner no other way. A version that another transaction has written
# since this statement's snapshot isn't seen at the place where it was locked, so it counts as locked: otherwise the job
# would be written only in part.
#
# Both locks are taken in queries of their own: a fence that is joined without being locked would let a zombie write.
@lru_cache(maxsize=256)
def _statement(table: JobTable, parts: tuple[str, ...], *, is_group: bool) -> str:
    fills = any(part.startswith('"') for part in parts)
    # The columns that a write doesn't name are those of the row: NULL may be none of their values, such as of a domain
    filled = ",\n               jsonb_populate_record(locked.whole, w.columns) AS filled" if fills else ""
    whole = ", j AS whole" if fills else ""
    kinds = [_WRITTEN[part] for part in parts if part in _WRITTEN]
    sources = [f"SELECT n, label::text FROM {name}" for name, _ in kinds]
    sources += ["SELECT n, NULL AS label FROM held WHERE held.kind = 'artifact'"] if "artifact" in parts else []
    written = "\n        UNION ALL ".join(sources)
    changes = "".join(f",{build(table, parts)}" for _, build in kinds)
    brief = f"(SELECT set_config('lock_timeout', '{GROUP_LOCK_MS}', true)) brief CROSS JOIN " if is_group else ""
    # AFTER triggers and the commit, which may have to wait for others, get the usual time once all rows are written
    usual = f", set_config('lock_timeout', '{LOCK_TIMEOUT_MS}', true)" if is_group else ""
    beside = (("kept", KEPT), ("artifact", ARTIFACT), ("pictures", result_rows(table)))
    others = "".join(f",{text}" for part, text in beside if text and part in parts)
    pictures = ", pictures jsonb" if "pictures" in parts else ""
    wakes, queue = (WAKES, ", queue text") if "handedover" in parts else ("", "")
    id_ = as_id(table, "w.job_id")
    return f"""
WITH writes AS MATERIALIZED (
        SELECT w.*
        FROM {brief}jsonb_to_recordset($1) w (
            n integer, job_id text, queue_id bigint, lease_token uuid, kind text, began_at text, following text,
            shown text, deadline_s float8, delay_s float8, is_suspect boolean, reason text, columns jsonb,
            history jsonb, kept jsonb, artifact jsonb{pictures}{queue})),
    job AS MATERIALIZED (
        SELECT w.*, locked.at AS row_at, locked.relation AS row_in{filled}
        FROM writes w
        CROSS JOIN LATERAL (
            SELECT j.ctid AS at, j.tableoid AS relation{whole} FROM {table.name} j
            WHERE j.{table.id_column} = {id_} FOR NO KEY UPDATE SKIP LOCKED) locked
        WHERE EXISTS (
            SELECT FROM {table.name} seen WHERE seen.ctid = locked.at AND seen.tableoid = locked.relation)),
    held AS MATERIALIZED (
        SELECT job.*, locked.at AS queue_at, locked.job_type, locked.user_id, locked.stage, locked.attempts,
               locked.status AS queue_status, locked.worker_id, locked.notified_at
        FROM job
        CROSS JOIN LATERAL (
            SELECT q.ctid AS at, q.job_type, q.user_id, q.stage, q.attempts, q.status, q.worker_id, q.notified_at
            FROM darkroom.job_queue q
            WHERE q.id = job.queue_id AND q.job_id = job.job_id
              AND q.lease_token IS NOT DISTINCT FROM job.lease_token
            FOR UPDATE SKIP LOCKED) locked
        WHERE EXISTS (SELECT FROM darkroom.job_queue seen WHERE seen.ctid = locked.at)){changes},
    written AS (
        {written}),
    history AS (
        INSERT INTO darkroom.stage_runs
            (job_type, job_id, event, stage, attempt, worker_id, duration_ms, output, error)
        SELECT held.job_type, held.job_id, h.row ->> 0, h.row ->> 1, held.attempts, held.worker_id,
               (h.row ->> 2)::integer, nullif(h.row -> 3, 'null'), h.row ->> 4
        FROM written JOIN held USING (n) CROSS JOIN LATERAL jsonb_array_elements(held.history) h (row)
        -- If the statement is repeated after a lost answer, the claim still holds, and no stage must finish twice
        WHERE (held.kind <> 'checkpoint' OR held.stage = held.began_at)
          AND (held.kind <> 'completed' OR written.label = {label(table, JobStatus.COMPLETED)})){others}
SELECT n, label{usual}{wakes} FROM (SELECT n, label FROM written ORDER BY n) every
"""


@lru_cache(maxsize=64)
def lock_statement(table: JobTable, condition: str, *, skip: str) -> str:
    """Return the statement that locks a job's row, then its queue row, and returns the queue row's `lease_token`.

    It returns no row if `condition` (SQL over `q`, with `$3` for its value) doesn't hold: after waiting for a lock,
    PostgreSQL rechecks a condition only on rows that it locks.

    Args:
        table: the job's table.
        condition: the condition; $1 is the job's id as text, and $2 the id of its queue row.
        skip: ` SKIP LOCKED` for a caller that won't wait.
    """
    return f"""
WITH {locked_job(table, skip)}
SELECT q.lease_token FROM darkroom.job_queue q JOIN job ON {id_as_text(table, "job")} = q.job_id
WHERE q.id = $2 AND {condition} FOR UPDATE OF q{skip}
"""
