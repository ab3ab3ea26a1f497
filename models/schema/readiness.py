"""A quick check, by one statement, whether a database is migrated, for commands that only read and change rows.

`models.schema.migrate.check` compares everything; with importing SQLAlchemy it takes half a second of CPU. Where this
quick check fails, commands run the full one to learn why.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from models.connections import Connection

REVISIONS: Final[dict[str, tuple[str, ...]]] = {
    "application": ("application_0001", "application_0002"),
    "darkroom": tuple(f"darkroom_{number:04}" for number in range(1, 18)),
}
"""The revisions of each branch, oldest first; the branches in the order of application, because our triggers need the
application's tables. Alembic would read and execute the files of all revisions to say the same; a test compares."""

HEADS: Final = frozenset(revisions[-1] for revisions in REVISIONS.values())
"""The newest revision of each branch. A database whose tables another tool made has only our own branch."""

OWN_HEAD: Final = REVISIONS["darkroom"][-1]

_LOOK: Final = """
SELECT ARRAY(SELECT v.version_num FROM darkroom.alembic_version v) AS revisions,
       jsonb_object_agg(s.key, s.value) AS recorded
FROM darkroom.settings s WHERE s.key IN ('mode', 'prices', 'cost_column', 'installation', 'applications')
"""


@dataclass(frozen=True, slots=True)
class Installed:
    """The settings recorded by `db upgrade` that commands need.

    Attributes:
        mode: the mode of money.
        installation: id that distinguishes this database's wake-ups from those of others on the same broker.
        applications: what is recorded of the applications (`models.applications.recorded`); None if nothing is.
    """

    mode: str
    installation: str
    applications: Sequence[Mapping[str, Any]] | None = None


async def quick_look(connection: Connection) -> Installed | None:
    """Return what `db upgrade` recorded, if the database has this release's schema.

    The result is None if a full check must find out why not.

    Raises:
        asyncpg.PostgresError: the schema doesn't exist, or the role may not use it.
    """
    row = await connection.fetchrow(_LOOK)
    if row is None or row["recorded"] is None:  # nothing is recorded yet
        return None
    revisions, recorded = set(row["revisions"]), row["recorded"]
    if OWN_HEAD not in revisions or revisions - HEADS or not {"mode", "prices", "cost_column"} <= recorded.keys():
        return None
    return _installed(recorded)


async def read_recorded(connection: Connection) -> Installed:
    """Return what `db upgrade` recorded in a migrated database, whichever release migrated it."""
    row = await connection.fetchrow(_LOOK)
    assert row is not None  # noqa: S101 - an aggregate without groups has one row
    return _installed(row["recorded"])


def _installed(recorded: dict[str, Any]) -> Installed:
    return Installed(recorded["mode"], recorded.get("installation", ""), recorded.get("applications"))
