"""The SQL from which `db upgrade` makes functions, views and triggers, for people who want to read it."""

import re
from collections.abc import Iterator

from models.applications import registry
from models.job_tables.table import JobTable
from models.schema.migrations.repeatable import files, own_sql
from models.schema.migrations.session import sql_of
from models.schema.migrations.triggers import TRIGGERS_FILE


def rendered_files(cost_column: str) -> dict[str, str]:
    """Return the text of each of our repeatable SQL files, rendered for every job table, by its path in the package.

    Before these come the functions of each application's own.
    """
    own = {f"applications/{one.name}": own_sql(one) for one in registry.applications() if one.sql}
    return own | {name: sql_of(name, cost_column=cost_column) for name in (*files(), TRIGGERS_FILE)}


def statements_about(sql: str, table: JobTable) -> list[str]:
    """Return those of a script's statements that name a job table, or are made only for it."""
    own = re.compile(rf"{re.escape(table.name)}\b|\bdarkroom\.\w+_({table.rows}|{table.row})(\(|_)")
    return [statement for statement in _statements(sql) if own.search(statement)]


def _statements(sql: str) -> Iterator[str]:
    """Split a script at empty lines, except those in a function's body."""
    statement = ""
    for part in sql.strip().split("\n\n"):
        statement = f"{statement}\n\n{part}" if statement else part
        if statement.count("$$") % 2 == 0:
            yield statement
            statement = ""
