"""Housekeeping of jobs that no live worker holds: rescue, quarantine, maximum wait, adoption."""

import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeAlias
from uuid import UUID

import asyncpg

from config.logger import EventLogger
from models.connections import Connection, ContentionError
from models.database import Database
from models.history.error_logs import FailedAttempt, log_failed_attempts
from models.job_state import JobStatus
from models.queue.candidates import CANDIDATE_COLUMNS, CandidateJob, LostClaim, OverdueJob
from models.queue.ended import Ended, OnEnd, Settled
from models.queue.lost import DEADLINE_GRACE_S, IS_DEAD, IS_LOST, lost
from models.queue.refusal import CHECK_CONSTRAINTS_NOW, Refusal, is_of_a_row
from models.queue.refusals import end_refused, event_of, long_refused, set_aside
from models.queue.suspects import clear_others, is_killer
from models.queue.sweep import Page
from models.queue.transitions import (
    BRIEF_LOCK_TIMEOUT_MS,
    HOUSEKEEPING_LOCK_TIMEOUT_MS,
    Failed,
    Released,
    Retried,
    record_without_claim,
)

log = EventLogger(__name__)

MOST_AT_ONCE = 200

PASS_S = 1.0
"""How long, in seconds, one rescue pass makes lost claims due again before it ends other jobs."""

ENDING_S = 0.5
"""How long, in seconds, the pass then ends jobs, which may have to wait for balances that another program holds."""

ADOPTION_S = 20.0
"""How long, in seconds, adoption may take. Jobs whose row couldn't be reset in that time are queued unchanged."""

NEVER = datetime(1970, 1, 1, tzinfo=UTC)

Stops: TypeAlias = Sequence[Sequence[str]]


@dataclass(slots=True)
class Waits:
    """How long a pass waits for the locks of each job: after its first wait in vain, only briefly."""

    lock_timeout_ms: int = HOUSEKEEPING_LOCK_TIMEOUT_MS


@dataclass(frozen=True, slots=True)
class Rescued:
    """How many lost claims one rescue pass made due again, and how many jobs the pass ended."""

    requeued: int = 0
    ended: int = 0


# OFFSET 0 keeps the order apart from the condition, so that no waiting job is read in order to find claims
_CANDIDATES = f"""
SELECT {CANDIDATE_COLUMNS}, q.max_attempts, q.suspect_of, {IS_DEAD} AS is_dead,
       (SELECT count(*) FROM darkroom.stage_runs r
        WHERE r.job_id = q.job_id AND r.job_type = q.job_type AND r.event = 'rescued' AND r.stage = q.stage) AS kills
FROM (SELECT c.* FROM darkroom.job_queue c WHERE c.status = 'processing' OFFSET 0) q
WHERE q.id > $3 AND {lost("$1", "$2::timestamptz")}
ORDER BY q.id LIMIT {MOST_AT_ONCE}
"""


async def rescue_lost_claims(
    database: Database,
    not_after: datetime | None,
    settled_at: datetime | None = None,
    *,
    on_rescue: OnEnd = lambda _job: None,
) -> Rescued:
    """Make due again the claims of dead workers, and claims far past their stage's deadline.

    A rescued claim has used its attempt, and its job runs alone next (`models.queue.suspects`). A job without attempts
    left ends, and so does one that kills workers; both are refunded. Idempotent; any number of processes may run this.

    Args:
        database: where the queue is.
        not_after: the time of the database's clock until which this process may rescue claims, as
            `SessionAge.rescue_not_after` computes it; None if its session is too young to rescue any. Claims of a
            worker that has signed off, or whose death its supervisor saw, are rescued in any case.
        settled_at: the time of the database's clock by which workers with fast connections have renewed their leases
            since this process's session began; workers with slow connections get longer. None means long ago.
        on_rescue: called for each job whose claim was taken from its worker, whether it is due again or has ended.
    """
    window = (not_after or NEVER, settled_at or NEVER)
    requeued = ended = 0
    failures = []
    waits = Waits()
    for claims, most_s in zip(await _lost_claims(database, window), (PASS_S, ENDING_S), strict=True):
        until_s = time.monotonic() + most_s
        for claim, code, transition in claims:
            if time.monotonic() > until_s:
                break
            rescued = partial(_rescue, claim=claim, transition=transition, window=window)
            now = await _write(database, "rescue", claim.job, transition, rescued, waits, still=IS_LOST)
            if now is None:
                continue
            requeued += now.status == JobStatus.PENDING
            ended += now.status != JobStatus.PENDING
            on_rescue(_settled(claim.job, now))
            failures.append(_failure(claim.job, "JobRescued", code, transition.reason))
            if is_killer(claim):
                await clear_others(database, claim)
    await log_failed_attempts(database, failures)  # written last, so that a locked log table delays no rescue
    return Rescued(requeued, ended)


