"""A quick look at whether a database is migrated, by one statement, for commands that only read and change rows.

`models.schema.migrate.check` compares everything that should be there, and takes a second of CPU for it and for
importing alembic. Where this look isn't content, that one says why.
"""

from dataclasses import dataclass
from typing import Any, Final

from models.connections import Connection

HEADS: Final = frozenset({"application_0002", "darkroom_0004"})
"""The newest revision of each branch; a database whose tables another tool made has only our own."""

OWN_HEAD: Final = "darkroom_0004"

_LOOK: Final = """
SELECT ARRAY(SELECT v.version_num FROM darkroom.alembic_version v) AS revisions,
       jsonb_object_agg(s.key, s.value) AS recorded
FROM darkroom.settings s WHERE s.key IN ('mode', 'prices', 'cost_column', 'installation')
"""


@dataclass(frozen=True, slots=True)
class Installed:
    """What `db upgrade` recorded, as far as commands need it.

    Attributes:
        mode: who charges.
        installation: what tells this database's wake-ups from those of others on the same broker.
    """

    mode: str
    installation: str


async def quick_look(connection: Connection) -> Installed | None:
    """Return what is recorded in a database of this release; None where a full check must say what is wrong with it.

    Raises:
        asyncpg.PostgresError: there is no such schema, or the role may not look at it.
    """
    row = await connection.fetchrow(_LOOK)
    if row is None or row["recorded"] is None:  # there is no setting yet
        return None
    revisions, recorded = set(row["revisions"]), row["recorded"]
    if OWN_HEAD not in revisions or revisions - HEADS or not {"mode", "prices", "cost_column"} <= recorded.keys():
        return None
    return _installed(recorded)


async def read_recorded(connection: Connection) -> Installed:
    """Return what is recorded, whatever release migrated the database; it must be migrated."""
    row = await connection.fetchrow(_LOOK)
    assert row is not None  # noqa: S101 - an aggregate without groups has one row
    return _installed(row["recorded"])


def _installed(recorded: dict[str, Any]) -> Installed:
    return Installed(mode=recorded["mode"], installation=recorded.get("installation", ""))
