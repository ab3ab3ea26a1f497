"""Unfinished jobs without a queue row: taken in while they are young, ended when they are too old.

Another worker left them, a restore brought them, or a truncated queue forgot them. Young ones are queued by
`models.queue.rescue.adopt_jobs`; this file ends the old ones, and takes over the tables of another tool.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

import asyncpg
import structlog

from models.connections import Connection, ContentionError, lock_waits
from models.database import Database
from models.history.error_logs import FailedAttempt, log_failed_attempts
from models.job_state import JobStatus
from models.queue.refusals import SPEAK_NOW
from models.queue.rescue import DEADLINE_GRACE_S, adopt_jobs
from models.queue.transitions import BRIEF_LOCK_TIMEOUT_MS, HOUSE_LOCK_TIMEOUT_MS, HOUSE_STATEMENT_S

log = structlog.get_logger(__name__)

MOST_AT_ONCE: Final = 200

_FOUND: Final = "SELECT * FROM darkroom.left_behind($1, $2, $3, $4) WHERE darkroom.takes_over()"
_END: Final = "SELECT darkroom.end_left_behind($1, $2, $3, $4)"


@dataclass(frozen=True, slots=True)
class TakeInTerms:
    """What counts as young, and as left by its worker.

    Attributes:
        max_wait_s: from a job's creation on; operators' pauses not counted.
        silence_s: a row that was touched later may be in another worker's hands.
        stops: for each provider that may be asked, the names of pauses that stop it.
    """

    max_wait_s: float
    silence_s: float
    stops: Sequence[Sequence[str]] = ()

    @classmethod
    def of(cls, max_wait_s: float, deadlines_s: Sequence[float], stops: Sequence[Sequence[str]]) -> "TakeInTerms":
        """Build the terms: a worker is silent for no longer than the longest stage and its grace."""
        return cls(max_wait_s, min(max(deadlines_s) + DEADLINE_GRACE_S, max_wait_s), stops)


@dataclass(frozen=True, slots=True)
class _LeftBehind:
    """A job that is to end, as it was found: it isn't ended if another program has written its row since."""

    job_type: str
    job_id: str
    user_id: str
    status: str
    updated_at: datetime
    is_refunded: bool


@dataclass(frozen=True, slots=True)
class TakenOver:
    """How many jobs were taken in and ended, and how many are left because another worker may hold them."""

    taken_in: int
    ended: int
    left: int


async def take_in(database: Database, terms: TakeInTerms) -> tuple[int, int]:
    """Queue young jobs without a queue row, and drop queue rows without a job, as `adopt_jobs` says."""
    return await adopt_jobs(database, max_wait_s=terms.max_wait_s, silence_s=terms.silence_s, stops=terms.stops)


async def end_left_behind(database: Database, terms: TakeInTerms) -> int:
    """End, one by one, jobs without a queue row that are too old or were refunded already; return how many.

    Refunded are those that Darkroom charged, and once: a refund that the ledger has isn't paid again.
    """
    values = (terms.max_wait_s, terms.silence_s, [list(names) for names in terms.stops], MOST_AT_ONCE)
    failures, lock_timeout_ms = [], HOUSE_LOCK_TIMEOUT_MS
    for left in [_LeftBehind(**row) for row in await database.fetch(_FOUND, *values)]:
        reason = _reason(left, terms.max_wait_s)
        end = partial(_end, left=left, reason=reason, lock_timeout_ms=lock_timeout_ms)
        try:
            label = await database.commit("end_left_behind", end, patience_s=0)
        except ContentionError:  # its user's balance is held: the next pass is soon
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


def _reason(left: _LeftBehind, max_wait_s: float) -> str:
    if left.is_refunded:
        return "left by another worker, and refunded before it was finished"
    if left.status == JobStatus.PROCESSING:
        return f"left by another worker, and older than the maximum wait of {max_wait_s:g} s"
    return f"not finished within {max_wait_s:g} s: it was in nobody's queue"


async def _end(connection: Connection, left: _LeftBehind, reason: str, lock_timeout_ms: int) -> str | None:
    async with connection.transaction(), lock_waits(connection, lock_timeout_ms):
        await connection.execute(SPEAK_NOW)
        await connection.execute(f"SET LOCAL statement_timeout = {HOUSE_STATEMENT_S * 1000:.0f}")
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


async def take_over(database: Database, terms: TakeInTerms, *, actor: str) -> TakenOver:
    """Take over the unfinished jobs of another worker, now and from now on: recorded in darkroom.settings.

    Idempotent; on tables that Darkroom made schedulers do the same by themselves.
    """
    await database.commit("take_over", lambda connection: connection.execute(_PERMIT, actor))
    taken_in = ended = 0
    while (found := (await take_in(database, terms))[0]) > 0:
        taken_in += found
    while (found := await end_left_behind(database, terms)) > 0:
        ended += found
    return TakenOver(taken_in, ended, await database.fetchval(_LEFT))
