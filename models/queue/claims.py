"""Claims: how a worker claims jobs, and how it asks for a wake-up if there was no job to claim."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from functools import lru_cache
from typing import Final
from uuid import UUID

from asyncpg import PostgresError, Record

from config.values import value
from models.applications.registry import job_tables
from models.connections import LOCK_TIMEOUT_MS, Connection
from models.job_state import JobStatus
from models.job_tables.rendering import FINISHED, NEXT, as_id, assigned, label, labels, now, shown_stage, types
from models.job_tables.table import JobTable
from models.queue.fair import ASKS, admit
from models.queue.pauses import HELD_AT_ONCE, RESUMED, hold_paused
from models.queue.user_keys import user_of_key


class ClaimLostError(Exception):
    """Raised when another worker holds the job, or the job is over.

    Nothing was written, and the caller must write nothing more for the job.
    """


class FencedError(ClaimLostError):
    """Raised when the fence refused a write, because the claim is lost."""


@value
class Claim:
    """A worker's hold on one job, from the claim to its end.

    `attempt` counts from 1 and includes this one. `lease_token` is new with
    each claim, and every write of the claim is compared with it. `first_wait_s`
    is how long the job has waited since it could have begun; None unless this is
    its first claim.
    """

    id: int
    job_type: str
    job_id: str
    user_id: str
    queue: str
    stage: str
    attempt: int
    max_attempts: int
    worker_id: UUID
    lease_token: UUID
    created_at: datetime
    tier: str = ""
    first_wait_s: float | None = None

    @classmethod
    def from_row(cls, row: Record) -> "Claim":
        """Build a claim from a row of the statement that claims, whose columns begin in the order of the attributes.

        The queue has the user's key.
        """
        number, job_type, job_id, key, *others = row[:_ATTRIBUTES]
        return cls(number, job_type, job_id, user_of_key(job_type, key), *others)


_ATTRIBUTES: Final = len(fields(Claim))

TRIGGER_WAIT_MS = 100
"""How long, in ms, a claim of many jobs waits for a lock that a trigger of the application's needs."""

BRIEF_WAIT_MS = 1
"""As TRIGGER_WAIT_MS, for a claim of one job after such a lock was met: many rows may be waiting for the same lock."""

CLAIM_S = 5.0
CLAIM_ONE_S = 1.0
"""How long, in seconds, the statement that claims jobs may take.

If a trigger is slow, the statement fails, and the jobs are claimed one by one, so that the others can start.
"""

_MOST = 2_147_483_647
"""PostgreSQL's largest integer. Counters stop at it, because incrementing them further would be an error."""


def _locked(table: JobTable) -> str:
    # A finished job has a queue row only if its own row was written while our triggers were disabled. Its claim must
    # not pay a provider again. A row that was changed between the statement's snapshot and its lock can't be written
    # at the place where it is now, so it counts as locked.
    return f"""{table.rows} AS MATERIALIZED (
        SELECT p.*, l.job_at, l.job_in FROM due p CROSS JOIN LATERAL (
            SELECT j.ctid AS job_at, j.tableoid AS job_in FROM {table.name} j
            WHERE j.{table.id_column} = {as_id(table, "p.job_id")} AND p.job_type IN ({types(table)})
              AND j.{table.status_column} NOT IN ({labels(table, FINISHED)})
            FOR NO KEY UPDATE SKIP LOCKED) l
        WHERE EXISTS (SELECT FROM {table.name} s WHERE s.ctid = l.job_at AND s.tableoid = l.job_in))"""


def _started(table: JobTable) -> str:
    set_to = [f"{table.status_column} = {label(table, JobStatus.PROCESSING)}"]
    if stage := table.stage_column:
        set_to.append(shown_stage(stage, "c.stage"))
    if run := table.run_column:
        # A value that the producer wrote is kept; a value that an earlier claim wrote is replaced
        set_to.append(f"""{run} = CASE WHEN coalesce(j.{run}, '') IN ('', c.earlier_token::text)
                                 THEN c.lease_token::text ELSE j.{run} END""")
    if started := table.started_column:
        set_to.append(f"{started} = coalesce(j.{started}, {now(table)})")
    return f"""started_{table.rows} AS (
        UPDATE {table.name} j
        SET {assigned(table, set_to, NEXT)}
        FROM claimed c WHERE j.ctid = c.job_at AND j.tableoid = c.job_in AND c.job_type IN ({types(table)})
        RETURNING c.id, j.{table.status_column} = {label(table, JobStatus.PROCESSING)} AS is_started)"""


