"""The list of batches and one batch, of each of which so much is read as a page may cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from models.applications.registry import has_pictures
from models.connections import Connection
from models.queue.batch_lists import BatchNow, batch_now, has_queued_jobs, newest_batches_now, some_jobs_of_batch
from models.queue.job_names import key_of
from models.queue.job_rows import Job, jobs_at
from workers.operations.cursors import decoded, encoded, number_of, time_of
from workers.operations.errors import InvalidInputError, NotFoundError
from workers.process.runtime import Runtime

PAGE_BATCHES: Final = 12
"""The ids of a batch with 10,000 jobs are stored in about 100 blocks."""

PAGE_JOBS: Final = 50
LOOKED_AT_OF_ALL: Final = 100
LOOKED_AT_OF_ONE: Final = 150
_MOST_JOBS: Final = 2**31
"""No array has so many elements."""


@dataclass(frozen=True, slots=True)
class BatchesPage:
    """A page of the list: batches, the newest first, and the cursor of the next page; None if this is the last one."""

    batches: Sequence[BatchNow]
    next: str | None


@dataclass(frozen=True, slots=True)
class BatchFacts:
    """A batch and some of its jobs.

    Attributes:
        batch: the batch.
        jobs: some of its jobs, in the order of the album: the id with the job, or with None if its row is deleted.
        next: the cursor of the next jobs; None if these are the last ones.
        may_be_cancelled: whether jobs of it may be unfinished.
        may_be_retried: whether jobs of it may have ended without success.
    """

    batch: BatchNow
    jobs: Sequence[tuple[str, Job | None]]
    next: str | None
    may_be_cancelled: bool
    may_be_retried: bool


async def batches_page(runtime: Runtime, cursor: str | None = None) -> BatchesPage:
    """Return up to PAGE_BATCHES of the batches behind a cursor; none where `pictures` isn't drained.

    Raises:
        InvalidInputError: the cursor is none of this list.
    """
    behind = None
    if cursor is not None:
        at, text = decoded(cursor, 2)
        try:
            behind = (time_of(at), UUID(str(text)))
        except ValueError as error:
            raise InvalidInputError("the cursor is none of this list; begin with the first page") from error
    if not has_pictures():
        return BatchesPage((), None)
    found = await runtime.database.run(
        lambda connection: newest_batches_now(connection, PAGE_BATCHES + 1, behind, jobs=LOOKED_AT_OF_ALL)
    )
    shown = found[:PAGE_BATCHES]
    is_last = len(found) == len(shown)
    return BatchesPage(shown, None if is_last else encoded([shown[-1].created_at.isoformat(), str(shown[-1].id)]))


async def batch_facts(runtime: Runtime, name: str, cursor: str | None = None) -> BatchFacts:
    """Return a batch by its id, and up to PAGE_JOBS of its jobs.

    Raises:
        InvalidInputError: the cursor is none of this list.
        NotFoundError: there is no such batch.
    """
    batch_id = id_of_batch(name)
    first = 0 if cursor is None else min(number_of(decoded(cursor, 1)[0]), _MOST_JOBS)

    async def read(connection: Connection) -> BatchFacts:
        batch = await batch_now(connection, batch_id, jobs=LOOKED_AT_OF_ONE)
        if batch is None:
            raise batch_not_found(name)
        ids = await some_jobs_of_batch(connection, batch_id, first, PAGE_JOBS)
        there = {job.id: job for job in await jobs_at(connection, [key_of("enhance", one) for one in ids])}
        is_over = batch.finished_at is not None
        is_under_way = batch.waiting + batch.running > 0 or await has_queued_jobs(connection, batch_id)
        return BatchFacts(
            batch,
            [(one, there.get(one)) for one in ids],
            encoded([first + PAGE_JOBS]) if first + PAGE_JOBS < batch.total else None,
            may_be_cancelled=not is_over and is_under_way,
            may_be_retried=batch.over > batch.completed or batch.is_estimate,
        )

    return await runtime.database.run(read)


def id_of_batch(name: str) -> UUID:
    """Return the id that a name is, where batches can be.

    Raises:
        NotFoundError: it is no id of a batch.
    """
    try:
        batch_id = UUID(name)
    except ValueError as error:
        raise batch_not_found(name) from error
    if not has_pictures():
        raise batch_not_found(name)
    return batch_id


def batch_not_found(name: str) -> NotFoundError:
    """Return the error for a batch that there isn't."""
    return NotFoundError(f"batch {name} not found; `darkroom batches list` shows the newest")
