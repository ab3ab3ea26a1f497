"""All that a claimed job's run is told by rows, in one trip."""

from collections.abc import Mapping
from dataclasses import dataclass

from models.connections import Connection
from models.database import Database
from models.history.artifacts import Artifact, find_artifact
from models.patience import read_patiently
from models.queue.checkpoints import Json, load_kept, outputs_left
from models.queue.claims import Claim, ClaimLostError
from models.queue.inputs import JobInputs, load_inputs


@dataclass(frozen=True, slots=True)
class JobRows:
    """What the rows behind a job say.

    Attributes:
        inputs: what it is to work on.
        left: what finished stages left, by stage.
        artifact: a picture that an earlier attempt bought and stored; None too where nobody asked for it.
    """

    inputs: JobInputs
    left: Mapping[str, Json | None]
    artifact: Artifact | None


async def read_job(database: Database, claim: Claim, *, needs_kept: bool, needs_artifact: bool) -> JobRows:
    """Read the rows behind a claimed job; while PostgreSQL is gone, wait.

    Args:
        database: where they are.
        claim: whose job.
        needs_kept: a stage before has no columns, so that darkroom.checkpoints is read.
        needs_artifact: a picture may have been stored for the job already.

    Raises:
        ClaimLostError: the job's row is gone.
    """

    async def read(connection: Connection) -> JobRows | None:
        inputs = await load_inputs(connection, claim)
        if inputs is None:
            return None
        kept = await load_kept(connection, claim) if needs_kept else {}
        artifact = await find_artifact(connection, claim) if needs_artifact else None
        return JobRows(inputs, outputs_left(claim.job_type, inputs.checkpoints, kept), artifact)

    rows = await read_patiently(database, read)
    if rows is None:
        raise ClaimLostError(f"the row of job {claim.job_id} is gone")
    return rows
