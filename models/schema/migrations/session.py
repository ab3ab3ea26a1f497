"""The database session in which migrations run, and its use by alembic."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import cast

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from asyncpg import PostgresError
from sqlalchemy import Connection, text
from sqlalchemy.engine.interfaces import AdaptedConnection

from models.job_tables.registry import JOB_TABLES
from models.job_tables.template import render
from models.schema.terms import TERMS

SCHEMA = "darkroom"
BRANCHES = ("application", "darkroom")
"""The branches in the order of application, because our triggers need the application's tables."""

OUR_COST_COLUMN = "tokensCost"
"""The cost's column in the tables that we make, and in our SQL files; a setting renames it for other tables."""

LOCK_TIMEOUT_MS = 5_000
"""How long a migration may wait for a table's lock, because everyone who comes later waits behind it."""

HERE = Path(__file__).resolve().parent
MODELS = HERE.parents[1]
"""The folder of this package, in which SQL files stand beside the modules that use them."""


def alembic_config(connection: Connection | None = None) -> Config:
    """Return alembic's settings, without a file; `connection` is the one that env.py will run on."""
    config = Config()
    # Alembic splits the setting at this separator; its default would be a comma or a space, which a path may contain
    config.set_main_option("path_separator", "newline")
    config.set_main_option("script_location", _escaped(HERE))
    config.set_main_option("version_locations", "\n".join(_escaped(HERE / "versions" / name) for name in BRANCHES))
    if connection is not None:
        config.attributes["connection"] = connection
    return config


def _escaped(path: Path) -> str:
    return str(path).replace("%", "%%")


@cache
def _revisions() -> ScriptDirectory:
    """Return alembic's view of the revision files; alembic executes them to read them."""
    return ScriptDirectory.from_config(alembic_config())


@cache
def branch_revisions(branch: str) -> tuple[str, ...]:
    """Return a branch's revisions, oldest first."""
    revisions = _revisions().iterate_revisions(f"{branch}@head", f"{branch}@base")
    return tuple(reversed([revision.revision for revision in revisions]))


def stamped_revisions(connection: Connection) -> frozenset[str]:
    """Return the heads in the version table, one per branch; empty where the table doesn't exist."""
    if connection.scalar(text("SELECT to_regclass('darkroom.alembic_version')")) is None:
        return frozenset()
    return frozenset(connection.scalars(text("SELECT version_num FROM darkroom.alembic_version")))


def upgrade_branch(connection: Connection, branch: str) -> None:
    """Apply a branch's revisions up to the newest, in the caller's transaction."""
    if branch_revisions(branch)[-1] in stamped_revisions(connection):
        return  # without this, alembic would read every revision only to find that nothing is to be applied
    command.upgrade(alembic_config(connection), f"{branch}@head")


def downgrade_branch(connection: Connection, branch: str) -> None:
    """Remove one branch, in the caller's transaction."""
    command.downgrade(alembic_config(connection), f"{branch}@base")


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


@cache
def sql_of(name: str, *, cost_column: str) -> str:
    """Return one of our SQL files, rendered for every job table and with this installation's cost column."""
    sql = render((MODELS / name).read_text(encoding="utf-8"), JOB_TABLES, TERMS)
    return sql.replace(_quoted(OUR_COST_COLUMN), _quoted(cost_column))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
