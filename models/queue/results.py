"""Where the object of a job's result lies, and the name of the job's picture."""

from dataclasses import dataclass
from typing import Final

from models.connections import Connection
from models.queue.job_names import JobKey

_RESULT: Final = """
SELECT j.id, j.status, j.key, j."errorMessage", j."imageId" FROM darkroom.jobs_of(ARRAY[$1::text]) j
WHERE j.type = ANY ($2)
"""
_NAME: Final = "SELECT i.name FROM public.enhanced_images i WHERE i.id = $1"


@dataclass(frozen=True, slots=True)
class ResultRow:
    """What a job's row holds about its result.

    Attributes:
        job_id: of the job.
        status: a `JobStatus`.
        key: of the object; None where the row names none.
        error: why the job ended without success.
        name: the file name that the enhanced picture's owner gave; None for a job without a picture.
    """

    job_id: str
    status: str
    key: str | None
    error: str | None
    name: str | None


async def result_row(connection: Connection, key: JobKey) -> ResultRow | None:
    """Return what is known of a job's result; None if there is no such job."""
    row = await connection.fetchrow(_RESULT, key.job_id, list(key.table.job_types))
    if row is None:
        return None
    # Read only for a job that has a picture: a database of another application may have no table of pictures
    name = None if row["imageId"] is None else await connection.fetchval(_NAME, row["imageId"])
    return ResultRow(row["id"], row["status"], row["key"], row["errorMessage"], name)
