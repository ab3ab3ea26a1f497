"""The newest failures of jobs, of which the history has a small index."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from models.connections import Connection

MOST_REASON_CHARS: Final = 400

_TODAY: Final = f"""
SELECT r.at, r.job_type, r.job_id, r.stage, left(r.error, {MOST_REASON_CHARS}) AS reason FROM darkroom.stage_runs r
WHERE r.event = 'failed' AND r.at >= date_trunc('day', now(), 'UTC') ORDER BY r.at DESC LIMIT $1
"""


@dataclass(frozen=True, slots=True)
class Failure:
    """A job that failed for good. `stage` is None if it failed before its first one; `reason` may be cut."""

    at: datetime
    job_type: str
    job_id: str
    stage: str | None
    reason: str | None


async def failures_of_today(connection: Connection, *, most: int) -> list[Failure]:
    """Return the jobs that failed since midnight UTC, the newest first, at most so many."""
    return [Failure(**row) for row in await connection.fetch(_TODAY, most)]