def _settled(job: CandidateJob, now: Ended) -> Settled:
    return Settled(job.ref.job_type, job.tier, job.stage, now)


_LostClaims: TypeAlias = list[tuple[LostClaim, str, Failed | Retried]]


async def _lost_claims(database: Database, window: tuple[datetime, datetime]) -> tuple[_LostClaims, _LostClaims]:
    """Return all lost claims, each with its transition: first those whose jobs continue, then those whose jobs end.

    The order within both is random. If jobs were ordered by age, rows that another program has locked could come first
    in every pass.
    """
    going_on: _LostClaims = []
    ending: _LostClaims = []
    last = 0
    while rows := await database.fetch(_CANDIDATES, *window, last):
        for claim in map(LostClaim.of, rows):
            code, transition = _verdict(claim)
            (ending if isinstance(transition, Failed) else going_on).append((claim, code, transition))
        if len(rows) < MOST_AT_ONCE:
            break
        last = rows[-1]["id"]
    random.shuffle(going_on)
    random.shuffle(ending)
    return going_on, ending


def _failure(job: CandidateJob, kind: str, code: str, reason: str) -> FailedAttempt:
    """Return the error log entry of an attempt that housekeeping ended: its worker is dead and writes none."""
    named = (job.ref.job_type, job.ref.job_id, job.user_id, job.stage, job.attempts)
    return FailedAttempt(*named, reason, type=kind, code=code)


def _housekeeping_write(
    job: CandidateJob, transition: Failed | Released, condition: str, value: object
) -> Callable[..., Awaitable[Ended | None]]:
    """Return a function that writes a transition of housekeeping, if `condition` still holds of the value $3."""
    return partial(record_without_claim, job_ref=job.ref, transition=transition, condition=condition, value=value)


async def _write(
    database: Database,
    name: str,
    job: CandidateJob,
    transition: Failed | Retried | Released,
    work: Callable[..., Awaitable[Ended | None]],
    waits: Waits,
    *,
    still: str = "true",
) -> Ended | None:
    """Write one job's transition. If the database refuses it, other jobs aren't affected.

    Return what the job is now.

    A refused end is recorded as such if `still` (SQL over `q`) holds. A claim that can't be
    made due again is set aside. None if the condition no longer held, a row was locked, or the job was set aside.
    """
    try:
        return await database.commit(name, partial(work, lock_timeout_ms=waits.lock_timeout_ms), retry_for_s=0)
    except ContentionError as error:
        waits.lock_timeout_ms = BRIEF_LOCK_TIMEOUT_MS
        if not is_of_a_row(error):
            return None  # a table is locked: the next pass tries again
        refusal: Refusal = error
    except asyncpg.PostgresError as error:
        refusal = error
    return await _settle_refused(database, job, transition, refusal, still, waits)


async def _settle_refused(
    database: Database,
    job: CandidateJob,
    transition: Failed | Retried | Released,
    error: Refusal,
    still: str,
    waits: Waits,
) -> Ended | None:
    """End a job whose row the database refuses to change, or set it aside.

    If the database refuses that too, the next pass tries again.
    """
    token = job.lease_token
    ended = None
    try:
        if isinstance(transition, Failed):
            same = f"q.lease_token IS NOT DISTINCT FROM $3::uuid AND {still}"
            ended = await end_refused(
                *(database, job.ref, transition, error),
                condition=same,
                value=token,
                lock_timeout_ms=waits.lock_timeout_ms,
            )
        elif token is not None:
            await set_aside(database, job.ref, error, lease_token=token, event=event_of(transition))
    except ContentionError:
        return None  # another program holds the job's balance, which is no refusal: the next pass tries again
    except asyncpg.PostgresError as again:
        error = again
    log.error("house_write_refused", job_id=job.ref.job_id, error=str(error), error_type=type(error).__name__)
    return ended


