"""Whether a column can hold a label."""

from typing import Final

from asyncpg import PostgresError, ReadOnlySQLTransactionError

from models.applications.files.sql_names import relation
from models.applications.files.trial import NOT_ABOUT_SQL, rolled_back
from models.connections import Connection
from models.job_tables.quoting import quoted_name
from models.job_tables.rendering import quoted

_COLUMN: Final = """
SELECT format_type(a.atttypid, a.atttypmod) AS type,
       ARRAY(SELECT pg_get_expr(c.conbin, c.conrelid) FROM pg_constraint c
             WHERE c.conrelid = a.attrelid AND c.contype = 'c' AND c.conkey = ARRAY[a.attnum]
             ORDER BY c.conname) AS checks
FROM pg_attribute a WHERE a.attrelid = $1::text::regclass AND a.attname = $2
"""


async def can_hold(connection: Connection, schema: str, table: str, column: str, label: str) -> bool:
    """Return whether a column that exists can hold a label: by its type, and by the CHECKs over it alone.

    The constraints' conditions are evaluated over the label, and no row is written. A CHECK over several columns may
    hold or not, as the others are, so it says nothing here. A value that reads otherwise once it is stored, because it
    is too long or has leading zeros, isn't held.
    The caller is within `nothing_stays`.
    """
    of = await connection.fetchrow(_COLUMN, relation(schema, table), column)
    if of is None:
        return False
    value = f"CAST({quoted(label)} AS {of['type']})"
    row = f"(SELECT {value} AS {quoted_name(column)}) {quoted_name(table)}"
    conditions = [f"{value}::text = {quoted(label)}", *(f"({check}) IS NOT FALSE" for check in of["checks"])]
    try:
        async with rolled_back(connection):
            return bool(await connection.fetchval(f"SELECT {' AND '.join(conditions)} FROM {row}"))
    except ReadOnlySQLTransactionError:
        return True  # a CHECK that writes can't be tried
    except NOT_ABOUT_SQL:
        raise
    except PostgresError:
        return False
