"""Deleting what has been kept for long enough: rows in chunks, weeks of our own logs whole."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from models.database import Connection

BRIEF_LOCK_MS: Final = 150
"""How long a drop may stand in the queue for a table that every worker writes: all who come later wait behind it."""

WEEKS_AHEAD: Final = 5


class UnusablePolicyError(Exception):
    """A retention policy names a table, or a column, that isn't there; the message says which."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Which rows of a table are over.

    Attributes:
        table: with its schema.
        column: the time from which they are kept.
        age: for how long.
        where: SQL that holds for rows that may go; `t` is the row.
    """

    table: str
    column: str
    age: timedelta
    where: str = "true"


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many rows a chunk deleted, and the last one's time as text: where the next chunk goes on."""

    deleted: int
    last: str | None


async def _boundary(connection: Connection, policy: Policy) -> str:
    """Return `$1` as the column's own type: the application's columns are UTC without a zone.

    Raises:
        UnusablePolicyError: there is no such column.
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
    """Delete the oldest rows that are over and that nobody has locked.

    Raises:
        UnusablePolicyError: the table or the column isn't there.
    """
    boundary = await _boundary(connection, policy)
    column = f't."{policy.column}"'
    # from where the chunk before ended: the index begins with entries that it left dead
    since = (
        f"AND {column} >= ($3::text)::timestamptz"
        if "timestamptz AT" not in boundary
        else (f"AND {column} >= ($3::text)::timestamp")
    )
    row = await connection.fetchrow(
        f"""
        WITH gone AS (
            DELETE FROM {policy.table} t WHERE t.ctid = ANY (ARRAY(
                SELECT t.ctid FROM {policy.table} t
                WHERE {column} < {boundary} {since if after else "AND $3::text IS NULL"} AND ({policy.where})
                ORDER BY {column} LIMIT $2 FOR UPDATE SKIP LOCKED))
            RETURNING {column} AS at)
        SELECT count(*) AS deleted, max(at)::text AS last FROM gone
        """,
        at - policy.age,
        most,
        after,
    )
    return Pruned(row["deleted"], row["last"]) if row else Pruned(0, None)


async def count_prunable(connection: Connection, policy: Policy, at: datetime) -> int:
    """Count the rows that are over.

    Raises:
        UnusablePolicyError: the table or the column isn't there.
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
    """Make the partitions of the coming weeks; return how many are new."""
    await connection.execute(f"SET LOCAL lock_timeout = {BRIEF_LOCK_MS}")
    return int(await connection.fetchval("SELECT darkroom.add_weeks($1, $2, $3)", log, at, WEEKS_AHEAD))


async def drop_week(connection: Connection, log: str, before: datetime) -> str | None:
    """Drop the oldest week that ended before a time and that nothing unfinished refers to; return its name."""
    await connection.execute(f"SET LOCAL lock_timeout = {BRIEF_LOCK_MS}")
    name: str | None = await connection.fetchval("SELECT darkroom.drop_week($1, $2)", log, before)
    return name


async def count_weeks(connection: Connection, log: str, before: datetime) -> int:
    """Count the weeks that would be dropped."""
    return int(await connection.fetchval("SELECT count(*) FROM darkroom.finished_weeks($1, $2)", log, before))
