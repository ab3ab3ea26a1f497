"""Checkpoints: the outputs of finished stages, kept in columns of the job's row or in darkroom.checkpoints."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import uuid4

from models.applications.registry import table_of
from models.connections import Connection
from models.history.timeline import finished_stages
from models.job_tables.rendering import as_id, assigned, shown_stage
from models.job_tables.table import JobTable
from models.queue.transitions import Checkpoint, Completed, Kept

Json = Mapping[str, Any]

OWN_TABLE: Final = "darkroom.checkpoints"

IN_ROW_ALONE: Final = frozenset({"answer"})
"""Facts of a result that may be large: the history doesn't repeat them if the job's row has a column for them."""

FACTS: Final = ("key", "url", "width_px", "height_px", "size_bytes", "sha256", "model", "temperature")
"""What a table of another application may hold of a picture."""


def checkpoint(
    job_type: str, stage: str, output: Json | None, *, following: str, deadline_s: float, duration_ms: int
) -> Checkpoint:
    """Return the transition that stores a stage's output, and after which stage `following` begins.

    Parts of the output that neither a column nor darkroom.checkpoints keeps, such as measurements, are stored in the
    job's history.
    """
    columns = table_of(job_type).checkpoint_columns.get(stage)
    if columns is None:
        return Checkpoint(stage, following, deadline_s, duration_ms, kept=Kept(output))
    if not output:
        return Checkpoint(stage, following, deadline_s, duration_ms)
    values = {column: output[key] for column, key in columns.items()}
    rest = {key: value for key, value in output.items() if value and key not in columns.values()}
    return Checkpoint(stage, following, deadline_s, duration_ms, values, rest or None)


def completed(
    job_type: str,
    stage: str,
    output: Json | None,
    result: Json | None,
    *,
    before: Sequence[Json] = (),
    duration_ms: int,
    pipeline_id: str | None,
) -> Completed:
    """Return the transition that ends a job with status COMPLETED.

    Args:
        job_type: type of the job.
        stage: the last stage.
        output: the last stage's output.
        result: the facts of the result: of the stored picture, whichever stage made it (of several, the last), and of
            the last stage's output.
        before: the pictures before it, in their order.
        duration_ms: how long the last stage took.
        pipeline_id: the pipeline whose settings the job used.
    """
    table = table_of(job_type)
    if not result:
        return Completed(stage, duration_ms, {}, output, pipeline_id)
    if table.result_rows is None and not table.result_sql_columns:
        columns = {column: result[fact] for column, fact in table.result.items() if fact in result}
        if output and IN_ROW_ALONE & output.keys():
            held = IN_ROW_ALONE.intersection(table.result.values())
            output = {key: value for key, value in output.items() if key not in held}
        return Completed(stage, duration_ms, columns, output, pipeline_id)
    pictures = [_numbered(number, picture) for number, picture in enumerate((*before, result), 1)]
    columns = {
        column: [one["id"] for one in pictures] if fact == "ids" else pictures[0][fact]
        for column, fact in table.result.items()
    }
    return Completed(stage, duration_ms, columns, output, pipeline_id, pictures)


def _numbered(number: int, picture: Json) -> Json:
    """Return the facts of one of a job's pictures with its number, and the id of the row that it may get."""
    return {"id": str(uuid4()), "n": number, **{fact: picture[fact] for fact in FACTS}}


def has_columns(job_type: str, stage: str) -> bool:
    """Return whether the job's row has columns for a stage's output."""
    return stage in table_of(job_type).checkpoint_columns


def outputs_left(job_type: str, row: Json, kept: Mapping[str, Json | None]) -> dict[str, Json | None]:
    """Return the stored outputs of finished stages by stage name, as JSON; None for a stage that has no output.

    Args:
        job_type: type of the job.
        row: the columns of its row that finished stages, or another program, wrote.
        kept: the outputs that darkroom.checkpoints holds.
    """
    left = dict(kept)
    for stage, columns in table_of(job_type).checkpoint_columns.items():
        is_filled = [column for column in columns if row.get(column) is not None]
        left[stage] = {key: row.get(column) for column, key in columns.items()} if is_filled else None
    return left


def place_of(job_type: str, stage: str) -> str:
    """Return words for the place where a stage's output is stored, for a message."""
    columns = table_of(job_type).checkpoint_columns.get(stage)
    return OWN_TABLE if columns is None else next(iter(columns))


_KEPT: Final = f"SELECT c.stage, c.output FROM {OWN_TABLE} c WHERE c.job_type = $1 AND c.job_id = $2"


LEFT: Final = f"""
SELECT c.stage, c.output, c.at FROM {OWN_TABLE} c
WHERE c.job_id = $1 AND ($2::text[] IS NULL OR c.job_type = ANY ($2)) ORDER BY c.at, c.stage
"""


@dataclass(frozen=True, slots=True)
class LeftOutput:
    """The output of a stage for which the job's row has no column; `output` is None if the stage has none."""

    stage: str
    output: Json | None
    at: datetime


async def resumable_stages(
    connection: Connection, job_type: str, job_id: str, row: Json, stages: Sequence[str]
) -> set[str]:
    """Return the finished stages of a job whose outputs are still stored.

    Args:
        connection: any connection.
        job_type: type of the job.
        job_id: the job.
        row: the job's own row, by column.
        stages: the stages of its type, in order.
    """
    table = table_of(job_type)
    history = await finished_stages(connection, job_id, job_type)
    kept = {row["stage"] for row in await connection.fetch(_KEPT, job_type, job_id)}
    # The history may be deleted, or the job itself may have begun at a later stage. In both cases a stage whose output
    # is in the job's row has finished, and so have all stages before it.
    held = [number for number, stage in enumerate(stages) if _is_held(table, stage, row)]
    before = stages[: held[-1] + 1] if held else ()
    return kept | {stage for stage in (*history, *before) if stage in table.checkpoint_columns}


def _is_held(table: JobTable, stage: str, row: Json) -> bool:
    columns = table.checkpoint_columns.get(stage)
    return columns is not None and row.get(next(iter(columns))) is not None


async def carry(
    connection: Connection, job_type: str, job_id: str, new_id: str, stages: Sequence[str], following: str
) -> None:
    """Copy the outputs of some stages of a job to a new job of the same type.

    The caller owns the transaction, and queues the new job at stage `following`.
    """
    await connection.execute(_carry(table_of(job_type), stages), job_id, new_id, following)
    await connection.execute(_CARRY_KEPT, job_type, job_id, new_id, list(stages))


def _carry(table: JobTable, stages: Sequence[str]) -> str:
    names = [f'"{column}"' for stage in stages for column in table.checkpoint_columns.get(stage, ())]
    shown = [shown_stage(table.stage_column, "$3::text")] if table.stage_column else []
    old, new = as_id(table, "$1"), as_id(table, "$2")
    return f"""
UPDATE {table.name} j SET {assigned(table, [*shown, *(f"{name} = o.{name}" for name in names)])}
FROM {table.name} o WHERE j.{table.id_column} = {new} AND o.{table.id_column} = {old} AND $3::text IS NOT NULL
"""


_CARRY_KEPT: Final = f"""
INSERT INTO {OWN_TABLE} (job_type, job_id, stage, output)
SELECT c.job_type, $3, c.stage, c.output FROM {OWN_TABLE} c
WHERE c.job_type = $1 AND c.job_id = $2 AND c.stage = ANY ($4)
ON CONFLICT (job_type, job_id, stage) DO UPDATE SET output = excluded.output, at = now()
"""  # an earlier job may have had the new id
