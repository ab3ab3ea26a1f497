"""The sources of which a list of jobs is merged: tables with an index of changes, and three others for the rest.

Of a table without such an index, the queue has every unfinished job, and Darkroom's history the ends of jobs that ran;
both are read by their ids, which are in the order of time. What neither has, such as a job that ended before Darkroom
came, is read by the table's own key, last of all.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from asyncpg import Record
from typing_extensions import override

from models.connections import Connection
from models.job_tables.rendering import FINISHED, as_id, as_types, id_as_text, labels, listed, over
from models.job_tables.table import JobTable
from models.queue.job_branches import Branch, Place, Seen, read
from models.queue.job_filter import JobFilter, Terms, condition
from models.queue.job_names import JobKey, key_of

WINDOW_IDS: Final = 2_000
"""So many ids of the history are read by one statement; a range of their index has about as many."""

MOST_BY_KEY: Final = 100
"""So many rows are read by a table's own key at once: the history is asked about each."""

EARLIEST: Final = datetime.min  # noqa: DTZ901 - before all other times, in UTC without a zone
_LAST_ID: Final = 2**63 - 1

_QUEUED: Final = """
SELECT q.id, q.job_type, q.job_id, coalesce(q.started_at, q.created_at) AT TIME ZONE 'utc' AS at
FROM darkroom.job_queue q WHERE q.id < $1 AND q.job_type = ANY ($2::text[]) ORDER BY q.id DESC LIMIT $3
"""
_NEWEST_RUN: Final = "SELECT coalesce(pg_sequence_last_value('darkroom.stage_runs_id_seq'::regclass), 0) + 1"
# A job that ran has one such row, when it has ended: of its last stage, or of a failure for good
_IS_END: Final = "(r.event = 'failed' OR r.event = 'finished' AND r.stage = ANY ({stages}))"
_ENDED: Final = f"""
SELECT r.id, r.job_type, r.job_id, r.at AT TIME ZONE 'utc' AS at FROM darkroom.stage_runs r
WHERE r.id >= $1 AND r.id < $2 AND r.job_type = ANY ($3::text[]) AND {_IS_END.format(stages="$4::text[]")}
ORDER BY r.id DESC
"""
_IS_KEPT: Final = "SELECT EXISTS (SELECT FROM darkroom.stage_runs r WHERE r.id >= $1 AND r.id < $2)"


@dataclass(frozen=True, slots=True)
class Row:
    """A row that was looked at.

    Attributes:
        at: its time in UTC, without a zone.
        key: the job; None for a row of another program.
        matches: whether the filter selects it.
        place: where it was read.
    """

    at: datetime
    key: JobKey | None
    matches: bool
    place: object


class Source:
    """Rows in the order of a time, the latest first.

    Attributes:
        rows: those that were read and not taken, in their order.
        is_done: whether all were read.
    """

    def __init__(self) -> None:
        """Begin without rows."""
        self.rows: deque[Row] = deque()
        self.is_done = False

    async def fill(self, connection: Connection, most: int) -> int:
        """Read about so many further rows; return how many were looked at, at least 1."""
        raise NotImplementedError

    def take(self) -> Row:
        """Take the first row that was read."""
        return self.rows.popleft()

    def position(self) -> object:
        """Return, as JSON, where to go on behind the last row that was taken; `end` if nothing is left."""
        raise NotImplementedError


class Indexed(Source):
    """Rows of tables that have an index of changes."""

    def __init__(self, branches: Sequence[Branch], wanted: JobFilter, position: object) -> None:
        """Go on at a position; None begins."""
        super().__init__()
        self._branches, self._wanted = branches, wanted
        self._taken = Place()
        if isinstance(position, list):
            at, taken = position
            counts = {int(branch): max(0, int(number)) for branch, number in taken.items()}
            self._taken = Place(datetime.fromisoformat(at), counts)
        self._read = self._taken
        self.is_done = not branches or position == "end"

    @override
    async def fill(self, connection: Connection, most: int) -> int:
        seen = await read(connection, self._branches, self._wanted, self._read, most)
        self._read = self._read.after(seen)
        for one in seen:
            key = None if one.job_type is None else key_of(one.job_type, one.job_id)
            self.rows.append(Row(one.at, key, one.matches, one))
        self.is_done = len(seen) < most
        return max(1, len(seen))

    @override
    def take(self) -> Row:
        row = super().take()
        assert isinstance(row.place, Seen)  # noqa: S101 - `fill` puts no other there
        self._taken = self._taken.after([row.place])
        return row

    @override
    def position(self) -> object:
        if self.is_done and not self.rows:
            return "end"
        return [self._taken.at.isoformat(), {str(branch): number for branch, number in self._taken.taken.items()}]


