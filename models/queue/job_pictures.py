"""Where the pictures of a job are: the keys of what it works on, and of its results."""

from collections.abc import Sequence
from typing import Final

from models.connections import Connection
from models.job_state import JobStatus
from models.job_tables.inputs import JobInputs
from models.queue.job_rows import Job

_ARTIFACT: Final = "SELECT a.key FROM darkroom.artifacts a WHERE a.job_type = $1 AND a.job_id = $2"


async def job_inputs(connection: Connection, job: Job) -> JobInputs | None:
    """Return what a job works on; None if its row is gone, or holds what can't be read."""
    inputs = job.key.table.inputs
    row = await connection.fetchrow(inputs.select, job.id, None)
    if row is None:
        return None
    try:
        return inputs.load(dict(row))
    except (ValueError, TypeError, KeyError, AttributeError):  # what another program wrote there
        return None


async def result_keys(connection: Connection, job: Job) -> Sequence[str]:
    """Return the keys of the pictures that a completed job has made, in their order; none for any other job.

    They are those that its row names, or the rows of its pictures; or else the one that was recorded when it was
    stored.
    """
    if job.status != JobStatus.COMPLETED:
        return ()
    table = job.key.table
    named = [job.columns.get(column) for column, fact in table.result.items() if fact == "key"]
    if keys := [str(key) for key in named if key]:
        return keys
    if keys := await _keys_of_rows(connection, job):
        return keys
    key = await connection.fetchval(_ARTIFACT, job.job_type, job.id)
    return () if key is None else (str(key),)


async def _keys_of_rows(connection: Connection, job: Job) -> list[str]:
    """Return the keys that the rows of a job's pictures name."""
    rows = job.key.table.result_rows
    column = next((column for column, fact in job.key.table.result.items() if fact == "ids"), None)
    if rows is None or column is None:
        return []
    id_, key = (
        next((name for name, sql in rows.columns.items() if sql == wanted), None) for wanted in ("p.id", "p.key")
    )
    ids = [str(one) for one in job.columns.get(column.strip('"')) or ()]
    if id_ is None or key is None or not ids:
        return []
    found = {
        row["id"]: row["key"]
        for row in await connection.fetch(
            f"SELECT f.{id_}::text AS id, f.{key} AS key FROM {rows.table} f WHERE f.{id_} = ANY ($1)", ids
        )
    }
    return [found[one] for one in ids if found.get(one)]
