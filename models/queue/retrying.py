"""Retry of a finished job by an operator: the new job, and what it copies from the old one."""

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from models.applications.registry import table_of
from models.connections import Connection
from models.job_tables.rendering import as_id, id_as_text, locked_row, over
from models.job_tables.table import JobTable
from models.queue.job_rows import Job

_SET_MODEL: Final = "SELECT set_config('darkroom.model', $1, true)"
_QUEUE: Final = """
UPDATE darkroom.job_queue q SET stage = coalesce($2, q.stage), payload = q.payload || $3::jsonb
WHERE q.job_id = $1 AND q.job_type = $4
RETURNING q.id
"""
_MOVE: Final = "SELECT darkroom.move_to_queues($1)"


async def lock_job(connection: Connection, job: Job) -> None:
    """Lock a job's row until the caller's transaction ends, so that two operators don't retry it at the same time."""
    await connection.execute(locked_row(table_of(job.job_type)), job.id)


async def submit_again(connection: Connection, old: Job, model: str) -> str | None:
    """Submit a new job with the old job's inputs, in the caller's transaction; return the new job's id.

    Args:
        connection: in a transaction.
        old: the finished job.
        model: model of the generation; empty for the pipeline's own. A pipeline whose model isn't available any more is
            no reason to refuse a retry that names another model.

    Returns:
        The new id; None if jobs of this table can't be retried, or the old job's row is gone.

    Raises:
        asyncpg.PostgresError: the submission is refused; `workers.operations.errors` translates it.
    """
    table = table_of(old.job_type)
    if not table.again:
        return None
    await connection.execute(_SET_MODEL, model)
    new_id: str | None = await connection.fetchval(table.again, old.id)
    if new_id is not None and table.kept_columns:
        await connection.execute(_keep(table), new_id, old.id, old.job_type)
    return new_id


@cache
def _keep(table: JobTable) -> str:
    """Return the statement that copies from the old job's row the producer's columns that submitting doesn't fill."""
    kept = ", ".join(f"{column} = o.{column}" for column in table.kept_columns)
    new, old = as_id(table, "$1"), as_id(table, "$2")
    return f"""
WITH kept AS (
    UPDATE {table.name} n SET {kept} FROM {table.name} o
    WHERE n.{table.id_column} = {new} AND o.{table.id_column} = {old}
    RETURNING {id_as_text(table, "n")} AS id, {over(table.max_attempts, "n")} AS max_attempts)
UPDATE darkroom.job_queue q SET max_attempts = kept.max_attempts
FROM kept WHERE q.job_id = kept.id AND q.job_type = $3
"""


async def begin_at(
    connection: Connection, job_type: str, new_id: str, stage: str | None, payload: Mapping[str, Any]
) -> None:
    """Add entries to a queued job's payload, and set the stage at which it begins if `stage` isn't None."""
    rows = await connection.fetch(_QUEUE, new_id, stage, payload, job_type)
    if stage is not None:
        await connection.execute(_MOVE, [row["id"] for row in rows])
