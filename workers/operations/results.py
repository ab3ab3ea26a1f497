"""Results of jobs: the object of each and its file name, or the reason why there is none."""

from dataclasses import dataclass
from typing import Final

from models.connections import Connection
from models.queue.job_names import job_keys
from models.queue.results import ResultRow, result_row
from workers.operations.errors import OperationError, translated
from workers.process.runtime import Runtime
from workers.submission import read_result

MOST_STEM_CHARS: Final = 60
"""Longest file name without its ending, in characters, of up to 4 bytes each.

File systems allow 255 bytes, and a number and the ending follow.
"""


class NoResultError(OperationError):
    """Raised when a job has no result that could be saved."""


@dataclass(frozen=True, slots=True)
class Result:
    """A picture that a job has made; `stem` is a file's name without its ending, and never a path."""

    stem: str
    data: bytes


async def fetch_result(runtime: Runtime, name: str) -> Result:
    """Read the result of a job, given by its id or TABLE/ID, from the storage.

    Raises:
        InvalidInputError: the id stands in several tables.
        NoResultError: there is no such job, it isn't over, it ended without success, or its row names no object.
        StorageRefusedError: the object is missing, or the storage doesn't answer.
    """

    async def read(connection: Connection) -> ResultRow | None:
        key = (await job_keys(connection, [name])).get(name)
        return None if key is None else await result_row(connection, key)

    with translated():
        row = await runtime.database.run(read)
    if row is None:
        raise NoResultError("there is no such job; `darkroom jobs list` shows the newest")
    if row.status in {"PENDING", "PROCESSING"}:
        raise NoResultError(f"it isn't finished: it is {row.status}; `darkroom jobs watch` follows it")
    if row.status != "COMPLETED":
        why = f": {row.error}" if row.error else ""
        raise NoResultError(f"there is no result, it ended {row.status}{why}")
    if row.key is None:
        raise NoResultError("it is COMPLETED, and its row names no object any more")
    return Result(_stem(row), await read_result(runtime, row.key))


def _stem(row: ResultRow) -> str:
    """Return the name of a job's picture as a file name without its ending; the job's id if the name can't be used.

    The application may have called a picture anything: a path, nothing, control characters, a name that is too long.
    """
    name = (row.name or "").replace("\\", "/").rstrip("/").rpartition("/")[2]
    stem = name.rpartition(".")[0] or name
    stem = "".join(char for char in stem if char.isprintable()).strip(" .")[:MOST_STEM_CHARS]
    return stem or "".join(char if char.isalnum() or char in "-_" else "_" for char in row.job_id)
