"""What became of a job that ended: its status, and how many tokens its payer got back."""

from collections.abc import Callable
from typing import Final, TypeAlias

from config.values import value
from models.connections import Connection
from models.job_state import JobStatus
from models.money.job_money import refunded


@value
class Ended:
    """The status that a job has now, and the tokens of its refund; None if it wasn't refunded."""

    status: JobStatus
    refunded_tokens: int | None = None


@value
class Settled:
    """A job of which housekeeping has written a transition, the stage at which it was, and what it is now."""

    job_type: str
    tier: str
    stage: str
    now: Ended


OnEnd: TypeAlias = Callable[[Settled], None]
"""A function that is told, after each commit, of the job of which a pass has written a transition."""


async def ended_as(connection: Connection, job_type: str, job_id: str, status: JobStatus | None = None) -> Ended | None:
    """Return what became of a job. In the transaction of its end it sees the refund that this end pays.

    Args:
        connection: where to read.
        job_type: the job's type.
        job_id: its id.
        status: its status, if that is known, so that only a refund has to be read; None: it is read.

    Returns:
        The status and the refund; None if the job's row is deleted.
    """
    if status is None:
        text = await connection.fetchval(_STATUS, job_type, job_id)
        if text is None:
            return None
        status = JobStatus(text)
    tokens = await refunded(connection, job_type, job_id) if status is JobStatus.REFUNDED else None
    return Ended(status, tokens)


_STATUS: Final = "SELECT j.status FROM darkroom.jobs_of(ARRAY[$2::text]) j WHERE j.type = $1"
