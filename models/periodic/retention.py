"""Retention: deletion of old rows in chunks, and of whole weekly partitions of our own logs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from models.applications.registry import job_tables
from models.connections import Connection

BRIEF_LOCK_MS: Final = 150
"""How long, in ms, dropping a partition may wait for its table's lock.

Every worker that writes the table waits behind it.
"""

WEEKS_AHEAD: Final = 5


class UnusablePolicyError(Exception):
    """Raised when a retention policy names a column that is missing or holds no time; the message says which."""


class ForbiddenPolicyError(ValueError):
    """Raised when a policy's deletions could reach rows that must never be deleted.

    The message names the tables on the way.
    """


@dataclass(frozen=True, slots=True)
class Policy:
    """Which rows of a table are old enough to be deleted.

    Attributes:
        table: the table with its schema.
        column: the column of the time from which rows are kept.
        age: how long rows are kept.
        where: SQL condition over `t`, the row; only rows that meet it may be deleted.
        is_ours: whether it is a default policy. Policies of operators are refused for tables that hold money.
    """

    table: str
    column: str
    age: timedelta
    where: str = "true"
    is_ours: bool = False


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many rows a chunk deleted, and the time of the last of them, as text.

    The time is None if no rows are left for another chunk.
    """

    deleted: int
    last: str | None


# Yields each table in which a deletion from a given table deletes or changes rows: by foreign keys (and further where
# these cascade), and as its partition or parent. `is_kept` goes by a table's name; for the given table also by its
# columns.
_TAKES_ALONG = """
WITH RECURSIVE reached (oid, path) AS (
    SELECT c.oid, ARRAY[c.relname::text] FROM pg_class c WHERE c.oid = to_regclass($1)
    UNION ALL
    SELECT n.oid, r.path || c.relname::text
    FROM reached r
    CROSS JOIN LATERAL (
        SELECT k.conrelid FROM pg_constraint k
        WHERE k.contype = 'f' AND k.confrelid = r.oid AND k.confdeltype IN ('c', 'n', 'd')
        UNION SELECT i.inhparent FROM pg_inherits i WHERE i.inhrelid = r.oid
        UNION SELECT i.inhrelid FROM pg_inherits i WHERE i.inhparent = r.oid) n (oid)
    JOIN pg_class c ON c.oid = n.oid
    WHERE c.relname::text <> ALL (r.path) AND cardinality(r.path) < 20)
SELECT r.path, c.relkind::text AS kind, c.relname = ANY ($2) AS is_kept,
       cardinality(r.path) = 1 AND EXISTS (
           SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
             AND (a.atttypid = 'money'::regtype OR a.atttypid IN (
                      'int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype, 'float4'::regtype,
                      'float8'::regtype)
                  AND (a.attname ~* '(amount|balance|price|cost|credit|token|refund|payout|payment|charged|paid)'
                       OR a.attname ~* '(cents|revenue|debit|discount|deposit|commission|sub_?total|(^|[^a-z])fees?$)'
                       OR a.attname ~* '^total(_?(sum|usd|eur|gbp))?$'))) AS has_money
FROM reached r JOIN pg_class c ON c.oid = r.oid ORDER BY cardinality(r.path), r.path
"""


async def require_allowed(connection: Connection, policy: Policy, kept: Iterable[str]) -> None:
    """Check that deletions by a policy can't reach money, audits or unfinished jobs (promise I11).

    Args:
        connection: any connection; nothing is locked.
        policy: a policy, whose table need not exist.
        kept: bare names of tables of which retention must not delete or change a row; job tables are added.

    Raises:
        ForbiddenPolicyError: deletions can reach such rows; the message names the tables by which they do.
    """
    never = [*kept, *(table.relation for table in job_tables())]
    for row in await connection.fetch(_TAKES_ALONG, policy.table, never):
        if row["kind"] not in {"r", "p"} and len(row["path"]) == 1:
            raise ForbiddenPolicyError(f"retention of {policy.table}: it is no table, and may show rows that are kept")
        if row["is_kept"] and len(row["path"]) == 1:
            raise ForbiddenPolicyError(f"retention must not name {policy.table}: its rows are kept for ever")
        if row["is_kept"]:
            raise ForbiddenPolicyError(
                f"retention of {policy.table}: its rows would take along or change rows of {row['path'][-1]}, which "
                f"are kept for ever ({' -> '.join(row['path'])})"
            )
        if row["has_money"] and not policy.is_ours:
            raise ForbiddenPolicyError(
                f"retention must not name {policy.table}: by its columns it holds money, which is kept for ever"
            )


async def _boundary(connection: Connection, policy: Policy) -> str:
    """Return SQL that converts `$1`, a time, to the column's own type.

    The application's columns are UTC without a zone.

    Raises:
        UnusablePolicyError: there is no such column, or it holds no time.
    """
    name = await connection.fetchval(
        """SELECT format_type(a.atttypid, NULL) FROM pg_attribute a
           WHERE a.attrelid = to_regclass($1) AND a.attname = $2 AND NOT a.attisdropped""",
        policy.table,
        policy.column,
    )
    if name == "timestamp with time zone":
        return "$1::timestamptz"
    if name == "timestamp without time zone":
        return "($1::timestamptz AT TIME ZONE 'utc')"
    raise UnusablePolicyError(
        f"retention of {policy.table}: column {policy.column!r} is {name or 'missing'}; name a timestamp column"
    )


