"""Names by which people ask for jobs: an id, or TABLE/ID where several tables have a job with the id."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from models.applications.registry import job_tables, table_of
from models.connections import Connection
from models.job_tables.names import beginnings_of_names, ids_in_name
from models.job_tables.table import JobTable

_WITH_IDS: Final = "SELECT j.type, j.id FROM darkroom.jobs_of($1::text[]) j"
_NAMED: Final = "SELECT n.type, n.id FROM darkroom.job_named($1) n"
# An index on a text column is sorted by its collation and can't find prefixes, so all rows are read.
_BEGINNING: Final = """
SELECT j.type, j.id FROM darkroom.jobs j WHERE starts_with(j.id, $1) {or_named} ORDER BY j.id, j.type LIMIT $2
"""
_OR_NAMED: Final = """
OR EXISTS (SELECT FROM unnest($3::text[], $4::text[]) b (type, id) WHERE j.type = b.type AND starts_with(j.id, b.id))
"""


@dataclass(frozen=True, slots=True)
class JobKey:
    """A job: its table, whose job types no other table has, and its id in it."""

    table: JobTable
    job_id: str

    @property
    def name(self) -> str:
        """TABLE/ID."""
        return beginnings_of_names(self.table)[0] + self.job_id

    @property
    def full_name(self) -> str:
        """SCHEMA.TABLE/ID, which stays the job's name whatever jobs are added to other tables."""
        return beginnings_of_names(self.table)[1] + self.job_id


def key_of(job_type: str, job_id: str) -> JobKey:
    """Return the key of a job.

    Raises:
        KeyError: no table holds jobs of this type.
    """
    return JobKey(table_of(job_type), job_id)


async def job_keys(connection: Connection, names: Iterable[str]) -> dict[str, JobKey]:
    """Return the jobs for which names stand, by name. Names of no job are left out.

    An id comes first: a job whose id is `a/b` isn't mistaken for job `b` of table `a`.

    Raises:
        asyncpg.InvalidParameterValueError: a name stands for jobs of several tables; the message names each of them.
    """
    asked = list(dict.fromkeys(names))
    found: dict[str, list[JobKey]] = {}
    for key in await _jobs_with_ids(connection, asked):
        found.setdefault(key.job_id, []).append(key)
    keys = {}
    for name in asked:
        if len(exact := found.get(name, [])) == 1:
            keys[name] = exact[0]
        elif exact or any(ids_in_name(table, name) for table in job_tables()):
            named = await connection.fetchrow(_NAMED, name)
            if named is not None and named["type"] is not None:
                keys[name] = key_of(named["type"], named["id"])
    return keys


async def job_names(connection: Connection, keys: Iterable[JobKey]) -> dict[JobKey, str]:
    """Return the shortest name of each job: its id, or TABLE/ID if another job table has a job with this id, too."""
    names = {key: key.job_id for key in keys}
    if len(job_tables()) == 1 or not names:
        return names
    there = await _jobs_with_ids(connection, names.values())
    number = Counter(key.job_id for key in there)
    short = {key: key.name for key in names if number[key.job_id] > 1}
    if short:
        same_names = Counter(key.name for key in there)
        taken = {key.job_id for key in await _jobs_with_ids(connection, short.values())}  # an id may look like a name
        for key, name in short.items():
            names[key] = key.full_name if name in taken or same_names[name] > 1 else name
    return names


async def jobs_beginning(connection: Connection, beginning: str, most: int) -> list[str]:
    """Return the names of up to `most` jobs whose id, or TABLE/ID, begins with a text, in the order of their ids."""
    named = [(one, rest) for table in job_tables() for rest in ids_in_name(table, beginning) for one in table.job_types]
    terms = ([one for one, _ in named], [rest for _, rest in named]) if named else ()
    sql = _BEGINNING.format(or_named=_OR_NAMED if named else "")
    rows = await connection.fetch(sql, beginning, most, *terms)
    names = await job_names(connection, [key_of(row["type"], row["id"]) for row in rows])
    return list(names.values())


async def _jobs_with_ids(connection: Connection, ids: Iterable[str]) -> list[JobKey]:
    """Return the jobs of all tables that have one of the ids."""
    rows = await connection.fetch(_WITH_IDS, list(dict.fromkeys(ids)))
    return [key_of(row["type"], row["id"]) for row in rows]
