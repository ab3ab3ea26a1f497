"""Where a claim begins again when what its job's row holds of finished stages can't be used."""

from models.connections import Connection
from models.job_tables import table_of
from models.queue.claims import Claim, FencedError
from models.queue.transitions import HELD


async def begin_at(connection: Connection, claim: Claim, stage: str, deadline_s: float) -> None:
    """Set a claim back to an earlier stage, where what a row holds of the later ones can't be used.

    Raises:
        FencedError: another holds the job, or it is over; nothing was written.
    """
    table = table_of(claim.job_type)
    column = f'{table.stage_column} = $4::text::public."PipelineStage", ' if table.stage_column else ""
    row = await connection.fetchrow(
        f"""
        WITH job AS MATERIALIZED (SELECT j.id FROM {table.name} j WHERE j.id = $1 FOR NO KEY UPDATE),
            held AS MATERIALIZED (SELECT q.id, q.job_id FROM darkroom.job_queue q JOIN job ON job.id = q.job_id
                                  WHERE q.id = $2 AND {HELD} FOR UPDATE OF q),
            queue AS (UPDATE darkroom.job_queue q
                      SET stage = $4::text, deadline_at = now() + make_interval(secs => $5::float8)
                      FROM held WHERE q.id = held.id)
        UPDATE {table.name} j SET {column}"updatedAt" = darkroom.utc_now() FROM held WHERE j.id = held.job_id
        RETURNING j.id
        """,
        *(claim.job_id, claim.id, claim.lease_token, stage, deadline_s),
    )
    if row is None:
        raise FencedError(f"{claim.job_type} job {claim.job_id} is no longer held by this claim")
