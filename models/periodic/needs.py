"""Lookup of columns that a periodic task needs and that don't exist: tables that another tool made may lack some."""

from collections.abc import Iterable, Mapping

from models.connections import Connection

_MISSING = """
SELECT n.name, CASE WHEN t.relation IS NULL THEN n.parts[1] || '.' || n.parts[2] ELSE n.name END AS lacking
FROM (SELECT name, string_to_array(name, '.') AS parts FROM unnest($1::text[]) name) n
CROSS JOIN LATERAL to_regclass(format('%I.%I', n.parts[1], n.parts[2])) t (relation)
WHERE NOT EXISTS (SELECT FROM pg_attribute a
                  WHERE a.attrelid = t.relation AND a.attname = n.parts[3] AND NOT a.attisdropped)
"""


async def missing_columns(connection: Connection, names: Iterable[str]) -> Mapping[str, str]:
    """Return the `schema.table.column` names that don't exist, each with the name of the missing table or column."""
    rows = await connection.fetch(_MISSING, sorted(set(names)))
    return {row["name"]: row["lacking"] for row in rows}


def passed_over(needs: Iterable[str], missing: Mapping[str, str]) -> str | None:
    """Return the reason why a task is skipped; None if every column that it needs exists."""
    lacking = sorted({missing[name] for name in needs if name in missing})
    return f"passed over: {', '.join(lacking)} not there" if lacking else None
