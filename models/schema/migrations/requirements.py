"""Requirements on a database before it is migrated."""

from typing import Final

from sqlalchemy import Connection, text

from models.applications.pictures.tables import TABLES
from models.schema.migrations.errors import (
    HiddenRowsError,
    RoleNotFoundError,
    UnrelatedRelationsError,
    UnsupportedServerError,
    UnusableSchemaError,
)
from models.schema.migrations.visibility import hidden_tables

OLDEST_SERVER: Final = 140_000
"""The oldest server_version_num that our SQL can run on: PostgreSQL 14."""


def require_server(connection: Connection) -> None:
    """Refuse a server that is too old for our SQL.

    Raises:
        UnsupportedServerError: the server is older than OLDEST_SERVER.
    """
    number = int(connection.scalar(text("SHOW server_version_num")) or 0)
    if number < OLDEST_SERVER:
        raise UnsupportedServerError(f"PostgreSQL {number // 10_000} is too old: Darkroom needs 14 or newer")


def require_rows_shown(connection: Connection) -> None:
    """Refuse a database whose row-level security hides rows from Darkroom's role.

    Raises:
        HiddenRowsError: names the tables.
    """
    if hidden := [one.message for one in hidden_tables(connection)]:
        raise HiddenRowsError(hidden)


def require_role(connection: Connection, role: str | None) -> None:
    """Refuse to grant to a role that doesn't exist; None asks for no grant.

    Raises:
        RoleNotFoundError: the role doesn't exist.
    """
    if role is not None and not connection.scalar(
        text("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = :role)"), {"role": role}
    ):
        raise RoleNotFoundError(role)


def has_relation(connection: Connection, name: str) -> bool:
    """Return whether schema public holds a relation of that name."""
    return connection.scalar(text("SELECT to_regclass(:name)"), {"name": f"public.{name}"}) is not None


def require_nothing_in_the_way(connection: Connection) -> None:
    """Refuse to make the application's tables where some of them exist already.

    Raises:
        UnusableSchemaError: names them.
    """
    there = [
        f"table {name} is there already, though table users isn't" for name in TABLES if has_relation(connection, name)
    ]
    if there:
        raise UnusableSchemaError(there)


# Objects of an extension were made by CREATE EXTENSION, and say nothing about which program the database belongs to.
_OTHERS: Final = text("""
    SELECT relname FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND NOT relispartition
      AND NOT EXISTS (SELECT FROM pg_depend
                      WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype = 'e')
    ORDER BY relkind = 'S', relname
""")


def require_nothing_of_others(connection: Connection) -> None:
    """Refuse to make the application's tables beside another program's relations, unless the caller asked for that.

    Raises:
        UnrelatedRelationsError: names some of the relations, and the option that asks for it.
    """
    found = list(connection.scalars(_OTHERS))
    if found:
        raise UnrelatedRelationsError(found, sorted(TABLES))
