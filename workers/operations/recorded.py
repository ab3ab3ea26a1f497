"""The job of which records are asked for, which may outlive its row: provider calls, money, stages, objects."""

from collections.abc import Sequence

from models.applications.registry import job_tables
from models.connections import Connection
from models.history.timeline import recorded_types
from models.job_tables.names import ids_in_name
from models.job_tables.table import JobTable
from models.queue.job_names import JobKey, job_keys
from workers.operations.errors import InvalidInputError


async def recorded_job(connection: Connection, name: str) -> tuple[str, Sequence[str] | None]:
    """Return the id and the types of the job that a name stands for, also after its row is deleted.

    The types are all those of its table; None if nothing is known of such a job but what operators did to it.

    Raises:
        asyncpg.InvalidParameterValueError: the name is the id of jobs of several tables; the message names each.
        InvalidInputError: the same, and the rows of these jobs are deleted.
    """
    key = (await job_keys(connection, [name])).get(name)
    if key is None:
        found = await _deleted(connection, name)
        if len(found) > 1:
            names = [one.full_name for one in found]
            raise InvalidInputError(f"jobs of {len(names)} tables had the id {name}: give {' or '.join(names)}")
        key = next(iter(found), None)
    return (name, None) if key is None else (key.job_id, key.table.job_types)


async def _deleted(connection: Connection, name: str) -> list[JobKey]:
    """Return the jobs of which something is recorded and whose id is the name; if there is none, that it names."""

    async def recorded(table: JobTable, job_id: str) -> bool:
        return not set(table.job_types).isdisjoint(await recorded_types(connection, job_id))

    found = [JobKey(table, name) for table in job_tables() if await recorded(table, name)]
    if found:
        return found
    named = [(table, one) for table in job_tables() for one in ids_in_name(table, name)]
    return [JobKey(table, one) for table, one in named if await recorded(table, one)]