async def prune(connection: Connection, policy: Policy, at: datetime, after: str | None, most: int) -> Pruned:
    """Delete the oldest rows that a policy allows to delete and that nobody has locked.

    Args:
        connection: where each call is one statement.
        policy: which rows are old enough.
        at: the tick's time, from which ages are counted.
        after: the time of the last row of the chunk before, as text; None for the first chunk.
        most: the largest number of rows to delete.

    Raises:
        UnusablePolicyError: the table or the column is missing.
    """
    boundary = await _boundary(connection, policy)
    column = f't."{policy.column}"'
    # Begin where the previous chunk ended: the index still has entries of the rows that it deleted
    since = (
        f"AND {column} >= ($3::text)::timestamptz"
        if "timestamptz AT" not in boundary
        else (f"AND {column} >= ($3::text)::timestamp")
    )
    row = await connection.fetchrow(
        f"""
        WITH due AS MATERIALIZED (
            SELECT t.tableoid AS part, t.ctid AS place, {column} AS at FROM {policy.table} t
            WHERE {column} < {boundary} {since if after else "AND $3::text IS NULL"} AND ({policy.where})
            ORDER BY {column} LIMIT $2 FOR UPDATE SKIP LOCKED),
        gone AS (
            DELETE FROM {policy.table} t
            WHERE t.ctid = ANY (ARRAY(SELECT due.place FROM due))  -- found fast; partitions may share ctids
              AND (t.tableoid, t.ctid) IN (SELECT due.part, due.place FROM due) RETURNING 1)
        SELECT (SELECT count(*) FROM due) AS found, (SELECT count(*) FROM gone) AS deleted,
               (SELECT max(due.at)::text FROM due) AS last
        """,
        at - policy.age,
        most,
        after,
    )
    if row is None:
        raise AssertionError("unreachable: a SELECT without FROM has a row")
    # A trigger may silently keep the rows; then the task stops here instead of finding the same rows again
    is_stuck = row["deleted"] == 0 and row["last"] == after
    return Pruned(row["deleted"], row["last"] if row["found"] == most and not is_stuck else None)


async def next_rows(
    connection: Connection, policy: Policy, at: datetime, after: Sequence[str] | None, most: int
) -> list[list[str]]:
    """Return the oldest rows that are old enough, after a given one, as three texts each: time, partition and ctid.

    Raises:
        UnusablePolicyError: the table or the column is missing.
    """
    boundary, column = await _boundary(connection, policy), f't."{policy.column}"'
    of_column = "$3::text::timestamp" if "AT TIME ZONE" in boundary else "$3::text::timestamptz"
    rows = await connection.fetch(
        f"""
        SELECT {column}::text AS at, t.tableoid::text AS part, t.ctid::text AS place FROM {policy.table} t
        WHERE {column} < {boundary} AND ({policy.where})
          AND ($3::text IS NULL OR ({column}, t.tableoid, t.ctid) > ({of_column}, $4::text::oid, $5::text::tid))
        ORDER BY {column}, t.tableoid, t.ctid LIMIT $2
        """,
        *(at - policy.age, most),
        *(after or (None, None, None)),
    )
    return [[row["at"], row["part"], row["place"]] for row in rows]


async def prune_rows(connection: Connection, policy: Policy, at: datetime, rows: Sequence[Sequence[str]]) -> int:
    """Delete those of the rows that `next_rows` returned that are still old enough and not locked; return how many."""
    boundary, column = await _boundary(connection, policy), f't."{policy.column}"'
    return len(
        await connection.fetch(
            f"""
            WITH due AS MATERIALIZED (
                SELECT t.tableoid AS part, t.ctid AS place FROM {policy.table} t
                WHERE t.ctid = ANY ($3::text[]::tid[])
                  AND (t.tableoid, t.ctid) IN (SELECT * FROM unnest($2::text[]::oid[], $3::text[]::tid[]))
                  AND {column} < {boundary} AND ({policy.where})
                FOR UPDATE OF t SKIP LOCKED)
            DELETE FROM {policy.table} t
            WHERE t.ctid = ANY (ARRAY(SELECT due.place FROM due))
              AND (t.tableoid, t.ctid) IN (SELECT due.part, due.place FROM due)
            RETURNING 1
            """,
            at - policy.age,
            [part for _, part, _ in rows],
            [place for _, _, place in rows],
        )
    )


async def count_prunable(connection: Connection, policy: Policy, at: datetime) -> int:
    """Count the rows that are old enough to delete.

    Raises:
        UnusablePolicyError: the table or the column is missing.
    """
    boundary = await _boundary(connection, policy)
    return int(
        await connection.fetchval(
            f"""SELECT count(*) FROM {policy.table} t WHERE t."{policy.column}" < {boundary} AND ({policy.where})""",
            at - policy.age,
            timeout=600,
        )
    )


async def add_weeks(connection: Connection, log: str, at: datetime) -> int:
    """Create the partitions of the coming weeks; return how many are new."""
    await connection.execute(f"SET LOCAL lock_timeout = {BRIEF_LOCK_MS}")
    return int(await connection.fetchval("SELECT darkroom.add_weeks($1, $2, $3)", log, at, WEEKS_AHEAD))


async def drop_week(connection: Connection, log: str, before: datetime) -> str | None:
    """Drop the oldest partition that ended before a time and to which nothing unfinished refers; return its name.

    The result is None if there is no such partition.
    """
    await connection.execute(f"SET LOCAL lock_timeout = {BRIEF_LOCK_MS}")
    name: str | None = await connection.fetchval("SELECT darkroom.drop_week($1, $2)", log, before)
    return name


async def count_weeks(connection: Connection, log: str, before: datetime) -> int:
    """Count the weekly partitions that would be dropped."""
    return int(await connection.fetchval("SELECT count(*) FROM darkroom.finished_weeks($1, $2)", log, before))
