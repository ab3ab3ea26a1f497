"""Reading all rows that the run of a claimed job needs, in one round trip."""

from collections.abc import Mapping
from dataclasses import dataclass

from models.connections import Connection
from models.database import Database
from models.database_retries import read_with_retries
from models.history.artifacts import Artifact, find_artifact
from models.queue.checkpoints import Json, load_kept, outputs_left
from models.queue.claims import Claim, ClaimLostError
from models.queue.inputs import JobInputs, load_inputs


@dataclass(frozen=True, slots=True)
class JobRows:
    """The rows that the run of a claimed job needs.

    Attributes:
        inputs: what the job works on.
        left: stored outputs of finished stages, by stage.
        artifact: a picture that an earlier attempt bought and stored; None if there is none, or `needs_artifact` was
            False.
    """

    inputs: JobInputs
    left: Mapping[str, Json | None]
    artifact: Artifact | None


async def read_job(database: Database, claim: Claim, *, needs_kept: bool, needs_artifact: bool) -> JobRows:
    """Return the rows that the run of a claimed job needs. While PostgreSQL is unreachable, wait and repeat it.

    Args:
        database: where the rows are.
        claim: the claim of the job.
        needs_kept: whether the job's row has no columns for the output of some earlier stage, so that
            darkroom.checkpoints has to be read.
        needs_artifact: whether a picture may have been stored for the job already.

    Raises:
        ClaimLostError: the job's row is deleted.
    """

    async def read(connection: Connection) -> JobRows | None:
        inputs = await load_inputs(connection, claim)
        if inputs is None:
            return None
        kept = await load_kept(connection, claim) if needs_kept else {}
        artifact = await find_artifact(connection, claim) if needs_artifact else None
        return JobRows(inputs, outputs_left(claim.job_type, inputs.checkpoints, kept), artifact)

    rows = await read_with_retries(database, read)
    if rows is None:
        raise ClaimLostError(f"the row of job {claim.job_id} is gone")
    return rows
