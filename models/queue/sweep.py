"""A sweep, page by page, to find unfinished jobs without a queue row and queue rows without an unfinished job.

A look at all of them takes seconds if a million jobs wait. A page is read by index: unfinished jobs in the order of
their last write, queue rows in the order of their ids.
"""

from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Final

from models.applications.registry import job_tables
from models.database import Database
from models.job_state import JobStatus
from models.job_tables.rendering import id_as_text, quoted, types
from models.job_tables.table import JobTable

PAGE_ROWS: Final = 5_000
"""How many jobs of a label, and how many queue rows, one look takes."""


@dataclass(frozen=True, slots=True)
class Page:
    """What one look found.

    Attributes:
        job_ids: jobs that had no queue row.
        after_id: queue rows with a greater id belong to this page.
        last_id: the greatest id of a queue row of this page; None if the page goes on to the end of the queue.
    """

    job_ids: tuple[str, ...]
    after_id: int
    last_id: int | None


@dataclass(slots=True)
class Sweep:
    """Where the next look begins. Its parts are one for each label of each job table, and one for the queue rows.

    A part that has reached its end begins again from its beginning, whether or not the others have.
    """

    page_rows: int = PAGE_ROWS
    _last_jobs: dict[str, tuple[datetime, str]] = field(default_factory=dict)
    _last_queue_id: int = 0

    async def next_page(self, database: Database) -> Page:
        """Look at the next page of each part."""
        job_ids: list[str] = []
        last_jobs: dict[str, tuple[datetime, str]] = {}
        for statement in _statements():
            at, job_id = self._last_jobs.get(statement, (None, ""))
            rows = await database.fetch(statement, at, job_id, self.page_rows)
            job_ids += [row["id"] for row in rows if row["is_unqueued"]]
            if sum(row["at"] is not None for row in rows) >= self.page_rows:
                last_jobs[statement] = (rows[-1]["at"], rows[-1]["id"])
        after_id = self._last_queue_id
        last_id = await database.fetchval(_QUEUE_PAGE, after_id, self.page_rows - 1)
        self._last_jobs, self._last_queue_id = last_jobs, last_id or 0  # only now: a look that fails is repeated
        return Page(tuple(job_ids), after_id, last_id)


_QUEUE_PAGE: Final = "SELECT q.id FROM darkroom.job_queue q WHERE q.id > $1 ORDER BY q.id OFFSET $2 LIMIT 1"


def _statements() -> tuple[str, ...]:
    return _statements_of(job_tables())


@lru_cache
def _statements_of(tables: tuple[JobTable, ...]) -> tuple[str, ...]:
    """Render the look at each label of an unfinished job in each table, since an index begins with the label."""
    return tuple(
        _page(table, text)
        for table in tables
        for text in dict.fromkeys((*table.pending_labels, table.labels[JobStatus.PROCESSING]))
    )


def _page(table: JobTable, text: str) -> str:
    """Render the look at $3 jobs of one label after the last write $1 (NULL at first) and the id $2.

    Jobs whose last write isn't known have no place in that order: those among them without a queue row are on the first
    page. A table without a column for the last write is read in the order of its ids.
    """
    kind, job_id = table.time_type, id_as_text(table, "j")
    at = f"j.{table.updated_column}" if table.updated_column else f"'epoch'::{kind}"
    rows = f"SELECT {job_id} AS id, {at} AS at FROM {table.name} j WHERE j.{table.status_column} = {quoted(text)}"
    # one look by index for each job: of an EXISTS, PostgreSQL may make a hash of the whole queue
    queue_id = f"SELECT min(q.id) FROM darkroom.job_queue q WHERE q.job_id = {{id}} AND q.job_type IN ({types(table)})"
    return f"""
WITH page AS MATERIALIZED (
    ({rows} AND {at} IS NULL AND $1::{kind} IS NULL AND ({queue_id.format(id=job_id)}) IS NULL LIMIT $3)
    UNION ALL
    ({rows} AND ({at}, {job_id}) > (coalesce($1::{kind}, '-infinity'), $2::text) ORDER BY 2, 1 LIMIT $3))
SELECT p.id, p.at, ({queue_id.format(id="p.id")}) IS NULL AS is_unqueued FROM page p ORDER BY p.at NULLS FIRST, p.id
"""
