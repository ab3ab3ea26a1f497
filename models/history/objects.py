"""The objects that Darkroom has put into storage: written down before the put, forgotten once the object is gone."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

from models.connections import Connection
from models.database import Database
from models.database_retries import with_database_retries

ORIGINAL: Final = "original"
"""Stands for the job's type where a picture was uploaded; the picture's id stands for the job's."""

INPUT: Final = "input"
"""Stands for the job's type where the input of a job was uploaded that isn't submitted yet."""

PROBE: Final = "probe"
"""Stands for the job's type of what `darkroom doctor` stores and removes."""


@dataclass(frozen=True, slots=True)
class OwnObject:
    """An object that Darkroom wrote. `sha256` and `size_bytes` are None where nobody knows what was written."""

    key: str
    sha256: str | None
    size_bytes: int | None
    written_at: datetime


_RECORD = """
INSERT INTO darkroom.objects AS o (key, job_type, job_id, sha256, size_bytes) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (key) DO UPDATE
SET job_type = excluded.job_type, job_id = excluded.job_id, sha256 = excluded.sha256,
    size_bytes = excluded.size_bytes, written_at = excluded.written_at
"""


async def record_object(
    connection: Connection, key: str, *, job_type: str, job_id: str, sha256: str, size_bytes: int
) -> None:
    """Write down what is about to be put; the caller commits before the put. A put of the same key again is newer.

    No fence: a late upload of a lost claim is an object too, and has to be found.
    """
    await connection.execute(_RECORD, key, job_type, job_id, sha256, size_bytes)


async def record_object_with_retries(
    key: str, sha256: str, size_bytes: int, *, database: Database, job_type: str, job_id: str
) -> None:
    """Write down what a running job is about to put, and commit; while PostgreSQL is gone, wait."""
    work = partial(record_object, key=key, job_type=job_type, job_id=job_id, sha256=sha256, size_bytes=size_bytes)
    await with_database_retries(partial(database.commit, "record_object", work))


async def forget_objects(connection: Connection, gone: Sequence[OwnObject]) -> None:
    """Forget objects that are gone, or another program's by now; one that was put again meanwhile stays."""
    await connection.execute(
        """DELETE FROM darkroom.objects o USING unnest($1::text[], $2::timestamptz[]) g (key, written_at)
           WHERE o.key = g.key AND o.written_at = g.written_at""",
        [one.key for one in gone],
        [one.written_at for one in gone],
    )


async def own_object(connection: Connection, key: str) -> OwnObject | None:
    """Return what is known of one key; None if Darkroom didn't write it."""
    row = await connection.fetchrow(
        "SELECT o.key, o.sha256, o.size_bytes, o.written_at FROM darkroom.objects o WHERE o.key = $1", key
    )
    return None if row is None else OwnObject(**row)
