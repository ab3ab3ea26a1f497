"""The application's tables as another tool makes them: built from the recorded schema, by none of Darkroom's code."""

import json
from collections.abc import Iterator
from pathlib import Path

SCHEMA = json.loads((Path(__file__).parent / "application_schema.json").read_text())


def foreign_ddl(
    *,
    renamed: dict[str, str] | None = None,
    retyped: dict[str, str] | None = None,
    without_tables: frozenset[str] = frozenset(),
    without_labels: frozenset[str] = frozenset(),
    with_indexes: bool = True,
) -> str:
    """Write the DDL of a database that Darkroom has never seen.

    Args:
        renamed: column names, in every table that has them; an empty name leaves the column out.
        retyped: types by `table.column`.
        without_tables: tables left out, with all that points to them.
        without_labels: enum labels left out.
        with_indexes: without, not even the unique ones are there.
    """
    return ";\n".join(_statements(renamed or {}, retyped or {}, without_tables, without_labels, with_indexes))


def _statements(
    renamed: dict[str, str],
    retyped: dict[str, str],
    without_tables: frozenset[str],
    without_labels: frozenset[str],
    with_indexes: bool,  # noqa: FBT001 - passed on from a keyword
) -> Iterator[str]:
    for name, labels in SCHEMA["enums"].items():
        given = ", ".join(f"'{label}'" for label in labels if label not in without_labels)
        yield f'CREATE TYPE "{name}" AS ENUM ({given})'
    tables = {name: table for name, table in SCHEMA["tables"].items() if name not in without_tables}
    for name, table in tables.items():
        columns = []
        for column, type_name, nullable, default in table["columns"]:
            new_type = retyped.get(f"{name}.{column}")
            null = "" if nullable else " NOT NULL"
            # hand-made tables have the session's local time as their default
            usual = "CURRENT_TIMESTAMP" if default and "now()" in default else default
            given = f" DEFAULT {usual}" if usual and not new_type else ""
            if renamed.get(column, column):
                columns.append(f'"{renamed.get(column, column)}" {new_type or type_name}{null}{given}')
        key = [f"PRIMARY KEY ({', '.join(table['primary_key'][1])})"] if table["primary_key"] else []
        yield f"CREATE TABLE {name} (\n" + "\n, ".join(columns + key) + "\n)"
        for number, index in enumerate(table["indexes"].values()):
            if with_indexes and number != 1 and all(column not in renamed for column in index["columns"]):
                unique = "UNIQUE " if index["unique"] else ""
                on = ", ".join(f'"{column}"' for column in index["columns"])
                yield f"CREATE {unique}INDEX by_hand_{name}_{number} ON {name} ({on})"
    for name, table in tables.items():
        for key in table["foreign_keys"].values():
            target, column = key["references"].split(".")
            if target in tables and key["column"] not in renamed:
                yield (
                    f'ALTER TABLE {name} ADD FOREIGN KEY ("{key["column"]}") REFERENCES {target} ({column}) '
                    f"ON DELETE {key['on_delete']} ON UPDATE CASCADE"
                )
