"""Lookup of ids by their first characters, as people type them."""

from typing import Final, Literal

from models.connections import Connection

Kind = Literal["job", "user", "pipeline", "album", "batch"]

_RELATIONS: Final[dict[Kind, str]] = {
    "job": "darkroom.jobs",
    "user": "public.users",
    "pipeline": "public.enhancement_pipelines",
    "album": "public.albums",
    "batch": "darkroom.batches",
}
_IS_ONE: Final[dict[Kind, str]] = {
    "job": "SELECT EXISTS (SELECT FROM darkroom.jobs_of(ARRAY[$1::text]))",
    "user": "SELECT EXISTS (SELECT FROM public.users r WHERE r.id = $1)",
    "pipeline": "SELECT EXISTS (SELECT FROM public.enhancement_pipelines r WHERE r.id = $1)",
    "album": "SELECT EXISTS (SELECT FROM public.albums r WHERE r.id = $1)",
    "batch": "SELECT EXISTS (SELECT FROM darkroom.batches r WHERE r.id::text = $1)",
}
# An index on a text column is sorted by its collation and can't find prefixes, so all rows are read.
_BEGINNING: Final = "SELECT r.id::text FROM {relation} r WHERE starts_with(r.id::text, $1) ORDER BY r.id LIMIT $2"


async def ids_beginning(connection: Connection, kind: Kind, beginning: str, most: int) -> list[str]:
    """Return up to `most` ids of a kind that begin with a text, in order.

    If the text is an id, return only this one.
    """
    if await connection.fetchval(_IS_ONE[kind], beginning):
        return [beginning]
    beginnings = _BEGINNING.format(relation=_RELATIONS[kind])
    return [row["id"] for row in await connection.fetch(beginnings, beginning, most)]