# Queue rows are locked first, then job rows, both with SKIP LOCKED, so a claim never waits and can't deadlock. A queue
# row whose job row another program holds is postponed by a second; otherwise it would stay at the head of the queue for
# as long as that program holds it. A worker process whose lease is over, as after it was stopped for a while, claims
# nothing until the lease is renewed: its jobs would be rescued at once. The statement looks at `look_at` rows and
# claims up to $2. It returns a row of NULLs if it claimed nothing. A token is made of a random number of its statement
# and of the row's id, because a PostgreSQL without OpenSSL opens a device for each random number.
def _claim(look_at: int) -> str:
    """Return the statement that claims jobs. The limit is part of its text.

    With the limit as a parameter, PostgreSQL expects a tenth of the queue and plans
    anew for each claim, or reads whole tables. Measured with 5,000 queued jobs:
    2.7 ms a claim instead of 0.9 ms.
    """
    which = "q.ready AND q.status = 'pending' AND q.suspect_of IS NULL"
    return _claim_of(job_tables(), which, look_at, is_drained=_IS_DRAINED)


_IS_DRAINED: Final = "(SELECT count(*) FROM picked) < {look_at}"


@lru_cache
def _claim_of(
    tables: tuple[JobTable, ...],
    which: str,
    look_at: int,
    wait_ms: int = TRIGGER_WAIT_MS,
    *,
    is_drained: str = "false",
) -> str:
    locked, started = (",\n    ".join(render(table) for table in tables) for render in (_locked, _started))
    free = " UNION ALL ".join(f"SELECT * FROM {table.rows}" for table in tables)
    all_started = " UNION ALL ".join(f"SELECT s.id FROM started_{table.rows} s WHERE s.is_started" for table in tables)
    is_drained = is_drained.format(look_at=look_at)
    # The last column restores the usual lock_timeout, because triggers that run after the statement, and the commit,
    # may have to wait for other transactions.
    return f"""
WITH pauses AS MATERIALIZED (
        SELECT darkroom.setting('pauses') AS now, set_config('lock_timeout', '{wait_ms}', true)),
    picked AS MATERIALIZED (
        SELECT q.ctid AS queue_at, q.id, q.job_type, q.job_id, q.tier, q.position, q.units,
               q.run_token AS earlier_token
        FROM darkroom.job_queue q
        WHERE q.queue = $1 AND {which}
          AND (SELECT coalesce(NOT s.now ? ('queue:' || $1::text), true) FROM pauses s)
          AND EXISTS (SELECT FROM darkroom.workers w WHERE w.id = $3 AND w.lease_expires_at > now())
        ORDER BY q.position, q.id LIMIT {look_at} FOR UPDATE SKIP LOCKED),
    due AS MATERIALIZED (
        SELECT p.* FROM picked p CROSS JOIN pauses s WHERE darkroom.pause_of(p.job_type, p.tier, s.now) IS NULL),
    {locked},
    free AS MATERIALIZED ({free}),
    taken AS MATERIALIZED (
        SELECT f.*, (left((SELECT gen_random_uuid()::text), 24) || lpad(to_hex(f.id), 12, '0'))::uuid AS token
        FROM free f ORDER BY f.position, f.id LIMIT $2),
    advanced AS MATERIALIZED (
        SELECT darkroom.advance(max(t.position + least(t.units, 1000000)), {is_drained}, $1)
        FROM taken t
        HAVING count(*) > 0),
    claimed AS (
        UPDATE darkroom.job_queue q
        SET status = 'processing', ready = false, worker_id = $3, lease_token = taken.token, run_token = taken.token,
            attempts = least(q.attempts, {_MOST - 1}) + 1, started_at = now(),
            claimed_at = coalesce(q.claimed_at, now()),
            refusals = 0, refused_since = NULL, refused_state = NULL,
            notified_at = CASE WHEN q.notified_at > now() - interval '1 second' THEN q.notified_at ELSE now() END,
            deadline_at = now() + make_interval(secs => ($4::jsonb ->> q.stage)::float8)
        FROM taken WHERE q.ctid = taken.queue_at
        RETURNING q.*, taken.earlier_token, taken.job_at, taken.job_in),
    stepped_aside AS (
        UPDATE darkroom.job_queue q
        SET status = 'retrying', ready = false, scheduled_at = now() + interval '1 second'
        FROM due p WHERE q.ctid = p.queue_at AND p.id NOT IN (SELECT f.id FROM free f)
        RETURNING q.id),
    {started},
    history AS (
        INSERT INTO darkroom.stage_runs (job_type, job_id, event, stage, attempt, worker_id, output)
        SELECT c.job_type, c.job_id, 'claimed', c.stage, c.attempts, c.worker_id, nullif(c.payload, '{{}}')
        FROM claimed c)
SELECT c.id, c.job_type, c.job_id, c.user_id, c.queue, c.stage, c.attempts, c.max_attempts, c.worker_id,
       c.lease_token, c.created_at, c.tier,
       CASE WHEN c.claimed_at = c.started_at
            THEN extract(epoch FROM c.claimed_at - greatest(c.created_at, c.run_at))::float8 END AS first_wait_s,
       aside.is_any AS has_stepped_aside,
       (SELECT count(*) FROM picked) > (SELECT count(*) FROM due) AS has_paused, {ASKS} AS has_asking,
       CASE WHEN c.notified_at = now() THEN darkroom.notify_job(c.job_type, c.job_id, 'PROCESSING', c.stage) END,
       CASE WHEN c.id IS NOT NULL AND c.id NOT IN (SELECT s.id FROM ({all_started}) s)
            THEN darkroom.refuse_change(c.job_id, 'PROCESSING') END,
       set_config('lock_timeout', '{LOCK_TIMEOUT_MS}', true)
FROM (SELECT count(*) > 0 AS is_any FROM stepped_aside) aside CROSS JOIN (SELECT count(*) FROM advanced) moved
LEFT JOIN claimed c ON true
ORDER BY c.position, c.id
"""


