"""What an idle worker looks at: whether there is work, and whether a job has entered since it looked."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from config.values import value
from models.connections import Connection
from models.queue.fair import ASKS, UNCHECKED

_ENTERED = "coalesce(pg_sequence_last_value('darkroom.job_queue_id_seq'), 0)"

_HAS_WORK = f"""
SELECT EXISTS (SELECT FROM darkroom.job_queue q WHERE q.status = 'processing')
    OR EXISTS (SELECT FROM darkroom.job_queue q WHERE q.status = 'retrying' AND q.scheduled_at <= now())
    OR EXISTS (SELECT FROM darkroom.job_queue q WHERE q.paused_by IS NOT NULL)
    OR EXISTS (SELECT FROM darkroom.job_queue q WHERE q.queue = ANY ($1) AND q.ready AND q.status = 'pending')
    OR {ASKS} OR {UNCHECKED}
       AS has_work, {_ENTERED} AS entered, darkroom.setting('stage_queues') AS stage_queues,
       (SELECT s.updated_at FROM darkroom.settings s WHERE s.key = 'applications') AS applications_at
"""


@value
class QueueNow:
    """What a worker has to know before it looks for jobs.

    Attributes:
        has_work: whether rescue, wake-ups or a claim from its queues could find anything. It is False while they have
            only jobs whose waiting time isn't over, or none at all. An idle worker then needs no further statement.
        entered: what `entered_jobs` returns.
        stage_queues: the queues of stages that are recorded; None if none are.
        applications_at: when the applications were recorded that processes drain; None if none are.
    """

    has_work: bool
    entered: int
    stage_queues: Mapping[str, str] | None
    applications_at: datetime | None


async def look_at_queue(connection: Connection, queues: Sequence[str]) -> QueueNow:
    """Return what a worker of some queues has to know before it looks for jobs."""
    row = await connection.fetchrow(_HAS_WORK, list(queues))
    if row is None:
        raise AssertionError("unreachable: a SELECT without FROM has a row")
    return QueueNow(*row)


_ASK: Final = "SELECT coalesce(bool_or(darkroom.ask_for_wake_up(q)), false) FROM unnest($1::text[]) q"


async def ask_for_wake_up(connection: Connection, queues: Sequence[str]) -> bool:
    """Request a notification when the next job enters one of some queues. Call this after a claim found no job.

    Return True if for one of them no other request was open. The caller must then look for jobs once more, because a
    job that entered between its look and this request caused no notification.
    """
    is_first: bool = await connection.fetchval(_ASK, list(queues))
    return is_first


async def entered_jobs(connection: Connection) -> int:
    """Return how many jobs have ever entered the queue, including jobs whose transaction was rolled back."""
    return int(await connection.fetchval(f"SELECT {_ENTERED}"))
