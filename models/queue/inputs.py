"""What a job works on: inputs that are deleted, and pipelines that its row doesn't name."""

from collections.abc import Sequence

from models.applications.registry import table_of
from models.connections import Connection
from models.job_tables.inputs import JobInputs, Picture, Pipeline
from models.job_tables.rendering import as_id, assigned, id_as_text, locked_job
from models.job_tables.table import JobTable
from models.queue.claims import Claim, FencedError

__all__ = ["JobInputs", "Picture", "Pipeline", "lost_input", "record_pipeline", "users_of"]


async def lost_input(connection: Connection, job_type: str, job_id: str) -> str | None:
    """Return the name of a deleted input of a finished job; None if no input is deleted."""
    inputs = table_of(job_type).inputs
    row = await connection.fetchrow(inputs.select, job_id, None)
    return None if row is None else inputs.load(dict(row)).lost


async def users_of(connection: Connection, ids: Sequence[str]) -> list[str]:
    """Return those of the given ids that are ids of users."""
    rows = await connection.fetch("SELECT u.id FROM public.users u WHERE u.id = ANY ($1::text[])", list(ids))
    return [row["id"] for row in rows]


async def record_pipeline(connection: Connection, claim: Claim, pipeline_id: str) -> None:
    """Write the pipeline of a job's album into the job's row, which named no pipeline. Repeatable.

    Without this, a later change of the album's pipeline would change which pipeline the job seems to have used.

    Raises:
        FencedError: another worker holds the job, or it is over; nothing was written.
        ValueError: rows of this job table have no column for a pipeline.
    """
    table = table_of(claim.job_type)
    row = await connection.fetchrow(_record_pipeline(table), claim.job_id, claim.id, claim.lease_token, pipeline_id)
    if row is None:
        raise FencedError(f"{claim.job_type} job {claim.job_id} is no longer held by this claim")


def _record_pipeline(table: JobTable) -> str:
    if table.pipeline_column is None:
        raise ValueError(f"{table.name} has no column for the pipeline of a job")
    recorded = f"{table.pipeline_column} = coalesce(j.{table.pipeline_column}, $4)"
    # Rows are locked as in every write of a claim: first the job's row, then its queue row, which is the fence
    return f"""
WITH {locked_job(table)},
    held AS MATERIALIZED (
        SELECT q.job_id FROM darkroom.job_queue q JOIN job ON {id_as_text(table, "job")} = q.job_id
        WHERE q.id = $2 AND q.lease_token = $3 FOR UPDATE OF q)
UPDATE {table.name} j
SET {assigned(table, [recorded])}
FROM held WHERE j.{table.id_column} = {as_id(table, "held.job_id")} RETURNING held.job_id
"""