_MOST_LOOKED_AT = 1_000
_WIDER = 4
_MOST_HELD = 20_000


async def claim(
    connection: Connection, worker_id: UUID, queue: str, most: int, deadlines_s: Mapping[str, float]
) -> list[Claim]:
    """Claim up to `most` jobs of a queue, in the order of their positions. Each statement commits by itself.

    Jobs that wait for their position or a slot (`models.queue.fair`) get it here, after the claim that has seen
    them.

    Normally one statement is run. Rows that it finds locked are left for later; if there were any, further statements
    look at the rows behind them, each at more rows than the last, so that a program that locks many jobs doesn't leave
    lanes idle. A claim that meets rows of a job type or tier that an operator has paused takes them out of the index
    that claims read, so that no later claim reads them.

    Args:
        connection: a connection that is in no transaction.
        worker_id: the process that will hold the jobs.
        queue: the queue's name.
        most: the largest number of jobs to claim, at least 1.
        deadlines_s: seconds after which a claim is taken from its worker, by stage name.

    Raises:
        asyncpg.PostgresError: the database refused one of the rows, and this call claimed no job
            (`models.queue.refusals`). If an earlier statement of the call claimed jobs, they are returned instead,
            whatever later statement fails.
    """
    claims: list[Claim] = []
    held = 0
    look_at = 1 << (most - 1).bit_length()  # a power of two, so that there are few different statements
    try:
        while True:
            rows = await connection.fetch(
                _claim(look_at), queue, most - len(claims), worker_id, dict(deadlines_s), timeout=CLAIM_S
            )
            claims += [Claim.from_row(row) for row in rows if row["id"] is not None]
            # Slots are given even if these claims are enough: other processes may have free lanes
            are_admitted = rows[0]["has_asking"] and await admit(connection) > 0
            if len(claims) == most:
                return claims
            if are_admitted:
                continue
            if rows[0]["has_paused"] and held < _MOST_HELD:
                held += HELD_AT_ONCE
                await hold_paused(connection, queue)
            elif rows[0]["has_stepped_aside"] and look_at <= _MOST_LOOKED_AT:
                look_at *= _WIDER
            else:
                return claims
    except (PostgresError, TimeoutError):
        if claims and not connection.is_in_transaction():
            return claims  # these claims are committed, so they are returned; the next call meets the refusal again
        raise


