"""The statement that reads jobs of several tables, the newest change first, each table by an index of its own.

Rows of one label are read by an index that begins with the label and the time of the last write. Tables that have no
such index are read as a whole while they are small, and by the index of users where a user is given
(`models.queue.job_sources` reads what is left). PostgreSQL merges all of that, and reads no more rows than are asked
for.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from asyncpg import Record

from models.applications.registry import job_tables
from models.connections import Connection
from models.job_tables.rendering import id_as_text, last_write, over, quoted
from models.job_tables.table import JobTable
from models.queue.job_filter import JobFilter, Terms, condition

SMALL_BLOCKS: Final = 16
"""A table of so many blocks of 8 KiB is read as a whole: it has about a thousand rows."""

FEW: Final = 500
"""A user with so few jobs in a table: all of them are read, and sorted by their last change."""

FIRST: Final = datetime.max  # noqa: DTZ901 - infinity, for PostgreSQL, in a column without a zone
"""A time after all others, where reading begins."""

_COLUMN: Final = re.compile(r'r\.("(?:[^"]|"")+"|[a-z_][a-z0-9_]*)')

# Only indexes that are complete: valid, and of all rows
_INDEXES: Final = """
SELECT t.name, pg_relation_size(t.name::regclass) / current_setting('block_size')::bigint AS blocks, array(
    SELECT jsonb_build_array(a.attname, b.attname, c.attname,
                             coalesce(b.attnotnull, false), coalesce(c.attnotnull, false))
    FROM pg_index i
    JOIN pg_class n ON n.oid = i.indexrelid
    JOIN pg_am m ON m.oid = n.relam AND m.amname = 'btree'
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
    LEFT JOIN pg_attribute b ON b.attrelid = i.indrelid AND b.attnum = i.indkey[1] AND i.indnkeyatts > 1
    LEFT JOIN pg_attribute c ON c.attrelid = i.indrelid AND c.attnum = i.indkey[2] AND i.indnkeyatts > 2
    WHERE i.indrelid = t.name::regclass AND i.indisvalid AND i.indpred IS NULL
    ORDER BY i.indexrelid) AS indexes
