"""Which tables, columns and indexes of ours should be there, by the text of the revisions, and how one is made again.

Revisions version them; this is for what somebody has dropped since.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

from sqlalchemy import Connection, text

from models.schema.migrations.session import OUR_COST_COLUMN, execute_script, sql_of

FILES: Final = ("schema/tables.sql", "schema/mend_tables.sql", "schema/structure_tables.sql")
"""In the order of the revisions that execute them."""

_STATEMENT: Final = re.compile(r"^(?:CREATE|ALTER) .*?;[^\n]*$", re.MULTILINE | re.DOTALL)
_MADE: Final = re.compile(r"CREATE (TABLE|SEQUENCE|TYPE|INDEX|UNIQUE INDEX) (?:darkroom\.)?(\w+)")
_OF_TABLE: Final = re.compile(
    r"(?:(?:CREATE|ALTER) TABLE|CREATE (?:UNIQUE )?INDEX \w+ ON|ALTER SEQUENCE \S+ OWNED BY) darkroom\.(\w+)"
)
_PARTITION: Final = re.compile(r"PARTITION OF darkroom\.(\w+)")
_COLUMN: Final = re.compile(r"^ {4}([a-z_0-9]+) (.*?),?(?: *--[^\n]*)?(?=\n {4}\S|\n\)|\Z)", re.MULTILINE | re.DOTALL)
_ADDED: Final = re.compile(r"ADD COLUMN (\w+) (.*?)(?=,\s*ADD |;|\Z)", re.DOTALL)

_THERE: Final = text("""
    SELECT CASE c.relkind WHEN 'S' THEN 'sequence' WHEN 'c' THEN 'type' WHEN 'i' THEN 'index' WHEN 'I' THEN 'index'
                          ELSE 'table' END || ' darkroom.' || c.relname
    FROM pg_class c WHERE c.relnamespace = to_regnamespace('darkroom') AND c.relkind IN ('r', 'p', 'S', 'c', 'i', 'I')
    UNION ALL
    SELECT 'column darkroom.' || c.relname || '.' || a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    WHERE c.relnamespace = to_regnamespace('darkroom') AND c.relkind IN ('r', 'p') AND a.attnum > 0
      AND NOT a.attisdropped
""")


@dataclass(frozen=True, slots=True)
class Part:
    """A table, column, index, sequence or type of ours: its label, and the statements that make it, in their order."""

    label: str
    sql: tuple[str, ...]


@cache
def parts() -> tuple[Part, ...]:
    """Return everything that the revisions make, in the order in which it can be made."""
    statements = [
        re.sub(r" *--[^\n]*", "", found[0])
        for name in FILES
        for found in _STATEMENT.finditer(_without_comment_lines(sql_of(name, cost_column=OUR_COST_COLUMN)))
    ]
    made = [(found, statement) for statement in statements if (found := _MADE.match(statement))]
    return tuple(
        Part(f"{kind.lower()} darkroom.{found[2]}", tuple(_statements_of(kind, found[2], statement, statements)))
        for kind in ("SEQUENCE", "TYPE", "TABLE")
        for found, statement in made
        if found[1] == kind
    ) + tuple(
        [Part(f"column darkroom.{table}.{name}", (sql,)) for table, name, sql in _columns(statements)]
        + [Part(f"index darkroom.{found[2]}", (statement,)) for found, statement in made if "INDEX" in found[1]]
    )


def missing(connection: Connection) -> list[Part]:
    """Return what isn't there. A table's own columns and indexes aren't named beside it."""
    there = set(connection.scalars(_THERE))
    gone = [part for part in parts() if part.label not in there]
    tables = {part.label.removeprefix("table ") for part in gone if part.label.startswith("table ")}
    return [part for part in gone if not any(_is_of(part, table) for table in tables)]


def mend(connection: Connection) -> list[str]:
    """Make again what is missing, empty as it begins, in the caller's transaction; return the labels."""
    mended = []
    while gone := missing(connection):
        if gone[0].label in mended:
            raise AssertionError(f"{gone[0].label} can't be made")
        for statement in gone[0].sql:
            execute_script(connection, statement)
        mended.append(gone[0].label)
    return mended


def _is_of(part: Part, table: str) -> bool:
    on = _OF_TABLE.match(part.sql[0])
    return part.label.startswith((f"column {table}.", "index ")) and on is not None and f"darkroom.{on[1]}" == table


def _statements_of(kind: str, name: str, own: str, statements: list[str]) -> Iterator[str]:
    """Yield the statement that makes a thing, and for a table all that change it afterwards."""
    yield own
    for statement in statements if kind == "TABLE" else ():
        on, partition = _OF_TABLE.match(statement), _PARTITION.search(statement)
        if statement != own and ((on and on[1] == name) or (partition and partition[1] == name)):
            yield statement


def _columns(statements: list[str]) -> Iterator[tuple[str, str, str]]:
    """Yield table, column and the statement that adds it."""
    for statement in statements:
        on = _OF_TABLE.match(statement)
        if on is None or "PARTITION OF" in statement:
            continue
        found = _COLUMN if statement.startswith("CREATE TABLE") else _ADDED if statement.startswith("ALTER") else None
        for name, definition in found.findall(statement) if found else ():
            whole = " ".join(definition.split())
            yield on[1], name, f"ALTER TABLE darkroom.{on[1]} ADD COLUMN {name} {whole}"


def _without_comment_lines(sql: str) -> str:
    return re.sub(r"^ *--[^\n]*\n", "", sql, flags=re.MULTILINE)