_ONE = """q.id = $5 AND (q.ready AND q.status = 'pending'
                          OR q.refused_since IS NOT NULL AND q.status = 'retrying' AND q.scheduled_at <= now())"""


def _claim_one(wait_ms: int, *, is_alone: bool) -> str:
    return _claim_of(job_tables(), f"{_ONE} AND q.suspect_of IS {'NOT ' if is_alone else ''}NULL", 1, wait_ms)


async def claim_one(
    connection: Connection,
    worker_id: UUID,
    queue: str,
    queue_id: int,
    deadlines_s: Mapping[str, float],
    *,
    wait_ms: int = TRIGGER_WAIT_MS,
    is_alone: bool = False,
) -> Claim | None:
    """Claim one job by the id of its queue row. Return None if it isn't due, is paused, or is held by another worker.

    `wait_ms` is TRIGGER_WAIT_MS or BRIEF_WAIT_MS. A process that runs nothing else (`is_alone`) claims only suspects
    (`models.queue.suspects`), and any other process claims none.

    Raises:
        asyncpg.PostgresError: the database refused this row.
    """
    statement = _claim_one(wait_ms, is_alone=is_alone)
    (row,) = await connection.fetch(statement, queue, 1, worker_id, dict(deadlines_s), queue_id, timeout=CLAIM_ONE_S)
    return Claim.from_row(row) if row["id"] is not None else None


# Rows are locked in the order of the arrays, which is that of the ids, and those that others hold are left out
_PROLONG = """
WITH held AS MATERIALIZED (
        SELECT q.at, w.left_s FROM unnest($1::bigint[], $2::uuid[], $3::float8[]) w (id, lease_token, left_s)
        CROSS JOIN LATERAL (
            SELECT q.ctid AS at FROM darkroom.job_queue q
            WHERE q.id = w.id AND q.lease_token = w.lease_token FOR UPDATE SKIP LOCKED) q)
UPDATE darkroom.job_queue q SET deadline_at = greatest(q.deadline_at, now() + make_interval(secs => held.left_s))
FROM held WHERE q.ctid = held.at RETURNING q.id
"""


async def prolong(connection: Connection, held: Sequence[tuple[Claim, float]]) -> set[int]:
    """Extend the deadlines of claims, each to at least so many seconds from now.

    Return the ids of those that were extended. Claims that are lost, or whose rows others hold, aren't changed.
    """
    ordered = sorted(held, key=lambda one: one[0].id)
    ids, tokens = [claim.id for claim, _ in ordered], [claim.lease_token for claim, _ in ordered]
    rows = await connection.fetch(_PROLONG, ids, tokens, [left_s for _, left_s in ordered])
    return {row["id"] for row in rows}


# Ordered by id and with SKIP LOCKED, because many processes run this at once. The ids are an array, because a plan that
# was made for an empty queue may run a subquery anew for each row. Jobs that the database refused to start are left
# out: they are tried again one by one (models/queue/refusals.py), so that they don't fail the next claim of many jobs.
# RESUMED is here because the process that took rows out for a pause may have died before it put them back.
_WAKE = f"""
WITH RECURSIVE {RESUMED},
    woken AS (
        UPDATE darkroom.job_queue q SET status = 'pending', ready = true
        WHERE q.id = ANY (ARRAY(SELECT w.id FROM darkroom.job_queue w
                                WHERE w.status = 'retrying' AND w.scheduled_at <= now() AND w.refused_since IS NULL
                                ORDER BY w.scheduled_at LIMIT 1000 FOR UPDATE SKIP LOCKED))
        RETURNING q.queue)
SELECT queue FROM woken UNION SELECT queue FROM resumed
"""


async def wake_due(connection: Connection) -> set[str]:
    """Make claimable the jobs whose waiting time or pause is over; return the queues that have new work."""
    return {row["queue"] for row in await connection.fetch(_WAKE)}


async def ready_queues(connection: Connection) -> set[str]:
    """Return the queues that have jobs which can be claimed now, or as soon as a claimer has given them a position."""
    rows = await connection.fetch(
        """SELECT DISTINCT q.queue FROM darkroom.job_queue q WHERE q.ready AND q.status = 'pending'
           UNION SELECT q.queue FROM darkroom.job_queue q WHERE q.held_by = 'tag' AND q.status = 'pending'"""
    )
    return {row["queue"] for row in rows}