def _verdict(claim: LostClaim) -> tuple[str, Failed | Retried]:
    """Return the error code and the transition of a lost claim: its job fails, or is retried."""
    what = "its worker died" if claim.is_dead else f"it was held {DEADLINE_GRACE_S} s past its deadline"
    stage, kills = claim.job.stage, claim.kills + 1
    if is_killer(claim):
        return "QUARANTINED", Failed(stage, f"quarantined: {what} at {stage}, {kills} times; the input is kept")
    code = "WORKER_DIED" if claim.is_dead else "HELD_TOO_LONG"
    if claim.job.attempts >= claim.max_attempts:
        return code, Failed(stage, f"{what} at {stage}, and all {claim.max_attempts} attempts are used")
    return code, Retried(stage, f"{what} at {stage}", timedelta(), event="rescued")


async def _rescue(
    connection: Connection,
    claim: LostClaim,
    transition: Failed | Retried,
    window: tuple[datetime, datetime],
    lock_timeout_ms: int,
) -> Ended | None:
    not_after, settled_at = window
    return await record_without_claim(
        connection,
        claim.job.ref,
        transition,
        # If the claim has moved to another stage since, its worker was alive, and this transition would count a kill at
        # the wrong stage
        "q.lease_token = ($3::text[])[1]::uuid AND q.stage = ($3::text[])[3]"
        f" AND {lost('($3::text[])[2]::timestamptz', '($3::text[])[4]::timestamptz')}",
        [str(claim.job.lease_token), not_after.isoformat(), claim.job.stage, settled_at.isoformat()],
        lock_timeout_ms,
    )


_UNKNOWN = f"SELECT {CANDIDATE_COLUMNS} FROM darkroom.job_queue q WHERE q.lease_token = ANY ($1)"


async def release_claims(database: Database, tokens: Collection[UUID]) -> None:
    """Release claims that their own worker doesn't know of, because the database's answer to the claim got lost."""
    waits = Waits()
    for job in map(CandidateJob.of, await database.fetch(_UNKNOWN, list(tokens))):
        released = Released(job.stage)
        release = _housekeeping_write(job, released, "q.lease_token = $3", job.lease_token)
        await _write(database, "release_unknown", job, released, release, waits)


# Ids follow the order of submission, so the oldest rows are read, without an index on age; more rows are read only
# while pauses or producers hold back older jobs. Times of pauses are computed once for each queue, type and tier.
_OLD = """
WITH old AS MATERIALIZED (
        SELECT * FROM (SELECT q.id, q.job_type, q.job_id, q.user_id, q.tier, q.queue, q.stage, q.attempts, q.status,
                              q.last_error, q.created_at, q.lease_token, greatest(q.created_at, q.run_at) AS since
                       FROM darkroom.job_queue q WHERE q.id > $2 ORDER BY q.id LIMIT 1000) q
        WHERE q.created_at < now() - make_interval(secs => $1)),
    kinds AS MATERIALIZED (
        SELECT k.*, darkroom.paused_times(k.queue, k.job_type, k.tier, $3) AS times
        FROM (SELECT DISTINCT o.queue, o.job_type, o.tier FROM old o) k)
SELECT o.*, p.paused_s, extract(epoch FROM now() - o.since) - p.paused_s > $1 AS is_overdue
FROM old o JOIN kinds k USING (queue, job_type, tier)
CROSS JOIN LATERAL (SELECT darkroom.paused_s(k.times, o.since) AS paused_s) p ORDER BY o.id
"""
_PAGE = 1_000


async def overdue_jobs(database: Database, max_wait_s: float, stops: Stops = ()) -> list[str]:
    """Return the ids of jobs that haven't finished within the maximum wait, oldest first. Pauses aren't counted.

    Args:
        database: where the queue is.
        max_wait_s: the longest time from submission, or from a later time that the producer gave, to the end.
        stops: for each provider that may be asked, the names of the pauses that stop it.
    """
    return [late.job.ref.job_id async for late in _overdue(database, max_wait_s, stops)]


