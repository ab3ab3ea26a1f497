"""Jobs whose rows the database refuses to change: they are set aside or ended, so that they don't stop other jobs.

A job that can't be started is found by claiming jobs one by one, and is set aside: its queue row keeps PostgreSQL's
message, and it is tried again alone, with a backoff. A job whose end is refused ends nevertheless, without its label
(`darkroom.end_refused`).
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final
from uuid import UUID

import asyncpg

from config.logger import EventLogger
from models.applications.registry import table_of
from models.connections import (
    LOCK_TIMEOUT_MS,
    Connection,
    ContentionError,
    is_cancelled,
    lock_waits,
)
from models.database import Database
from models.job_state import JobStatus
from models.job_tables.rendering import locked_row
from models.queue.candidates import CANDIDATE_COLUMNS, RefusedJob
from models.queue.claims import BRIEF_WAIT_MS, TRIGGER_WAIT_MS, Claim, FencedError, claim, claim_one
from models.queue.ended import Ended, ended_as
from models.queue.refusal import CHECK_CONSTRAINTS_NOW, Refusal, is_of_a_row, refusal_text, settle_refused_end, state_of
from models.queue.transitions import (
    BRIEF_LOCK_TIMEOUT_MS,
    HOUSEKEEPING_LOCK_TIMEOUT_MS,
    HOUSEKEEPING_STATEMENT_S,
    Failed,
    HandedOver,
    JobRef,
    Released,
    Retried,
    Snoozed,
    Transition,
)
from models.queue.user_keys import user_of_key

log = EventLogger(__name__)

FIRST_BACKOFF_S: Final = 2
MOST_BACKOFF_S: Final = 300
GENERAL_BACKOFF_S: Final = 15
"""Seconds between tries after an error that may concern every row: once its cause is removed, all jobs can start."""

END_AFTER_S: Final = 3_600
"""Seconds after which a job that the database refuses to start is ended, if it was refused END_AFTER_REFUSALS times."""

END_AFTER_REFUSALS: Final = 5
"""How many refusals there must be before a job is ended: while no worker runs, time passes and nothing is tried."""

GENERAL_CLASSES: Final = ("08", "0A", "25", "26", "28", "3D", "3F", "40", "42", "53", "54", "55", "57", "F0")
"""SQLSTATE classes that may concern every row alike (missing rights, a missing function, a full disk, a timeout, ...).

A job that is refused with one of these waits up to the maximum wait, in case the cause is removed.
"""

LOOK_S: Final = 0.5
"""How long, in seconds, one look may claim row by row; jobs that it has claimed start only after it."""

EMPTY_LOOK_S: Final = 1.5
"""As LOOK_S, for a look that has claimed no job yet."""

RETRIED_AT_ONCE: Final = 10

END_RETRY_S: Final = 10
"""How long, in seconds, a claim's end waits for a balance that another program holds, before the job is set aside."""

LABEL_EVERY_S: Final = 3_600
LABEL_FIRST_S: Final = 60
"""Seconds until the first retry of a write that another transaction's lock prevented: locks are soon released."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """The jobs that one look claimed.

    `refused` counts the rows that the look set aside; if it is above 0, the caller looks again at once.
    """

    claims: list[Claim] = field(default_factory=list)
    refused: int = 0


_HEAD = """
SELECT q.id, q.job_type, q.job_id FROM darkroom.job_queue q
WHERE q.queue = $1 AND q.ready AND q.status = 'pending' AND q.suspect_of IS NULL ORDER BY q.position, q.id LIMIT $2
"""
_DUE = f"""
SELECT q.id, q.job_type, q.job_id FROM darkroom.job_queue q
WHERE q.refused_since IS NOT NULL AND q.queue = $1 AND q.status = 'retrying' AND q.scheduled_at <= now()
  AND q.suspect_of IS NULL
