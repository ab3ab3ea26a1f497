"""The comments on all objects of our schema (COMMENT ON), which `db upgrade` writes where they differ."""

import re
from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection, text

from models.job_tables.rendering import quoted
from models.schema.migrations import repeatable
from models.schema.migrations.session import execute_script, sql_of

FILE: Final = "schema/comments.sql"
"""File of comments on tables, columns, sequences and types.

The comment of a function or view is above its definition.
"""

_COMMENT: Final = re.compile(
    r"^COMMENT ON (TABLE|COLUMN|SEQUENCE|TYPE) darkroom\.(\S+) IS\s+'((?:[^']|'')*)';", re.MULTILINE
)

# Partitions are left out, because they are created and dropped often. The columns of a sequence are PostgreSQL's own,
# and the columns of a type are described by the functions that use it.
_THERE: Final = text("""
    SELECT CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'S' THEN 'SEQUENCE' WHEN 'c' THEN 'TYPE' ELSE 'TABLE' END,
           c.relname::text,
           CASE c.relkind WHEN 'c' THEN obj_description(c.reltype, 'pg_type')
                          ELSE obj_description(c.oid, 'pg_class') END
    FROM pg_class c WHERE c.relnamespace = to_regnamespace('darkroom')
      AND c.relkind IN ('r', 'p', 'v', 'S', 'c') AND NOT c.relispartition
    UNION ALL
    SELECT 'COLUMN', c.relname || '.' || a.attname, col_description(c.oid, a.attnum)
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relnamespace = to_regnamespace('darkroom') AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
      AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT 'FUNCTION', p.proname::text, obj_description(p.oid, 'pg_proc')
    FROM pg_proc p WHERE p.pronamespace = to_regnamespace('darkroom')
""")

Named = tuple[str, str]
"""The kind of an object in SQL, and its name without the schema: `("COLUMN", "jobs.userId")`."""


def wanted(cost_column: str) -> Mapping[Named, str]:
    """Return the comment that each object should have in this release."""
    sql = sql_of(FILE, cost_column=cost_column)
    found = {(kind, name.replace('"', "")): words.replace("''", "'") for kind, name, words in _COMMENT.findall(sql)}
    return found | {(one.kind.upper(), one.name): one.comment for one in repeatable.wanted(cost_column)}


def there(connection: Connection) -> dict[Named, str | None]:
    """Return the comment of each object in our schema; None where it has none."""
    return {(kind, name): words for kind, name, words in connection.execute(_THERE)}


def apply(connection: Connection, cost_column: str) -> None:
    """Write comments that are missing or differ, in the caller's transaction.

    Objects that aren't ours aren't changed.
    """
    now = there(connection)
    due = {named: words for named, words in wanted(cost_column).items() if named in now and now[named] != words}
    if due:
        execute_script(connection, "\n".join(_statement(*named, words) for named, words in due.items()))


def _statement(kind: str, name: str, words: str) -> str:
    identifier = ".".join(f'"{part}"' for part in ("darkroom", *name.split(".")))
    return f"COMMENT ON {kind} {identifier} IS {quoted(words)};"