async def _overdue(database: Database, max_wait_s: float, stops: Stops) -> AsyncIterator[OverdueJob]:
    last = 0
    while rows := await database.fetch(_OLD, max_wait_s, last, [list(names) for names in stops]):
        for row in rows:
            if row["is_overdue"]:
                yield OverdueJob.of(row)
        if len(rows) < _PAGE:
            return
        last = rows[-1]["id"]


async def end_overdue_jobs(
    database: Database, max_wait_s: float, stops: Stops = (), *, on_end: OnEnd = lambda _job: None
) -> int:
    """End and refund jobs that haven't finished within the maximum wait; return how many.

    The arguments are those of `overdue_jobs`; `on_end` is called for each job that has ended. The stored reason names
    what the job waited for.
    """
    failures, waits = [], Waits()
    async for late in _overdue(database, max_wait_s, stops):
        job = late.job
        waited_for = late.last_error or ("its stage to finish" if late.status == "processing" else "a free worker")
        uncounted = f" (and {late.paused_s:.0f} s of operators' pauses)" if late.paused_s else ""
        failed = Failed(job.stage, f"not finished within {max_wait_s:g} s{uncounted}; it waited for: {waited_for}")
        end = _housekeeping_write(job, failed, "q.created_at = $3", late.created_at)
        if (now := await _write(database, "end_overdue", job, failed, end, waits)) is not None:
            on_end(_settled(job, now))
            failures.append(_failure(job, "JobOverdue", "MAX_WAIT_OVER", failed.reason))
    await log_failed_attempts(database, failures)
    return len(failures)


async def end_refused_jobs(database: Database, *, on_end: OnEnd = lambda _job: None) -> int:
    """End and refund jobs that the database has refused to start for an hour; return how many ended.

    `on_end` is called for each of them.
    """
    failures, waits = [], Waits()
    for refused in await long_refused(database):
        job, since = refused.job, refused.refused_since
        failed = Failed(
            job.stage, f"not started in {refused.refusals} tries since {since:%Y-%m-%d %H:%M} UTC: {refused.last_error}"
        )
        end = _housekeeping_write(job, failed, "q.refused_since = $3", since)
        if (now := await _write(database, "end_refused_job", job, failed, end, waits)) is not None:
            on_end(_settled(job, now))
            failures.append(_failure(job, "JobRefused", "REFUSED_BY_DATABASE", failed.reason))
    await log_failed_attempts(database, failures)
    return len(failures)


MOST_ADOPTED = 1_000
"""How many jobs of each table one statement adopts, and how many queue rows it deletes."""

_ADOPT = f"SELECT adopted, dropped FROM darkroom.adopt({MOST_ADOPTED}, $1, $2, $3, $4, $5, $6)"


async def adopt_jobs(
    database: Database,
    *,
    max_wait_s: float = 86_400,
    silence_s: float = 630,
    stops: Stops = (),
    page: Page | None = None,
) -> tuple[int, int]:
    """Queue unfinished jobs without a queue row, and delete queue rows without a job; return both counts.

    On tables that another tool made, nothing is queued before `db upgrade --take-over`. Nobody is charged. Jobs that
    are too old are left to `models.queue.unqueued`.

    Args:
        database: where the jobs are.
        max_wait_s: the largest age of a job; operators' pauses aren't counted.
        silence_s: a PROCESSING row that was written more recently than this may still have another worker.
        stops: as in `overdue_jobs`.
        page: which jobs and queue rows to look at; None means all of them, which takes seconds if a million jobs wait.
    """
    where = (None, 0, None) if page is None else (list(page.job_ids), page.after_id, page.last_id)
    values = (max_wait_s, silence_s, [list(names) for names in stops], *where)

    async def adopt(connection: Connection) -> tuple[int, int]:
        async with connection.transaction():
            await connection.execute(CHECK_CONSTRAINTS_NOW)
            await connection.execute(f"SET LOCAL statement_timeout = {ADOPTION_S * 1000:.0f}")
            row = await connection.fetchrow(_ADOPT, *values)
            return (row["adopted"], row["dropped"]) if row else (0, 0)

    return await database.commit("adopt", adopt)
