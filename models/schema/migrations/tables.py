"""Our tables, columns and indexes as the revisions' SQL defines them, and the repair of missing or retyped ones.

Revisions create and change them. The repair is for parts that somebody dropped afterwards, and for columns whose type
somebody changed.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

from asyncpg import PostgresError
from sqlalchemy import Connection, text

from models.schema.migrations.errors import ColumnTypeError
from models.schema.migrations.session import OUR_COST_COLUMN, execute_script, sql_of

FILES: Final = (
    "schema/tables.sql",
    "schema/mend_tables.sql",
    "schema/structure_tables.sql",
    "schema/suspect_tables.sql",
    "schema/queue_indexes.sql",
    "schema/fair_tables.sql",
    "schema/run_times.sql",
    "schema/batch_tables.sql",
    "schema/rollup_tables.sql",
    "schema/stage_queue_tables.sql",
    "schema/progress_tables.sql",
    "schema/passed_times.sql",
    "schema/token_entry_tables.sql",
    "schema/earlier_money_tables.sql",
    "schema/operator_tables.sql",
    "schema/dashboard_indexes.sql",
)
"""Files in the order of the revisions that execute them."""

_STATEMENT: Final = re.compile(r"^(?:CREATE|ALTER) .*?;[^\n]*$", re.MULTILINE | re.DOTALL)
_MADE: Final = re.compile(r"CREATE (TABLE|SEQUENCE|TYPE|INDEX|UNIQUE INDEX) (?:darkroom\.)?(\w+)")
_OF_TABLE: Final = re.compile(
    r"(?:(?:CREATE|ALTER) TABLE|CREATE (?:UNIQUE )?INDEX \w+ ON|ALTER SEQUENCE \S+ OWNED BY) darkroom\.(\w+)"
)
_PARTITION: Final = re.compile(r"PARTITION OF darkroom\.(\w+)")
_COLUMN: Final = re.compile(r"^ {4}([a-z_0-9]+) (.*?),?(?: *--[^\n]*)?(?=\n {4}\S|\n\)|\Z)", re.MULTILINE | re.DOTALL)
_ADDED: Final = re.compile(r"ADD COLUMN (\w+) (.*?)(?=,\s*ADD |;|\Z)", re.DOTALL)

_TYPE: Final = re.compile(r"(.+?)(?= (?:NOT NULL|DEFAULT|PRIMARY KEY|GENERATED|CHECK)\b|$)")
_DEFAULT: Final = re.compile(r" DEFAULT (.+?)(?= CHECK\b|$)")
_IN_FULL: Final = (("timestamptz", "timestamp with time zone"), ("timestamp(3)", "timestamp(3) without time zone"))
"""For some types, the name in our files and the name in PostgreSQL's catalog."""

_TYPES: Final = text("""
    SELECT 'column darkroom.' || c.relname || '.' || a.attname, format_type(a.atttypid, a.atttypmod)
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    WHERE c.relnamespace = to_regnamespace('darkroom') AND c.relkind IN ('r', 'p') AND a.attnum > 0
      AND NOT a.attisdropped
""")

_THERE: Final = text("""
    SELECT CASE c.relkind WHEN 'S' THEN 'sequence' WHEN 'c' THEN 'type' WHEN 'i' THEN 'index' WHEN 'I' THEN 'index'
                          ELSE 'table' END || ' darkroom.' || c.relname
    FROM pg_class c WHERE c.relnamespace = to_regnamespace('darkroom') AND c.relkind IN ('r', 'p', 'S', 'c', 'i', 'I')
""")


@dataclass(frozen=True, slots=True)
class Part:
    """A table, column, index, sequence or type of ours: its label, and the statements that make it, in order."""

    label: str
    sql: tuple[str, ...]


