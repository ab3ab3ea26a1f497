"""Which objects the application's rows name: by key, by URL, or anywhere in JSON."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import partial

from models.applications.pictures.application import PICTURES
from models.applications.pictures.object_columns import OBJECT_COLUMNS
from models.applications.pictures.tables import TABLES
from models.applications.registry import applications, has_pictures, job_tables
from models.connections import Connection
from models.job_tables.rendering import FINISHED, labels, last_write

SCAN_TIMEOUT_S = 600
"""Time limit, in seconds, for searching one table.

If it is exceeded, no object is removed: the tick fails, and its error names the table.
"""

# Columns whose type is text, JSON, an array of these, or composite. Views and partitions are left out, because their
# tables are searched.
_TEXT_COLUMNS = """
SELECT 'public.' || quote_ident(c.relname) AS table_name, c.relname::text AS relation, a.attname::text AS column_name
FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
CROSS JOIN LATERAL (SELECT coalesce(e.typcategory, t.typcategory) AS category,
                           coalesce(nullif(coalesce(e.typbasetype, t.typbasetype), 0), e.oid, t.oid) AS type) k
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'f') AND NOT c.relispartition
  AND (k.category IN ('S', 'C') OR (SELECT b.typcategory = 'A' OR b.typname IN ('json', 'jsonb', 'xml', 'hstore')
                                    FROM pg_type b WHERE b.oid = k.type))
ORDER BY c.relname, a.attnum
"""

# The last part of an object's key consists of letters, digits, _ . = and -, and is unique. It is searched as a whole
# word, so that it is found in a key, in a URL with any prefix and query, and in JSON. In a URL's query, the slash
# before it and an equals sign in it may be percent-encoded, even twice. A full stop after it may end a sentence.
_NAMES = """
SELECT DISTINCT w.word
FROM {table} r
CROSS JOIN LATERAL (VALUES {columns}) v (words)
CROSS JOIN LATERAL unnest(
    CASE WHEN v.words ~ '^[A-Za-z0-9_.=:/-]*$' THEN string_to_array(v.words, '/') -- faster, and nearly always
         ELSE regexp_split_to_array(
             CASE WHEN strpos(v.words, '%') > 0
                  THEN regexp_replace(regexp_replace(v.words, '%(25)*2f', '/', 'gi'), '%(25)*3d', '=', 'gi')
                  ELSE v.words END, '[^A-Za-z0-9_.=-]+') END) t (token)
CROSS JOIN LATERAL (SELECT rtrim(t.token, '.') AS word) w
WHERE {condition} AND w.word IN (SELECT unnest($1::text[]))
"""


class ScanTimeoutError(Exception):
    """Raised when the search of a table took too long, so that nobody knows which objects the table names."""


async def named(
    connection: Connection, keys: Collection[str], *, without: Mapping[str, Collection[str]] | None = None
) -> set[str]:
    """Return those of some keys that a row of the application names. The caller is in a transaction.

    A key counts as named when its last part stands anywhere in a column that can hold a key: it is better to keep one
    object too many than to remove one that an order shows.

    Args:
        connection: in a transaction; from this call on, its statements fail if row-level security would hide rows.
        keys: keys that Darkroom wrote.
        without: columns that aren't searched, by table.

    Raises:
        asyncpg.PostgresError: a table can't be read as a whole, so it is unknown which objects it names.
        ScanTimeoutError: a table is too large, or another program has locked it.
    """
    if not keys:
        return set()
    await _require_every_row(connection)
    tables: dict[str, list[str]] = {}
    for table, column in [*await _columns_of_pictures(connection), *_declared_columns()]:
        if column not in (without or {}).get(table, ()):
            tables.setdefault(table, []).append(column)
    wanted = {_name(key) for key in keys}
    found: set[str] = set()
    for table, columns in tables.items():
        if wanted > found:
            found |= await _names_in(connection, table, columns, wanted - found)
    return {key for key in keys if _name(key) in found}


async def finished_inputs(connection: Connection, keys: Collection[str], before: datetime) -> set[str]:
    """Return the keys of inputs whose jobs all ended before a time (UTC) and that no other row names.

    Raises:
        asyncpg.PostgresError, ScanTimeoutError: as `named` raises them.
    """
    if not keys:
        return set()
    await _require_every_row(connection)
    wanted = {_name(key) for key in keys}
    over: set[str] = set()
    needed: set[str] = set()
    tables = [table for table in job_tables() if table.input_columns]
    for table in tables:
        is_over = f"r.{table.status_column} IN ({labels(table, FINISHED)}) AND {last_write(table)} < $2"
        of_table = partial(_names_in, connection, table.name, table.input_columns)
        over |= await of_table(wanted, f"({is_over})", before)
        needed |= await of_table(wanted, f"NOT ({is_over})", before)
    candidates = [key for key in keys if _name(key) in over - needed]
    without = {table.name: table.input_columns for table in tables}
    return set(candidates) - await named(connection, candidates, without=without)


async def _require_every_row(connection: Connection) -> None:
    """Make row-level security raise an error instead of hiding rows, until the end of the transaction."""
    await connection.execute("SET LOCAL row_security TO off")


async def _columns_of_pictures(connection: Connection) -> list[tuple[str, str]]:
    """Return the columns of schema `public` that can hold a key, if the application `pictures` stands there."""
    if not has_pictures():
        return []
    rows = await connection.fetch(_TEXT_COLUMNS)
    return [(row["table_name"], row["column_name"]) for row in rows if _can_name(row["relation"], row["column_name"])]


def _declared_columns() -> list[tuple[str, str]]:
    """Return the columns that can hold a key by the descriptions of the other applications."""
    return [
        (table, column)
        for one in applications()
        if one is not PICTURES
        for table, columns in one.object_columns.items()
        for column in columns
    ]


def _can_name(table: str, column: str) -> bool:
    if table in OBJECT_COLUMNS and column in OBJECT_COLUMNS[table]:
        return True
    return table not in TABLES or column not in TABLES[table].columns


def _name(key: str) -> str:
    return key.rpartition("/")[2]


async def _names_in(
    connection: Connection,
    table: str,
    columns: Sequence[str],
    names: Collection[str],
    condition: str = "true",
    *arguments: object,
) -> set[str]:
    texts = ", ".join(f"(r.{_quoted(column)}::text)" for column in columns)
    query = _NAMES.format(table=table, columns=texts, condition=condition)
    try:
        rows = await connection.fetch(query, list(names), *arguments, timeout=SCAN_TIMEOUT_S)
    except TimeoutError as error:
        raise ScanTimeoutError(f"{table} can't be looked through for keys within {SCAN_TIMEOUT_S} s") from error
    return {row["word"] for row in rows}


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