ORDER BY q.scheduled_at LIMIT {RETRIED_AT_ONCE}
"""
_HEAD_ROWS: Final = 256


async def claim_jobs(
    database: Database, worker_id: UUID, queue: str, most: int, deadlines_s: Mapping[str, float]
) -> Claimed:
    """Claim up to `most` jobs of a queue as `models.queue.claims.claim` does, row by row if the database refuses one.

    The arguments are those of `claim`.
    """
    try:
        return Claimed(
            await database.commit("claim", lambda c: claim(c, worker_id, queue, most, deadlines_s), retry_for_s=0)
        )
    except (asyncpg.PostgresError, ContentionError) as error:
        if not is_of_a_row(error):
            raise
    jobs = await _jobs(database, _HEAD, queue, max(most, _HEAD_ROWS))
    return await claim_singly(database, jobs, worker_id, queue, most, deadlines_s, empty_s=EMPTY_LOOK_S)


async def claim_refused(
    database: Database, worker_id: UUID, queue: str, most: int, deadlines_s: Mapping[str, float]
) -> Claimed:
    """Try to claim a few of the jobs that were set aside and are due again. The arguments are those of `claim`."""
    jobs = await _jobs(database, _DUE, queue)
    return await claim_singly(database, jobs, worker_id, queue, most, deadlines_s)


async def _jobs(database: Database, sql: str, *values: object) -> list[JobRef]:
    return [JobRef(row["job_type"], row["job_id"], row["id"]) for row in await database.fetch(sql, *values)]


async def claim_singly(
    database: Database,
    jobs: list[JobRef],
    worker_id: UUID,
    queue: str,
    most: int,
    deadlines_s: Mapping[str, float],
    *,
    empty_s: float = LOOK_S,
    is_alone: bool = False,
) -> Claimed:
    """Claim up to `most` of some jobs of a queue one by one, and set aside those that the database refuses to start."""
    claims: list[Claim] = []
    refused, wait_ms = 0, TRIGGER_WAIT_MS
    began_s = time.monotonic()
    for job in jobs:
        # As long as no job is claimed, none waits to be started, so the look may take longer
        if len(claims) == most or time.monotonic() > began_s + (LOOK_S if claims else empty_s):
            break
        try:
            one = await database.commit(
                "claim_one",
                partial(
                    claim_one,
                    worker_id=worker_id,
                    queue=queue,
                    queue_id=job.queue_id,
                    deadlines_s=deadlines_s,
                    wait_ms=wait_ms,
                    is_alone=is_alone,
                ),
                retry_for_s=0,
            )
        except (asyncpg.PostgresError, ContentionError) as error:
            if not is_of_a_row(error):
                raise
            await set_aside(database, job, error)
            refused += 1
            wait_ms = BRIEF_WAIT_MS if isinstance(error, ContentionError) else wait_ms
            continue
        if one is not None:
            claims.append(one)
    return Claimed(claims, refused)


# If another process has set the row aside meanwhile, the row isn't due. If the job is claimed and its lease token
# matches, the claim is the caller's, so nobody else works on the job. The end of such a claim is written to the job's
# history, like any other release.
_SET_ASIDE = f"""
WITH held AS MATERIALIZED (
        SELECT s.id, s.job_type, s.job_id, s.stage, s.attempts, s.worker_id FROM darkroom.job_queue s
        WHERE s.id = $1 AND CASE WHEN $2::uuid IS NULL
                                 THEN s.status <> 'processing' AND (s.refused_since IS NULL OR s.scheduled_at <= now())
                                 ELSE s.lease_token = $2 END
        FOR UPDATE SKIP LOCKED),
    history AS (
        INSERT INTO darkroom.stage_runs (job_type, job_id, event, stage, attempt, worker_id, error)
        SELECT h.job_type, h.job_id, $7::text, h.stage, h.attempts, h.worker_id, $4::text
        FROM held h WHERE h.worker_id IS NOT NULL)
UPDATE darkroom.job_queue q
SET status = 'retrying', ready = false, paused_by = NULL, worker_id = NULL, lease_token = NULL, deadline_at = NULL,
    attempts = q.attempts - $6::integer, refusals = least(q.refusals, 2147483646) + 1,
    refused_since = coalesce(q.refused_since, now()), refused_state = $3, last_error = $4,
    suspect_of = CASE WHEN $7::text = 'rescued' THEN coalesce(q.suspect_of, q.worker_id) ELSE q.suspect_of END,
    scheduled_at = now() + make_interval(secs => least($5::integer, {FIRST_BACKOFF_S} * 2 ^ least(q.refusals, 16)))