@cache
def parts() -> tuple[Part, ...]:
    """Return everything that the revisions make, in an order in which it can be made."""
    statements = [
        re.sub(r" *--[^\n]*", "", found[0])
        for name in FILES
        for found in _STATEMENT.finditer(_without_comment_lines(sql_of(name, cost_column=OUR_COST_COLUMN)))
    ]
    # A later revision may make an index anew, with the same name: only the last statement counts
    last = {found[2]: statement for statement in statements if (found := _MADE.match(statement))}
    statements = [one for one in statements if not (found := _MADE.match(one)) or last[found[2]] == one]
    made = [(found, statement) for statement in statements if (found := _MADE.match(statement))]
    return (
        *(
            Part(f"{kind.lower()} darkroom.{found[2]}", tuple(_statements_of(kind, found[2], statement, statements)))
            for kind in ("SEQUENCE", "TYPE", "TABLE")
            for found, statement in made
            if found[1] == kind
        ),
        *(Part(f"column darkroom.{table}.{name}", (sql,)) for table, name, sql in _columns(statements)),
        *(
            Part(f"index darkroom.{found[2]}", tuple(_statements_of("INDEX", found[2], statement, statements)))
            for found, statement in made
            if "INDEX" in found[1]
        ),
    )


def missing(connection: Connection) -> list[Part]:
    """Return the parts that don't exist. Columns and indexes of a missing table aren't listed beside it."""
    there = {*connection.scalars(_THERE), *_types(connection)}
    gone = [part for part in parts() if part.label not in there]
    tables = {part.label.removeprefix("table ") for part in gone if part.label.startswith("table ")}
    return [part for part in gone if not any(_is_of(part, table) for table in tables)]


@dataclass(frozen=True, slots=True)
class Retyped:
    """A column of ours whose type somebody changed: its label, the type it should have, and the type it has."""

    label: str
    type: str
    found: str
    default: str | None


def retyped(connection: Connection) -> list[Retyped]:
    """Return the columns that exist with another type than ours."""
    there = _types(connection)
    columns = [part for part in parts() if part.label.startswith("column ") and part.label in there]
    return [
        Retyped(part.label, wanted, there[part.label], default[1] if (default := _DEFAULT.search(definition)) else None)
        for part in columns
        for definition in [part.sql[0].partition(" ADD COLUMN ")[2].partition(" ")[2]]
        if (wanted := _type_of(definition)) != there[part.label]
    ]


def _types(connection: Connection) -> dict[str, str]:
    return {str(label): str(found) for label, found in connection.execute(_TYPES)}


def _type_of(definition: str) -> str:
    found = _TYPE.match(definition)
    if found is None:
        raise AssertionError(f"{definition[:80]!r} begins with no type")
    name = found[1].replace(", ", ",")
    return next((in_full for ours, in_full in _IN_FULL if name == ours), name)


def mend(connection: Connection) -> list[str]:
    """Create missing parts, without rows, and give columns their types back, in the caller's transaction.

    Returns:
        The labels of what was repaired.

    Raises:
        ColumnTypeError: a column can't be given its type back.
    """
    return [*_made(connection), *_given_types(connection)]


def _given_types(connection: Connection) -> list[str]:
    changed = retyped(connection)
    for one in changed:
        table, _, name = one.label.removeprefix("column ").rpartition(".")
        column = f"ALTER COLUMN {name}"
        changes = [f"{column} TYPE {one.type} USING {name}::text::{one.type}"]
        if one.default is not None:  # the default has the other type, and can't be cast to ours
            changes = [f"{column} DROP DEFAULT", *changes, f"{column} SET DEFAULT {one.default}"]
        try:
            with connection.begin_nested():
                execute_script(connection, f"ALTER TABLE {table} {', '.join(changes)}")
        except PostgresError as error:
            raise ColumnTypeError(one.label, one.type, one.found, str(error)) from error
    return [one.label for one in changed]


def _made(connection: Connection) -> list[str]:
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
    """Yield the statement that makes a part, and those that change it or, of a table, its indexes afterwards.

    The name of an index begins with its table's.
    """
    yield own
    for statement in statements:
        on, partition = _OF_TABLE.match(statement), _PARTITION.search(statement)
        is_of_table = (on and on[1] == name) or (partition and partition[1] == name)
        if statement.startswith(f"ALTER INDEX IF EXISTS darkroom.{name}") or (
            kind == "TABLE" and statement != own and is_of_table
        ):
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