class _ById(Source):
    """Rows of ours that name jobs, from the newest id down."""

    def __init__(self, tables: Sequence[JobTable], wanted: JobFilter, position: object) -> None:
        super().__init__()
        self._types = [one for table in tables for one in table.job_types if wanted.job_type in {None, one}]
        self._wanted = wanted
        self._taken = self._read = position if isinstance(position, int) else _LAST_ID
        self.is_done = not self._types or position == "end"

    async def _add(self, connection: Connection, rows: Sequence[Record]) -> None:
        keys = [key_of(str(row["job_type"]), str(row["job_id"])) for row in rows]
        matching = await _matching(connection, keys, self._wanted)
        for row, key in zip(rows, keys, strict=True):
            self.rows.append(Row(row["at"], key, key in matching, row["id"]))

    @override
    def take(self) -> Row:
        row = super().take()
        assert isinstance(row.place, int)  # noqa: S101 - `_add` puts no other there
        self._taken = row.place
        return row

    @override
    def position(self) -> object:
        if self.rows:
            return self._taken
        return "end" if self.is_done else self._read


class Queued(_ById):
    """Unfinished jobs, by the queue."""

    @override
    async def fill(self, connection: Connection, most: int) -> int:
        rows = await connection.fetch(_QUEUED, self._read, self._types, most)
        await self._add(connection, rows)
        self.is_done = len(rows) < most
        if rows:
            self._read = rows[-1]["id"]
        return max(1, len(rows))


class Ended(_ById):
    """Jobs that ran and ended, by the history."""

    def __init__(
        self, tables: Sequence[JobTable], wanted: JobFilter, last_stages: Sequence[str], position: object
    ) -> None:
        """Go on at a position; `last_stages` are the stages with which jobs end."""
        super().__init__(tables, wanted, position)
        self._last_stages = list(last_stages)

    @override
    async def fill(self, connection: Connection, most: int) -> int:
        if self._read == _LAST_ID:
            self._read = await connection.fetchval(_NEWEST_RUN)
        below = max(0, self._read - WINDOW_IDS)
        rows = await connection.fetch(_ENDED, below, self._read, self._types, self._last_stages)
        await self._add(connection, rows)
        # What retention deleted is the oldest part: below it there is nothing
        self.is_done = below == 0 or (not rows and not await connection.fetchval(_IS_KEPT, below, self._read))
        self._read = below
        return max(WINDOW_IDS // 10, len(rows))


class Remaining(Source):
    """Finished jobs of which the history has no end, by the keys of their tables, from the greatest down."""

    def __init__(
        self, tables: Sequence[JobTable], wanted: JobFilter, last_stages: Sequence[str], position: object
    ) -> None:
        """Go on at a position; None begins."""
        super().__init__()
        self._tables, self._wanted, self._last_stages = tables, wanted, list(last_stages)
        number, key = position if isinstance(position, list) else (0, None)
        self._taken = self._read = (int(number), None if key is None else str(key))
        self.is_done = position == "end" or self._read[0] >= len(tables)

    @override
    async def fill(self, connection: Connection, most: int) -> int:
        number, below = self._read
        table, terms = self._tables[number], Terms()
        limit = min(most, MOST_BY_KEY)
        where = [f"j.{table.status_column} IN ({labels(table, FINISHED)})"]
        if below is not None:
            where.append(f"j.{table.id_column} < {as_id(table, terms.place(below, 'text'))}")
        stages = terms.place(self._last_stages, "text[]")
        id_ = id_as_text(table, "j")
        rows = await connection.fetch(
            f"""SELECT {over(table.job_type, "j")} AS job_type, {id_} AS job_id,
                       {condition(table, self._wanted, terms)} AND NOT EXISTS (
                           SELECT FROM darkroom.stage_runs r WHERE r.job_id = {id_}
                               AND r.job_type IN ({listed(table.job_types)})
                               AND {_IS_END.format(stages=stages)}) AS matches
                FROM {table.name} j WHERE {" AND ".join(where)}
                ORDER BY j.{table.id_column} DESC LIMIT {terms.place(limit, "bigint")}""",
            *terms.values,
        )
        for row in rows:
            key = None if row["job_type"] is None else key_of(row["job_type"], row["job_id"])
            self.rows.append(Row(EARLIEST, key, row["matches"], (number, row["job_id"])))
        self._read = (number, rows[-1]["job_id"]) if len(rows) == limit else (number + 1, None)
        self.is_done = self._read[0] >= len(self._tables)
        return max(1, len(rows))

    @override
    def take(self) -> Row:
        row = super().take()
        assert isinstance(row.place, tuple)  # noqa: S101 - `fill` puts no other there
        self._taken = row.place
        return row

    @override
    def position(self) -> object:
        if self.rows:
            return list(self._taken)
        return "end" if self.is_done else list(self._read)


async def _matching(connection: Connection, keys: Sequence[JobKey], wanted: JobFilter) -> set[JobKey]:
    """Return those jobs that the filter selects, and whose rows are there."""
    found: set[JobKey] = set()
    for table in dict.fromkeys(key.table for key in keys):
        terms = Terms()
        ids = terms.place([key.job_id for key in keys if key.table is table], "text[]")
        rows = await connection.fetch(
            f"SELECT {id_as_text(table, 'j')} AS id FROM {table.name} j "
            f"WHERE j.{table.id_column} = ANY ({as_types(table.id_type, ids)}) AND {condition(table, wanted, terms)}",
            *terms.values,
        )
        found |= {JobKey(table, row["id"]) for row in rows}
    return found