FROM held WHERE q.id = held.id
RETURNING q.refusals
"""


async def set_aside(
    database: Database,
    waiting: JobRef,
    error: Refusal,
    *,
    lease_token: UUID | None = None,
    event: str = "retried",
) -> None:
    """Set aside a job whose row the database refuses to change.

    Its queue row gets the message and a time for the next try.

    Args:
        database: where the queue is.
        waiting: the job and its queue row.
        error: what PostgreSQL said.
        lease_token: token of the claim that ends with this; None if the job isn't claimed.
        event: the name of the claim's end in the job's history; `released` and `snoozed` use no attempt.
    """
    state, words = state_of(error), refusal_text(error)
    reason = f"the database refuses to {'start it' if lease_token is None else 'set it back'}: {words}"
    most_s = GENERAL_BACKOFF_S if state[:2] in GENERAL_CLASSES else MOST_BACKOFF_S
    given_back = int(event in {"released", "snoozed"})
    count = await database.commit(
        "set_aside",
        lambda c: c.fetchval(_SET_ASIDE, waiting.queue_id, lease_token, state, reason, most_s, given_back, event),
    )
    if count == 1:  # logged once per job: `darkroom doctor` and `darkroom jobs explain` show later refusals
        log.error("job_set_aside", job_id=waiting.job_id, error=words)


_LOCK_QUEUED = """
SELECT q.job_type, q.job_id, q.user_id, q.attempts, q.worker_id FROM darkroom.job_queue q
WHERE q.id = $1 AND $2::text IS NOT NULL AND {condition} FOR UPDATE{skip}
"""
_HISTORY = """
INSERT INTO darkroom.stage_runs (job_type, job_id, event, stage, attempt, worker_id, duration_ms, error)
VALUES ($1, $2, 'failed', $3, $4, $5, $6, $7)
"""
_END = """
SELECT darkroom.end_refused(
    ROW($1::text, $2::text, $3::text, 'FAILED', NULL, $4::text)::darkroom.change, NULL, $5, $6)
"""


async def end_refused(
    database: Database,
    job_ref: JobRef,
    failed: Failed,
    error: Refusal,
    *,
    condition: str,
    value: object,
    waits: bool = False,
    lock_timeout_ms: int = HOUSEKEEPING_LOCK_TIMEOUT_MS,
) -> Ended | None:
    """End a job although the database refused to write its end. Return what it is; None if `condition` doesn't hold.

    First only the label is written, unless the refused end took too long. If the label alone is refused too, the queue
    row is deleted without it, the refund is paid or recorded as owed, and `darkroom.refused_ends` keeps the label;
    `settle_refused_ends` tries to write it each hour.

    Args:
        database: where the queue is.
        job_ref: the job and its queue row.
        failed: the end that was refused.
        error: what PostgreSQL said.
        condition: SQL over `q` (the locked queue row), with `$3` for `value`.
        value: what `condition` compares with.
        waits: whether to wait for locks, as a claim's own write does; if False, locked rows are left to the next pass.
        lock_timeout_ms: how long to wait for a balance if `waits` is false.
    """
    skip = "" if waits else " SKIP LOCKED"
    is_late = is_cancelled(error)
    lock_job = locked_row(table_of(job_ref.job_type), skip)

    async def write(connection: Connection) -> Ended | None:
        async with connection.transaction(), lock_waits(connection, LOCK_TIMEOUT_MS if waits else lock_timeout_ms):
            await connection.execute(CHECK_CONSTRAINTS_NOW)
            await connection.execute(f"SET LOCAL statement_timeout = {HOUSEKEEPING_STATEMENT_S * 1000:.0f}")
            if await connection.fetchval(lock_job, job_ref.job_id) is None:
                return None
            held = await connection.fetchrow(
                _LOCK_QUEUED.format(condition=condition, skip=skip), job_ref.queue_id, job_ref.job_id, value
            )
            if held is None:
                return None
            await connection.execute(
                _HISTORY,
                *(held["job_type"], held["job_id"], failed.stage, held["attempts"], held["worker_id"]),
                *(failed.duration_ms, failed.reason),
            )
            label = await connection.fetchval(
                _END,
                held["job_type"],
                held["job_id"],
                user_of_key(held["job_type"], held["user_id"]),
                failed.reason,
                refusal_text(error),
                not is_late,
            )
            key = (job_ref.job_type, job_ref.job_id)
            return None if label is None else await ended_as(connection, *key, JobStatus(label))  # None: it was deleted

    ended = await database.commit("end_refused", write, retry_for_s=END_RETRY_S if waits else 0)
    if ended is not None:
        log.error("job_end_recorded", job_id=job_ref.job_id, label=ended.status, error=refusal_text(error))
    return ended


def event_of(transition: Transition) -> str:
    """Return the name, in the job's history, of a transition after which the job continues."""
    match transition:
        case Released() | HandedOver():
            return "released"
        case Snoozed():
            return "snoozed"
        case Retried():
            return transition.event
        case _:
            return "retried"


