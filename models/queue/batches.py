"""Batches: the pictures of an album, submitted together by the SQL functions that producers call (`batches.sql`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from models.connections import Connection
from models.queue.submission import BEGINS, time_parameters

_SUBMIT: Final = f"""
{BEGINS.format(at="$7::timestamptz", after="$8")}
SELECT darkroom.submit_album($1, $2, $3, $4, $5, $6, b.at) FROM begins b
"""
_BATCHES: Final = """
SELECT b.id, b.label, b.album_id, b.tier, b.user_id, b.created_at, b.retried_as, p.total, p.waiting, p.running,
       p.completed, p.failed, p.refunded, p.cancelled, p.finished_at
FROM (SELECT * FROM darkroom.batches b WHERE {which}) b CROSS JOIN LATERAL darkroom.batch_progress(b.id) p
ORDER BY b.created_at DESC, b.id
"""
_ONE: Final = _BATCHES.format(which="b.id = $1")
_NEWEST: Final = _BATCHES.format(which="$1::text IS NULL OR b.user_id = $1 ORDER BY b.created_at DESC, b.id LIMIT $2")
_COUNT: Final = "SELECT count(*) FROM darkroom.batches b WHERE $1::text IS NULL OR b.user_id = $1"
_ALBUM_OWNER: Final = """SELECT a."userId"::text FROM public.albums a WHERE a.id = $1"""
_CANCEL: Final = "SELECT darkroom.cancel_batch($1)"
_RETRY: Final = "SELECT darkroom.retry_batch($1, $2)"
_FINISH: Final = """
SELECT darkroom.finish_batches($1) AS finished,
       EXISTS (SELECT FROM darkroom.batches b WHERE b.finished_at IS NULL) AS are_unfinished
"""
_JOBS: Final = "SELECT b.job_ids FROM darkroom.batches b WHERE b.id = $1"

MOST_FINISHED: Final = 100
"""How many batches one statement finishes."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Jobs that were submitted together, and how many of them are in which status.

    Attributes:
        id: of the batch.
        label: the name that its album had.
        album_id: the album, which may be deleted by now.
        tier: a label of `EnhancementTier`.
        user_id: the user who pays.
        created_at: when it was submitted.
        retried_as: the newest batch that tried its failed jobs again; None if none did.
        total: how many jobs it has.
        waiting: how many are PENDING.
        running: how many are PROCESSING.
        completed: how many ended COMPLETED.
        failed: how many ended FAILED.
        refunded: how many ended REFUNDED.
        cancelled: how many ended CANCELLED, or have no row any more.
        finished_at: when the last one ended; None before.
    """

    id: UUID
    label: str | None
    album_id: str | None
    tier: str | None
    user_id: str
    created_at: datetime
    retried_as: UUID | None
    total: int
    waiting: int
    running: int
    completed: int
    failed: int
    refunded: int
    cancelled: int
    finished_at: datetime | None

    @property
    def over(self) -> int:
        """How many of its jobs are over."""
        return self.total - self.waiting - self.running


async def album_owner(connection: Connection, album_id: str) -> str | None:
    """Return the id of an album's user; None if there is no such album."""
    owner: str | None = await connection.fetchval(_ALBUM_OWNER, album_id)
    return owner


async def submit_album(
    connection: Connection,
    user_id: str,
    album_id: str,
    tier: str | None,
    *,
    pipeline_id: str | None,
    redo: bool,
    idempotency_key: str,
    run_at: datetime | timedelta | None,
) -> UUID:
    """Submit the pictures of an album that aren't done or under way at a tier; return the batch.

    Args:
        connection: each call is one statement.
        user_id: the album's user.
        album_id: the album.
        tier: a label of `EnhancementTier`; None for the pipeline's, else the album's.
        pipeline_id: the pipeline of every job; None for the album's.
        redo: whether pictures that are done are submitted, too.
        idempotency_key: submitting again with the same key returns the same batch.
        run_at: no job begins before this time, or this duration from now; None for at once.

    Raises:
        asyncpg.PostgresError: the submission is refused; `workers.operations.errors` translates it.
    """
    batch: UUID = await connection.fetchval(
        _SUBMIT, user_id, album_id, tier, pipeline_id, redo, idempotency_key, *time_parameters(run_at)
    )
    return batch


async def read_batch(connection: Connection, batch_id: UUID) -> Batch | None:
    """Return a batch; None if there is no such batch."""
    row = await connection.fetchrow(_ONE, batch_id)
    return None if row is None else Batch(**row)


async def newest_batches(connection: Connection, user_id: str | None, most: int) -> list[Batch]:
    """Return the newest batches, of one user or of all, the newest first."""
    return [Batch(**row) for row in await connection.fetch(_NEWEST, user_id, most)]


async def count_batches(connection: Connection, user_id: str | None) -> int:
    """Count the batches of one user, or all."""
    return int(await connection.fetchval(_COUNT, user_id))


async def jobs_of_batch(connection: Connection, batch_id: UUID) -> Sequence[str]:
    """Return the ids of a batch's jobs, in the order of the album; none for a batch that there isn't."""
    return await connection.fetchval(_JOBS, batch_id) or ()


async def cancel_batch(connection: Connection, batch_id: UUID) -> int:
    """Cancel the unfinished jobs of a batch, which refunds them; return how many were cancelled.

    Raises:
        asyncpg.PostgresError: P0002 if there is no such batch.
    """
    return int(await connection.fetchval(_CANCEL, batch_id))


async def retry_batch(connection: Connection, batch_id: UUID, new_id: UUID) -> UUID:
    """Submit a batch's jobs that ended without success again, as a new batch; return the new one.

    A second call with the same new id changes nothing.

    Raises:
        asyncpg.PostgresError: the submission is refused, or there is no such batch.
    """
    batch: UUID = await connection.fetchval(_RETRY, batch_id, new_id)
    return batch


async def finish_batches(connection: Connection) -> tuple[int, bool]:
    """Record and notify the end of batches whose jobs are all over; return how many, and whether others go on."""
    row = await connection.fetchrow(_FINISH, MOST_FINISHED)
    assert row is not None  # noqa: S101 - a SELECT without FROM returns a row
    return row["finished"], row["are_unfinished"]
