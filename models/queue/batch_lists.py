"""Batches as pages show them: how far each is, by a look at some of its jobs where they are many."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from asyncpg import Record

from models.applications.registry import table_of
from models.connections import Connection

_ROWS: Final = """
SELECT b.id, b.label, b.album_id, b.tier, b.user_id, b.created_at, b.retried_as, b.finished_at,
       b.completed, b.failed, b.refunded, b.cancelled
FROM darkroom.batches b {which} ORDER BY b.created_at DESC, b.id DESC LIMIT $1
"""
_FIRST: Final = _ROWS.format(which="")
_BEHIND: Final = _ROWS.format(which="WHERE (b.created_at, b.id) < ($2, $3)")
_ONE: Final = _ROWS.format(which="WHERE b.id = $2")
# A batch's array of ids is read once, because a long one is stored in many pieces. The chosen jobs are evenly spread
# over the album.
_CHOSEN: Final = """
SELECT j.id, j.total, array_agg(j.job_id) AS job_ids
FROM (SELECT b.id, u.job_id, u.n, count(*) OVER (PARTITION BY b.id) AS total
      FROM darkroom.batches b CROSS JOIN LATERAL unnest(b.job_ids) WITH ORDINALITY u (job_id, n)
      WHERE b.id = ANY ($1::uuid[])) j
WHERE j.n * least(j.total, $2) / j.total > (j.n - 1) * least(j.total, $2) / j.total GROUP BY j.id, j.total
"""
# As in darkroom.batch_progress, an end that the database refused to write counts
_STATUSES: Final = """
SELECT r.id, coalesce(e.label, r.status) AS status FROM darkroom.jobs_of($1::text[]) r
LEFT JOIN darkroom.refused_ends e ON e.job_type = r.type AND e.job_id = r.id
WHERE r.type = ANY ($2::text[])
"""
_IS_QUEUED: Final = "SELECT EXISTS (SELECT FROM darkroom.job_queue q WHERE q.batch_id = $1)"
_JOBS: Final = "SELECT b.job_ids[$2::bigint + 1 : $2::bigint + $3::bigint] FROM darkroom.batches b WHERE b.id = $1"


@dataclass(frozen=True, slots=True)
class BatchNow:
    """A batch, and how many of its jobs are in which status.

    Attributes:
        id: of the batch.
        label: the name that its album had.
        tier: a label of `EnhancementTier`.
        user_id: the user who pays.
        created_at: when it was submitted.
        finished_at: when its last job ended; None until this is noticed.
        retried_as: the newest batch that tried its failed jobs again; None if none did.
        total: how many jobs it has.
        waiting: how many are PENDING.
        running: how many are PROCESSING.
        completed: how many ended COMPLETED.
        failed: how many ended FAILED.
        refunded: how many ended REFUNDED.
        cancelled: how many ended CANCELLED, or have no row any more.
        is_estimate: whether these numbers are estimated from a part of its jobs.
    """

    id: UUID
    label: str | None
    tier: str | None
    user_id: str
    created_at: datetime
    finished_at: datetime | None
    retried_as: UUID | None
    total: int
    waiting: int = 0
    running: int = 0
    completed: int = 0
    failed: int = 0
    refunded: int = 0
    cancelled: int = 0
    is_estimate: bool = False

    @property
    def over(self) -> int:
        """How many of its jobs are over."""
        return self.total - self.waiting - self.running


async def newest_batches_now(
    connection: Connection, most: int, behind: tuple[datetime, UUID] | None, *, jobs: int
) -> list[BatchNow]:
    """Return batches, the newest first.

    Args:
        connection: any connection.
        most: how many at most.
        behind: time and id of the batch behind which they begin; None for the newest.
        jobs: how many jobs are looked at, of all batches that aren't finished together, but one of each at least.
    """
    rows = await (connection.fetch(_FIRST, most) if behind is None else connection.fetch(_BEHIND, most, *behind))
    return await _with_progress(connection, rows, jobs)


async def batch_now(connection: Connection, batch_id: UUID, *, jobs: int) -> BatchNow | None:
    """Return a batch, by a look at so many of its jobs; None if there is no such batch."""
    found = await _with_progress(connection, await connection.fetch(_ONE, 1, batch_id), jobs)
    return found[0] if found else None


async def has_queued_jobs(connection: Connection, batch_id: UUID) -> bool:
    """Return whether some of a batch's jobs are in the queue."""
    return bool(await connection.fetchval(_IS_QUEUED, batch_id))


async def some_jobs_of_batch(connection: Connection, batch_id: UUID, first: int, most: int) -> Sequence[str]:
    """Return the ids of a batch's jobs in the order of the album, from number `first` on, which counts from 0."""
    return await connection.fetchval(_JOBS, batch_id, first, most) or ()


async def _with_progress(connection: Connection, rows: Sequence[Record], jobs: int) -> list[BatchNow]:
    unfinished = [row["id"] for row in rows if row["finished_at"] is None]
    chosen: dict[UUID, Record] = {}
    statuses: dict[str, str] = {}
    if unfinished:
        each = max(1, jobs // len(unfinished))
        chosen = {row["id"]: row for row in await connection.fetch(_CHOSEN, unfinished, each)}
        ids = [one for row in chosen.values() for one in row["job_ids"]]
        types = list(table_of("enhance").job_types)
        statuses = {row["id"]: row["status"] for row in await connection.fetch(_STATUSES, ids, types)}
    return [_batch(row, chosen.get(row["id"]), statuses) for row in rows]


_COUNTED: Final = {
    "waiting": "PENDING",
    "running": "PROCESSING",
    "completed": "COMPLETED",
    "failed": "FAILED",
    "refunded": "REFUNDED",
}


def _batch(row: Record, chosen: Record | None, statuses: Mapping[str, str]) -> BatchNow:
    facts = {name: row[name] for name in ("id", "label", "tier", "user_id", "created_at", "finished_at", "retried_as")}
    if row["finished_at"] is not None:
        ends: dict[str, Any] = {name: row[name] or 0 for name in ("completed", "failed", "refunded", "cancelled")}
        return BatchNow(**facts, **ends, total=sum(ends.values()))
    if chosen is None:  # it has no jobs
        return BatchNow(**facts, total=0)
    total, ids = chosen["total"], chosen["job_ids"]
    found = Counter(statuses.get(one) for one in ids)
    counts: dict[str, Any] = {name: round(found[status] * total / len(ids)) for name, status in _COUNTED.items()}
    cancelled = max(0, total - sum(counts.values()))
    return BatchNow(**facts, **counts, cancelled=cancelled, total=total, is_estimate=len(ids) < total)
