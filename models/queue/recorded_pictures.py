"""The pictures of a job that makes several: each but the last is recorded, under the claim's fence, before the next.

So no later attempt buys them again. darkroom.checkpoints keeps them until the job is over; the last is an artifact.
"""

from collections.abc import Mapping
from typing import Any, Final

from models.connections import Connection
from models.queue.checkpoints import OWN_TABLE, Json
from models.queue.claims import Claim, FencedError

# The next picture gets all the time that a stage may take. As for an artifact, only the queue row is locked, so nobody
# who holds the job's row keeps a picture from being recorded.
_RECORD: Final = f"""
WITH held AS MATERIALIZED (
    SELECT q.id, q.job_type, q.job_id FROM darkroom.job_queue q
    WHERE q.id = $1 AND q.lease_token = $2 FOR UPDATE),
queue AS (
    UPDATE darkroom.job_queue q SET deadline_at = now() + make_interval(secs => $5) FROM held WHERE q.id = held.id)
INSERT INTO {OWN_TABLE} (job_type, job_id, stage, output)
SELECT held.job_type, held.job_id, $3, $4 FROM held
ON CONFLICT (job_type, job_id, stage) DO UPDATE SET output = excluded.output, at = now()
RETURNING job_id
"""


async def record_picture(
    connection: Connection, claim: Claim, stage: str, number: int, picture: Json, deadline_s: float
) -> None:
    """Record one of the pictures that a stage makes, and give the stage's claim time for the next one. Repeatable.

    Args:
        connection: a connection in no transaction.
        claim: the claim whose attempt has stored the picture.
        stage: the stage that makes the pictures.
        number: which of them it is, from 1.
        picture: the picture as JSON.
        deadline_s: seconds until the claim may be rescued.

    Raises:
        FencedError: another worker holds the job, or it is over; nothing was written.
    """
    row = await connection.fetchrow(
        _RECORD, claim.id, claim.lease_token, _place(stage, number), dict(picture), deadline_s
    )
    if row is None:
        raise FencedError(f"{claim.job_type} job {claim.job_id} is no longer held by this claim")


def recorded_pictures(stage: str, kept: Mapping[str, Json | None]) -> dict[int, Mapping[str, Any]]:
    """Return the recorded pictures of a stage as JSON, by their numbers.

    Args:
        stage: the stage that makes them.
        kept: what darkroom.checkpoints has of the job, by stage.
    """
    found = {}
    for name, picture in kept.items():
        of, slash, number = name.partition("/")
        if of == stage and slash and number.isdecimal() and picture is not None:
            found[int(number)] = picture
    return found


def _place(stage: str, number: int) -> str:
    return f"{stage}/{number}"
