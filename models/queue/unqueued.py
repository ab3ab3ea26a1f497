"""Unfinished jobs without a queue row: those young enough are adopted into the queue, the others are ended.

Such jobs belonged to another worker, came with a restored backup, or lost their queue rows when the queue was
truncated. `models.queue.rescue.adopt_jobs` queues the young ones. This module ends the old ones, and takes over the
jobs of tables that another tool made.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

import asyncpg

from config.logger import EventLogger
from models.connections import Connection, ContentionError, lock_waits
from models.database import Database
from models.history.error_logs import FailedAttempt, log_failed_attempts
from models.job_state import JobStatus
from models.queue.lost import DEADLINE_GRACE_S
from models.queue.refusal import CHECK_CONSTRAINTS_NOW
from models.queue.rescue import MOST_ADOPTED, adopt_jobs
from models.queue.sweep import Page
from models.queue.transitions import BRIEF_LOCK_TIMEOUT_MS, HOUSEKEEPING_LOCK_TIMEOUT_MS, HOUSEKEEPING_STATEMENT_S

log = EventLogger(__name__)

MOST_AT_ONCE: Final = 200

_FOUND: Final = "SELECT * FROM darkroom.left_behind($1, $2, $3, $4, $5) WHERE darkroom.takes_over()"
_END: Final = "SELECT darkroom.end_left_behind($1, $2, $3, $4)"


@dataclass(frozen=True, slots=True)
class AdoptionTerms:
    """Which unqueued jobs are young enough to be adopted, and how to tell that no other worker runs them any more.

    Attributes:
        max_wait_s: the largest age of a job, from its creation on; operators' pauses aren't counted.
        silence_s: a PROCESSING row that was written more recently than this may still have another worker.
        stops: for each provider that may be asked, the names of the pauses that stop it.
    """

    max_wait_s: float
    silence_s: float
    stops: Sequence[Sequence[str]] = ()

    @classmethod
    def of(cls, max_wait_s: float, deadlines_s: Sequence[float], stops: Sequence[Sequence[str]]) -> "AdoptionTerms":
        """Return the terms for a maximum wait, the stages' deadlines, and pauses.

        `silence_s` becomes the longest deadline and its grace period: a job's worker writes at least that often.
        """
        return cls(max_wait_s, min(max(deadlines_s) + DEADLINE_GRACE_S, max_wait_s), stops)


@dataclass(frozen=True, slots=True)
class _UnqueuedJob:
    """An unqueued job that is to be ended, as it was read. If its row has been written since, it isn't ended."""

    job_type: str
    job_id: str
    user_id: str
    status: str
    updated_at: datetime
    is_refunded: bool


@dataclass(frozen=True, slots=True)
class TakeOverCounts:
    """How many jobs were adopted, how many ended, and how many left because another worker may still run them."""

    taken_in: int
    ended: int
    left: int


async def adopt_unqueued_jobs(database: Database, terms: AdoptionTerms, page: Page | None = None) -> tuple[int, int]:
    """Queue young jobs without a queue row, and delete queue rows without a job, as `adopt_jobs` does.

    All jobs and queue rows of a page are done. Without a page, one call does no more than one statement takes, and the
    caller repeats it until nothing is left.
    """
    all_adopted = all_dropped = 0
    while True:
        adopted, dropped = await adopt_jobs(
            database, max_wait_s=terms.max_wait_s, silence_s=terms.silence_s, stops=terms.stops, page=page
        )
        all_adopted, all_dropped = all_adopted + adopted, all_dropped + dropped
        if page is None or max(adopted, dropped) < MOST_ADOPTED:
            return all_adopted, all_dropped


async def end_unqueued_jobs(database: Database, terms: AdoptionTerms, page: Page | None = None) -> int:
    """End, one by one, unqueued jobs that are too old or were already refunded. Return how many were ended.

    Jobs that Darkroom charged are refunded, each once: a refund that the ledger has already isn't paid again. If `page`
    is None, all jobs are looked at.
    """
    if page is not None and not page.job_ids:
        return 0
    job_ids = None if page is None else list(page.job_ids)
    values = (terms.max_wait_s, terms.silence_s, [list(names) for names in terms.stops], MOST_AT_ONCE, job_ids)
    failures, lock_timeout_ms = [], HOUSEKEEPING_LOCK_TIMEOUT_MS
    for left in [_UnqueuedJob(**row) for row in await database.fetch(_FOUND, *values)]:
        reason = _reason(left, terms.max_wait_s)
        end = partial(_end, left=left, reason=reason, lock_timeout_ms=lock_timeout_ms)
        try:
            label = await database.commit("end_left_behind", end, retry_for_s=0)
        except ContentionError:  # another program holds the user's balance: the next pass tries again
            lock_timeout_ms = BRIEF_LOCK_TIMEOUT_MS
            continue
        except asyncpg.PostgresError as error:
            log.error("house_write_refused", job_id=left.job_id, error=str(error), error_type=type(error).__name__)  # noqa: TRY400 - the refusal is PostgreSQL's: our stack says nothing
            continue
        if label is not None:
            failures.append(
                FailedAttempt(
                    *(left.job_type, left.job_id, left.user_id, "", 0, reason),
                    type="JobLeftBehind",
                    code="LEFT_BEHIND",
                )
            )
    await log_failed_attempts(database, failures)
    return len(failures)


def _reason(left: _UnqueuedJob, max_wait_s: float) -> str:
    if left.is_refunded:
        return "left by another worker, and refunded before it was finished"
    if left.status == JobStatus.PROCESSING:
        return f"left by another worker, and older than the maximum wait of {max_wait_s:g} s"
    return f"not finished within {max_wait_s:g} s: it was in nobody's queue"


async def _end(connection: Connection, left: _UnqueuedJob, reason: str, lock_timeout_ms: int) -> str | None:
    async with connection.transaction(), lock_waits(connection, lock_timeout_ms):
        await connection.execute(CHECK_CONSTRAINTS_NOW)
        await connection.execute(f"SET LOCAL statement_timeout = {HOUSEKEEPING_STATEMENT_S * 1000:.0f}")
        label: str | None = await connection.fetchval(_END, left.job_type, left.job_id, left.updated_at, reason)
        return label


_PERMIT: Final = """
INSERT INTO darkroom.settings (key, value) VALUES ('take_over', jsonb_build_object('actor', $1::text, 'at', now()))
ON CONFLICT (key) DO NOTHING
"""
_LEFT: Final = """
SELECT count(*) FROM darkroom.job_rows('{PROCESSING}') j
WHERE NOT EXISTS (SELECT FROM darkroom.job_queue q WHERE q.job_id = j.id AND q.job_type = j.type)
  AND NOT EXISTS (SELECT FROM darkroom.refused_ends r
                  WHERE r.job_id = j.id AND r.job_type = j.type AND r.label IS NOT NULL)
"""


async def take_over(database: Database, terms: AdoptionTerms, *, actor: str) -> TakeOverCounts:
    """Take over the unfinished jobs that another worker left, now and in future.

    The decision is stored in darkroom.settings.

    Idempotent. On tables that Darkroom made, schedulers do this without a command.
    """
    await database.commit("take_over", lambda connection: connection.execute(_PERMIT, actor))
    taken_in = ended = 0
    while (found := (await adopt_unqueued_jobs(database, terms))[0]) > 0:
        taken_in += found
    while (found := await end_unqueued_jobs(database, terms)) > 0:
        ended += found
    return TakeOverCounts(taken_in, ended, await database.fetchval(_LEFT))
