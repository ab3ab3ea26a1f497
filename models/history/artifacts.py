"""Artifacts: records of bought and stored pictures, written before the job completes, so that none is bought twice."""

from collections.abc import Mapping, Sequence
from typing import Any

from config.values import value
from models.connections import Connection
from models.queue.claims import Claim, FencedError
from models.queue.user_keys import user_key


@value
class Artifact:
    """A stored picture and how it was made.

    `input_hash` identifies what was asked for: 64 hex digits over all that the
    picture depends on. `sha256` and `size_bytes` are the object's.
    """

    input_hash: str
    key: str
    sha256: str
    size_bytes: int
    width_px: int
    height_px: int
    model: str
    temperature: float | None
    treatments: Sequence[str]


_COLUMNS = """
input_hash, key, sha256, bytes AS size_bytes, width AS width_px, height AS height_px, model, temperature, treatments
"""

_RECORD = """
WITH held AS MATERIALIZED (
    SELECT q.job_type, q.job_id, q.user_id FROM darkroom.job_queue q
    WHERE q.id = $1 AND q.lease_token = $2 FOR UPDATE)
INSERT INTO darkroom.artifacts
    (job_type, job_id, user_id, input_hash, key, sha256, bytes, width, height, model, temperature, treatments)
SELECT held.job_type, held.job_id, held.user_id, $3, $4, $5, $6, $7, $8, $9, $10, $11 FROM held
ON CONFLICT (job_type, job_id) DO UPDATE
SET input_hash = excluded.input_hash, key = excluded.key, sha256 = excluded.sha256, bytes = excluded.bytes,
    width = excluded.width, height = excluded.height, model = excluded.model, temperature = excluded.temperature,
    treatments = excluded.treatments, created_at = now(), user_id = excluded.user_id
RETURNING job_id
"""


async def record_artifact(connection: Connection, claim: Claim, artifact: Artifact) -> None:
    """Record the picture that a claim's attempt has stored, under the claim's fence. Repeatable.

    This locks only the queue row and waits for no other lock afterwards, so the lock order is kept.

    Raises:
        FencedError: another worker holds the job, or it is over; nothing was written.
    """
    row = await connection.fetchrow(
        _RECORD,
        *(claim.id, claim.lease_token, artifact.input_hash, artifact.key, artifact.sha256, artifact.size_bytes),
        *(artifact.width_px, artifact.height_px, artifact.model, artifact.temperature, list(artifact.treatments)),
    )
    if row is None:
        raise FencedError(f"{claim.job_type} job {claim.job_id} is no longer held by this claim")


def artifact_as_json(job_type: str, job_id: str, of_this_life: str = "") -> str:
    """Return SQL that yields, for `artifact_of`, the picture that an earlier attempt of a job has stored, or NULL.

    The arguments are SQL expressions. The last one is a further condition on `a`, the record, which begins with AND: it
    leaves out the picture of an earlier job that had the same id.
    """
    return f"""(SELECT pg_catalog.to_jsonb(one) FROM (
        SELECT {_COLUMNS} FROM darkroom.artifacts a WHERE a.job_type = {job_type} AND a.job_id = {job_id}{of_this_life}
        ) one)"""


def artifact_of(row: Mapping[str, Any]) -> Artifact:
    """Return the picture that `artifact_as_json` yielded."""
    return Artifact(**row)


async def find_same(connection: Connection, claim: Claim, input_hash: str) -> Artifact | None:
    """Return the newest picture that a job of the same user and type has made with the same input hash, if any."""
    row = await connection.fetchrow(
        f"""SELECT {_COLUMNS} FROM darkroom.artifacts a
            WHERE a.input_hash = $1 AND a.user_id = $2 AND a.job_type = $3 ORDER BY a.created_at DESC LIMIT 1""",
        input_hash,
        user_key(claim.job_type, claim.user_id),
        claim.job_type,
    )
    return None if row is None else Artifact(**row)