async def settle_refused(database: Database, held: Claim, transition: Transition, error: Exception) -> Ended | None:
    """Finish the write of a transition that the database refused: end the job, or set it aside.

    Return what became of a job that has ended; None if it was set aside.

    Raises:
        FencedError: another worker holds the job, or it is over; nothing was written.
        Exception: `error` itself, if it didn't come from PostgreSQL.
    """
    if not isinstance(error, Refusal):
        raise error
    job_ref = JobRef(held.job_type, held.job_id, held.id)
    if not isinstance(transition, Failed):
        await set_aside(database, job_ref, error, lease_token=held.lease_token, event=event_of(transition))
        return None
    try:
        ended = await end_refused(
            database, job_ref, transition, error, condition="q.lease_token = $3", value=held.lease_token, waits=True
        )
    except ContentionError:  # its row or its balance is locked for long, so a next claim would fail in the same way
        await set_aside(database, job_ref, error, lease_token=held.lease_token)
        return None
    if ended is None:
        raise FencedError(f"{held.job_type} job {held.job_id} is no longer held by this claim")
    return ended


_LONG_REFUSED = f"""
SELECT {CANDIDATE_COLUMNS}, q.last_error, q.refused_since, q.refusals
FROM darkroom.job_queue q CROSS JOIN (SELECT coalesce(darkroom.setting('pauses'), '{{}}') AS now) p
WHERE q.refused_since < now() - interval '{END_AFTER_S} seconds' AND q.refusals >= {END_AFTER_REFUSALS}
  AND q.status = 'retrying' AND left(q.refused_state, 2) <> ALL ($1)
  AND NOT p.now ? ('queue:' || q.queue) AND darkroom.pause_of(q.job_type, q.tier, p.now) IS NULL
ORDER BY q.refused_since LIMIT 200
"""


async def long_refused(database: Database) -> list[RefusedJob]:
    """Return the jobs that the database has refused to start for END_AFTER_S."""
    return [RefusedJob.of(row) for row in await database.fetch(_LONG_REFUSED, list(GENERAL_CLASSES))]


_UNSETTLED = f"""
SELECT r.job_type, r.job_id FROM darkroom.refused_ends r
WHERE r.tried_at < now() - interval '{LABEL_EVERY_S} seconds'
   OR r.tries = 1 AND r.tried_at < now() - interval '{LABEL_FIRST_S} seconds' ORDER BY r.tried_at LIMIT 200
"""


async def settle_refused_ends(database: Database) -> int:
    """Try again to write the labels and refunds of ends that the database refused; return how many ends got both.

    Each end is tried by itself, so that one that is refused again doesn't stop the others. An end is left out if its
    last try was less than an hour ago, or, after a single try, less than a minute ago. A call tries up to 200 ends.
    """
    settled, lock_timeout_ms = 0, HOUSEKEEPING_LOCK_TIMEOUT_MS
    for row in await database.fetch(_UNSETTLED):
        settle = partial(_settle, key=(row["job_type"], row["job_id"]), lock_timeout_ms=lock_timeout_ms)
        try:
            settled += await database.commit("settle_refused", settle, retry_for_s=0)
        except ContentionError:  # another program holds the job's row or balance: the next pass tries again
            lock_timeout_ms = BRIEF_LOCK_TIMEOUT_MS
        except asyncpg.PostgresError as error:
            log.error("house_write_refused", job_id=row["job_id"], error=str(error), error_type=type(error).__name__)  # noqa: TRY400 - the refusal is PostgreSQL's: our stack says nothing
    return settled


async def _settle(connection: Connection, key: tuple[str, str], lock_timeout_ms: int) -> bool:
    async with connection.transaction(), lock_waits(connection, lock_timeout_ms):
        await connection.execute(CHECK_CONSTRAINTS_NOW)
        await connection.execute(f"SET LOCAL statement_timeout = {HOUSEKEEPING_STATEMENT_S * 1000:.0f}")
        return await settle_refused_end(connection, *key)
