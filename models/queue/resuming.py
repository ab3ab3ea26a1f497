"""Moves a claim back to an earlier stage, if the stored outputs of later stages can't be used."""

from models.applications.registry import table_of
from models.connections import Connection
from models.job_tables.rendering import as_id, assigned, id_as_text, locked_job, shown_stage
from models.job_tables.table import JobTable
from models.queue.claims import Claim, FencedError
from models.queue.transitions import HELD


async def begin_at(connection: Connection, claim: Claim, stage: str, deadline_s: float) -> None:
    """Move a claim back to an earlier stage, because the stored outputs of later stages can't be used.

    Raises:
        FencedError: another worker holds the job, or it is over; nothing was written.
    """
    row = await connection.fetchrow(
        _begin_at(table_of(claim.job_type)), claim.job_id, claim.id, claim.lease_token, stage, deadline_s
    )
    if row is None:
        raise FencedError(f"{claim.job_type} job {claim.job_id} is no longer held by this claim")


def _begin_at(table: JobTable) -> str:
    shown = [shown_stage(table.stage_column, "$4::text")] if table.stage_column else []
    return f"""
WITH {locked_job(table)},
    held AS MATERIALIZED (
        SELECT q.id, q.job_id FROM darkroom.job_queue q JOIN job ON {id_as_text(table, "job")} = q.job_id
        WHERE q.id = $2 AND {HELD} FOR UPDATE OF q),
    queue AS (
        UPDATE darkroom.job_queue q
        SET stage = $4::text, deadline_at = now() + make_interval(secs => $5::float8)
        FROM held WHERE q.id = held.id)
UPDATE {table.name} j SET {assigned(table, shown)}
FROM held WHERE j.{table.id_column} = {as_id(table, "held.job_id")} RETURNING held.id
"""
