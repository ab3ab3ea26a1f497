"""Changes of the time at which a waiting job is due, by operators."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from models.applications.registry import table_of
from models.connections import Connection
from models.job_tables.rendering import locked_row

# The time at which the job ends unfinished is computed as in models/queue/rescue.py.
_PLACE: Final = """
SELECT q.id, q.queue, q.status, q.paused_by, q.scheduled_at, q.scheduled_at = 'infinity' AS waits_for_producer,
       now() AS now, since.at + make_interval(secs => $3::float8 + darkroom.paused_s(
           darkroom.paused_times(q.queue, q.job_type, q.tier, $4), since.at)) AS ends_at
FROM darkroom.job_queue q CROSS JOIN LATERAL (SELECT greatest(q.created_at, q.run_at) AS at) since
WHERE q.job_type = $1 AND q.job_id = $2 FOR UPDATE OF q
"""
# The maximum wait of a job that begins earlier than its producer asked for is counted from there. A job that the
# database refused to start isn't claimed by this: models/queue/refusals.py tries it again.
_NOW: Final = """
UPDATE darkroom.job_queue q
SET scheduled_at = now(), status = CASE WHEN q.refused_since IS NULL THEN 'pending' ELSE q.status END,
    ready = q.refused_since IS NULL, run_at = CASE WHEN q.run_at > now() THEN now() ELSE q.run_at END
WHERE q.id = $1 RETURNING q.scheduled_at
"""
_LATER: Final = """
UPDATE darkroom.job_queue q SET scheduled_at = $2, status = 'retrying', ready = false, paused_by = NULL,
    run_at = CASE WHEN q.run_at > $2 THEN $2 ELSE q.run_at END
WHERE q.id = $1 RETURNING q.scheduled_at
"""


@dataclass(frozen=True, slots=True)
class Place:
    """An unfinished job's place in the queue, whose row is locked.

    Attributes:
        id: of the queue row.
        queue: the queue in which the job waits.
        status: pending, processing, or retrying, which waits for `scheduled_at`.
        paused_by: name of the pause that keeps the job from being claimed; None if none does.
        scheduled_at: when the job is due.
        waits_for_producer: whether the job is due only once its producer changes its label.
        now: the database's time.
        ends_at: when the maximum wait ends the job.
    """

    id: int
    queue: str
    status: str
    paused_by: str | None
    scheduled_at: datetime
    waits_for_producer: bool
    now: datetime
    ends_at: datetime

    def at(self, when: datetime | timedelta) -> datetime:
        """Return the time that is meant: a time as it is given, a duration added to `now`."""
        return when if isinstance(when, datetime) else self.now + when


async def lock_place(
    connection: Connection, job_type: str, job_id: str, *, max_wait_s: float, stops: Sequence[Sequence[str]]
) -> Place | None:
    """Lock a job's row and then its queue row, in the caller's transaction; None if the job has no queue row.

    Args:
        connection: in a transaction.
        job_type: of the job.
        job_id: of the job.
        max_wait_s: the maximum wait, from submission on, or from a later time that the producer gave.
        stops: for each provider, the names of the pauses that stop it; their time doesn't count towards the maximum
            wait.
    """
    await connection.execute(locked_row(table_of(job_type)), job_id)
    row = await connection.fetchrow(_PLACE, job_type, job_id, max_wait_s, [list(names) for names in stops])
    return None if row is None else Place(**row)


async def make_due_now(connection: Connection, place: Place) -> datetime:
    """Make a waiting job due at once, in the transaction that has locked its place; return the time."""
    due_at: datetime = await connection.fetchval(_NOW, place.id)
    return due_at


async def make_due_later(connection: Connection, place: Place, at: datetime) -> datetime:
    """Make a waiting job due at a time, in the transaction that has locked its place; return the time."""
    due_at: datetime = await connection.fetchval(_LATER, place.id, at)
    return due_at