FROM unnest($1::text[]) t (name)
"""


@dataclass(frozen=True, slots=True)
class Branch:
    """A part of the rows of a job table, in the order of a time, the latest first.

    Attributes:
        table: the job table.
        where: SQL condition over `j` by which an index finds the rows; a `{user}` in it stands for the user's id.
        time: SQL over `j` for the time by which they are ordered.
        is_timestamptz: whether this time has a zone; otherwise it is UTC.
        is_sorted_whole: whether all of these rows are read and sorted, because no index has their order.
        has_label: whether these are the rows of one label.
    """

    table: JobTable
    where: str
    time: str
    is_timestamptz: bool = False
    is_sorted_whole: bool = False
    has_label: bool = False


@dataclass(frozen=True, slots=True)
class Branches:
    """How jobs are read that a filter may select.

    Attributes:
        parts: read by `read`.
        without: tables of which only a part can be read in the order of changes, because no index has it.
    """

    parts: Sequence[Branch] = ()
    without: Sequence[JobTable] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """A row that was looked at. `branch` is the number of its branch, `at` its time in UTC without a zone."""

    branch: int
    job_type: str | None
    job_id: str
    at: datetime
    matches: bool


@dataclass(frozen=True, slots=True)
class Place:
    """How far rows were read: all that are later than `at`, and of each branch so many of those at this time."""

    at: datetime = FIRST
    taken: Mapping[int, int] = field(default_factory=dict)

    def after(self, rows: Sequence[Seen]) -> "Place":
        """Return the place behind rows that were read from here, in their order."""
        if not rows:
            return self
        at = rows[-1].at
        taken = dict(self.taken) if at == self.at else {}
        for row in rows:
            if row.at == at:
                taken[row.branch] = taken.get(row.branch, 0) + 1
        return Place(at, taken)


async def branches_for(connection: Connection, wanted: JobFilter) -> Branches:
    """Return how the jobs are read that a filter may select."""
    user = wanted.user
    tables = [
        one
        for one in job_tables()
        if (wanted.job_type is None or wanted.job_type in one.job_types)
        and (user is None or user.application in {None, one.application})
    ]
    if not tables:
        return Branches()
    found = {row["name"]: row for row in await connection.fetch(_INDEXES, [one.name for one in tables])}
    counts = {} if user is None else await _users_jobs(connection, found, tables, user.id)
    parts: list[Branch] = []
    without = []
    for table in tables:
        indexes = found[table.name]["indexes"]
        own = _of_user(table, indexes, counts.get(table.name)) if user is not None else None
        if own is None:
            own = _by_change(table, indexes, wanted.statuses)
        if own is None and found[table.name]["blocks"] <= SMALL_BLOCKS:
            own = [_sorted(table, "true")]
        if own is None:
            without.append(table)
        parts += own or ()
    return Branches(parts, without)


async def read(
    connection: Connection, branches: Sequence[Branch], wanted: JobFilter, place: Place, most: int
) -> list[Seen]:
    """Return the next rows behind a place, at most so many, those that the filter selects and the others.

    Fewer rows than asked for are the last ones.
    """
    terms = Terms()
    limit, at = terms.place(most, "bigint"), terms.place(place.at, "timestamp")
    since = None if wanted.since is None else terms.place(wanted.since, "timestamptz")
    parts = []
    for number, one in enumerate(branches):
        table = one.table
        where = [one.where]
        if wanted.user is not None and "{user}" in one.where:
            where = [one.where.replace("{user}", terms.place(wanted.user.id, "text"))]
        bound = f"{at} AT TIME ZONE 'utc'" if one.is_timestamptz else at
        where.append(f"{one.time} <= {bound}")
        if since is not None:  # no job was changed before it was created
            where.append(f"{one.time} >= {since}" + ("" if one.is_timestamptz else " AT TIME ZONE 'utc'"))
        order = f"{one.time} DESC" + (f", j.{table.id_column} DESC" if one.is_sorted_whole else "")
        shown = f"{one.time} AT TIME ZONE 'utc'" if one.is_timestamptz else one.time
        parts.append(f"""(SELECT {number} AS branch, {over(table.job_type, "j")} AS job_type,
        {id_as_text(table, "j")} AS job_id, {shown} AS at,
        {condition(table, wanted, terms, by_status=not one.has_label)} AS matches
    FROM {table.name} j
    WHERE {" AND ".join(where)}
    ORDER BY {order} LIMIT {limit} OFFSET {terms.place(place.taken.get(number, 0), "bigint")})""")
    sql = f"SELECT u.* FROM ({' UNION ALL '.join(parts)}) u ORDER BY u.at DESC LIMIT {limit}"
    rows = await connection.fetch(sql, *terms.values)
    return [Seen(row["branch"], row["job_type"], row["job_id"], row["at"], row["matches"]) for row in rows]


def _by_change(table: JobTable, indexes: Sequence[Sequence[object]], statuses: Sequence[str]) -> list[Branch] | None:
    """Return a branch for each label, by an index of the label and the last write; None if there is no such index."""
    column = table.updated_column or _plain(table.created)
    if column is None or not any(
        (first, second, is_filled) == (_name(table.status_column), _name(column), True)
        for first, second, _, is_filled, _ in indexes
    ):
        return None
    is_zoned = table.time_type != "timestamp"
    wanted = [text for text, state in table.states.items() if not statuses or state in statuses]
    return [
        Branch(
            table,
            f"j.{table.status_column} = {quoted(text)}::{table.status_type}",
            f"j.{column}",
            is_timestamptz=is_zoned,
            has_label=True,
        )
        for text in wanted
    ]


def _of_user(table: JobTable, indexes: Sequence[Sequence[object]], count: int | None) -> list[Branch] | None:
    """Return the branches of a user's rows; None where no index finds them.

    All of a user with few jobs are read. Of one with many, the latest are read first: by their creation, of each label.
    """
    user, created = _plain(table.user), _plain(table.created)
    if count is None or user is None:
        return None
    if count <= FEW:
        return [_sorted(table, f"j.{user} = {{user}}")]
    names = (_name(user), _name(table.status_column), _name(created or ""))
    is_zoned = table.time_type != "timestamp"
    for first, second, third, is_second_filled, is_third_filled in indexes:
        if (first, second, third, is_third_filled) == (*names, True):
            return [
                Branch(
                    table,
                    f"j.{user} = {{user}} AND j.{table.status_column} = {quoted(text)}::{table.status_type}",
                    f"j.{created}",
                    is_timestamptz=is_zoned,
                )
                for text in table.states
            ]
        if (first, second, is_second_filled) == (names[0], names[2], True):
            return [Branch(table, f"j.{user} = {{user}}", f"j.{created}", is_timestamptz=is_zoned)]
    return None


async def _users_jobs(
    connection: Connection, found: Mapping[str, Record], tables: Sequence[JobTable], user_id: str
) -> dict[str, int]:
    """Count a user's jobs by table, up to FEW and one more, in the tables that have an index of users."""
    named = [
        (table, column)
        for table in tables
        if (column := _plain(table.user)) is not None
        and any(first == _name(column) for first, *_ in found[table.name]["indexes"])
    ]
    if not named:
        return {}
    parts = [
        f"SELECT {quoted(table.name)} AS name, (SELECT count(*) FROM (SELECT FROM {table.name} j "
        f"WHERE j.{column} = $1 LIMIT {FEW + 1}) f) AS number"
        for table, column in named
    ]
    return {row["name"]: row["number"] for row in await connection.fetch(" UNION ALL ".join(parts), user_id)}


def _sorted(table: JobTable, where: str) -> Branch:
    time = f"coalesce({over(last_write(table), 'j')}, '-infinity')"
    return Branch(table, where, time, is_sorted_whole=True)


def _plain(fragment: str) -> str | None:
    """Return the column of which a fragment consists, alone or with its time in UTC; None for any other fragment."""
    text = fragment.removeprefix("(").removesuffix(" AT TIME ZONE 'utc')")
    found = _COLUMN.fullmatch(text)
    return None if found is None else found[1]


def _name(column: str) -> str:
    """Return a column's name without the quotes that it has in SQL."""
    return column[1:-1].replace('""', '"') if column.startswith('"') else column
