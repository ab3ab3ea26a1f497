"""Lookup of ids by their first characters, as people type them."""

from typing import Final, Literal

from models.applications.registry import has_pictures
from models.connections import Connection
from models.queue.job_names import job_keys, job_names, jobs_beginning

Kind = Literal["job", "user", "pipeline", "album", "batch"]

_RELATIONS: Final[dict[Kind, str]] = {
    "user": "public.users",
    "pipeline": "public.enhancement_pipelines",
    "album": "public.albums",
    "batch": "darkroom.batches",
}
_IS_ONE: Final[dict[Kind, str]] = {
    "user": "SELECT EXISTS (SELECT FROM public.users r WHERE r.id = $1)",
    "pipeline": "SELECT EXISTS (SELECT FROM public.enhancement_pipelines r WHERE r.id = $1)",
    "album": "SELECT EXISTS (SELECT FROM public.albums r WHERE r.id = $1)",
    "batch": "SELECT EXISTS (SELECT FROM darkroom.batches r WHERE r.id::text = $1)",
}
# An index on a text column is sorted by its collation and can't find prefixes, so all rows are read.
_BEGINNING: Final = "SELECT r.id::text FROM {relation} r WHERE starts_with(r.id::text, $1) ORDER BY r.id LIMIT $2"


async def ids_beginning(connection: Connection, kind: Kind, beginning: str, most: int) -> list[str]:
    """Return up to `most` ids of a kind that begin with a text, in order; for jobs, their names (`job_names`).

    If the text is an id, or TABLE/ID of a job, return only this one; a job has the same name however it was asked for.
    Users, pipelines and albums are looked up in the tables of `pictures`; where the process doesn't drain it, no id of
    them is known.

    Raises:
        asyncpg.InvalidParameterValueError: the text is the id of jobs of several tables; the message names each.
    """
    if kind == "job":
        if keys := await job_keys(connection, [beginning]):
            return list((await job_names(connection, keys.values())).values())
        return await jobs_beginning(connection, beginning, most)
    if kind != "batch" and not has_pictures():
        return []
    if await connection.fetchval(_IS_ONE[kind], beginning):
        return [beginning]
    beginnings = _BEGINNING.format(relation=_RELATIONS[kind])
    return [row["id"] for row in await connection.fetch(beginnings, beginning, most)]
