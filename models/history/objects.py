"""Records of the objects that Darkroom stores, written before each upload and deleted when the object is gone."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from models.connections import Connection

ORIGINAL: Final = "original"
"""Value of the column for the job's type if the object is an uploaded picture; its id stands in place of the job's."""

INPUT: Final = "input"
"""Value of the column for the job's type if the object is the uploaded input of a job that isn't submitted yet."""

PROBE: Final = "probe"
"""Value of the column for the job's type if the object is one that `darkroom doctor` stores and removes as a test."""


@dataclass(frozen=True, slots=True)
class OwnObject:
    """An object that Darkroom stored. `sha256` and `size_bytes` are None if they aren't known."""

    key: str
    sha256: str | None
    size_bytes: int | None
    written_at: datetime


@dataclass(frozen=True, slots=True)
class NewObject:
    """An object that is about to be stored, and the job that it is stored for, or what stands in its place."""

    key: str
    job_type: str
    job_id: str
    sha256: str
    size_bytes: int


# Rows are locked in the order of their keys, as two processes may record the same ones
_RECORD = """
INSERT INTO darkroom.objects AS o (key, job_type, job_id, sha256, size_bytes)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[]) n (key) ORDER BY n.key
ON CONFLICT (key) DO UPDATE
SET job_type = excluded.job_type, job_id = excluded.job_id, sha256 = excluded.sha256,
    size_bytes = excluded.size_bytes, written_at = excluded.written_at
"""


async def record_objects(connection: Connection, objects: Sequence[NewObject]) -> None:
    """Record objects, of different keys, before their upload; the caller commits before the uploads.

    A second upload to a key replaces the record.

    This has no fence: if a worker uploads after its claim was lost, there is an object too, and it must be found later.
    """
    await connection.execute(
        _RECORD,
        [one.key for one in objects],
        [one.job_type for one in objects],
        [one.job_id for one in objects],
        [one.sha256 for one in objects],
        [one.size_bytes for one in objects],
    )


async def record_object(
    connection: Connection, key: str, *, job_type: str, job_id: str, sha256: str, size_bytes: int
) -> None:
    """Record one object, as `record_objects`."""
    await record_objects(connection, [NewObject(key, job_type, job_id, sha256, size_bytes)])


async def forget_objects(connection: Connection, gone: Sequence[OwnObject]) -> None:
    """Delete the records of objects that were deleted or now belong to another program.

    The record of an object that Darkroom has uploaded again since is kept.
    """
    await connection.execute(
        """DELETE FROM darkroom.objects o USING unnest($1::text[], $2::timestamptz[]) g (key, written_at)
           WHERE o.key = g.key AND o.written_at = g.written_at""",
        [one.key for one in gone],
        [one.written_at for one in gone],
    )


async def own_object(connection: Connection, key: str) -> OwnObject | None:
    """Return what is recorded of the object with a key; None if Darkroom didn't store it."""
    row = await connection.fetchrow(
        "SELECT o.key, o.sha256, o.size_bytes, o.written_at FROM darkroom.objects o WHERE o.key = $1", key
    )
    return None if row is None else OwnObject(**row)
