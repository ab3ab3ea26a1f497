"""The database session in which migrations run. Alembic is imported by `revisions`, once a revision is applied."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from pkgutil import resolve_name
from typing import cast

from asyncpg import PostgresError
from sqlalchemy import Connection, text
from sqlalchemy.engine.interfaces import AdaptedConnection

from models.applications.registry import job_tables
from models.job_tables.table import JobTable
from models.job_tables.template import render
from models.schema.readiness import REVISIONS
from models.schema.terms import TERMS

SCHEMA = "darkroom"
OUR_COST_COLUMN = "tokensCost"
"""The cost's column in the tables that we make, and in our SQL files; a setting renames it for other tables."""

LOCK_TIMEOUT_MS = 5_000
"""How long a migration may wait for a table's lock, because everyone who comes later waits behind it."""

MODELS = Path(__file__).resolve().parents[2]
"""The folder of this package, in which SQL files stand beside the modules that use them."""


def stamped_revisions(connection: Connection) -> frozenset[str]:
    """Return the heads in the version table, one per branch; empty where the table doesn't exist."""
    if connection.scalar(text("SELECT to_regclass('darkroom.alembic_version')")) is None:
        return frozenset()
    return frozenset(connection.scalars(text("SELECT version_num FROM darkroom.alembic_version")))


def upgrade_branch(connection: Connection, branch: str) -> None:
    """Apply a branch's revisions up to the newest, in the caller's transaction; alembic is imported only for that."""
    if REVISIONS[branch][-1] not in stamped_revisions(connection):
        resolve_name("models.schema.migrations.revisions:upgrade")(connection, branch)


def downgrade_branch(connection: Connection, branch: str) -> None:
    """Remove one branch, in the caller's transaction."""
    resolve_name("models.schema.migrations.revisions:downgrade")(connection, branch)


def prepare(connection: Connection) -> None:
    """Set what revisions rely on until the end of the transaction, and create the version table's schema."""
    connection.execute(text("SET LOCAL search_path TO public"))  # unqualified names are the application's
    set_timeouts(connection)
    # IF NOT EXISTS needs the right to create a schema even where it exists already
    if connection.scalar(text("SELECT to_regnamespace('darkroom')")) is None:
        connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))


@contextmanager
def names_in_full(connection: Connection) -> Iterator[None]:
    """Make the catalog name the schema of every object in definitions, whatever the session's search_path.

    This holds inside the context, which must be in a transaction.
    """
    path = connection.scalar(text("SELECT current_setting('search_path')"))
    setting = text("SELECT set_config('search_path', :path, true)")
    connection.execute(setting, {"path": "pg_catalog"})
    yield
    connection.execute(setting, {"path": path})


def set_timeouts(connection: Connection) -> None:
    """Limit waits for locks, and remove the limit of a statement's duration, until the end of the transaction."""
    connection.execute(text(f"SET LOCAL lock_timeout TO {LOCK_TIMEOUT_MS}"))
    connection.execute(text("SET LOCAL statement_timeout TO 0"))  # a role's own timeout may be meant for short requests


def execute_script(bind: Connection, sql: str) -> None:
    """Execute several statements at once, in the migration's transaction.

    Uses the driver's own execute, because prepared statements, which SQLAlchemy uses, take only one statement each.
    """
    bind.execute(text("SELECT 1"))  # SQLAlchemy's adapter begins its transaction only with its first statement
    connection = cast("AdaptedConnection", bind.connection.dbapi_connection)
    connection.run_async(lambda driver: driver.execute(sql))


def execute_file(bind: Connection, name: str, *, cost_column: str = OUR_COST_COLUMN) -> None:
    """Execute one of our SQL files. An error gets the name of the file as a note.

    Args:
        bind: the migration's connection.
        name: the file's path in the package, such as `schema/tables.sql`.
        cost_column: the name that the application's job tables have for OUR_COST_COLUMN.
    """
    try:
        execute_script(bind, sql_of(name, cost_column=cost_column))
    except PostgresError as error:
        error.add_note(f"in models/{name}")
        raise


def sql_of(name: str, *, cost_column: str) -> str:
    """Return one of our SQL files, rendered for every job table and with this installation's cost column."""
    return _rendered(name, cost_column, job_tables())


@lru_cache(maxsize=256)
def _rendered(name: str, cost_column: str, tables: tuple[JobTable, ...]) -> str:
    sql = render((MODELS / name).read_text(encoding="utf-8"), tables, TERMS)
    return sql.replace(_quoted(OUR_COST_COLUMN), _quoted(cost_column))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
