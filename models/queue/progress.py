"""Progress of jobs, for commands that watch them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from models.connections import Connection
from models.job_state import TERMINAL, JobStatus
from models.queue.job_names import JobKey, key_of

_PROGRESS: Final = """
SELECT j.id, j.type, j.status::text, coalesce(j."currentStage", q.stage) AS stage, q.attempts, q.status AS queue_status,
       greatest(0, extract(epoch FROM coalesce(
           j."processingCompletedAt",
           CASE WHEN j.status IN ('PENDING', 'PROCESSING') THEN darkroom.utc_now() ELSE j."updatedAt" END
       ) - j."createdAt"))::double precision AS elapsed_s,
       coalesce(j."errorMessage", q.last_error) AS error,
       coalesce(q.status = 'retrying' AND q.run_at > now(), false) AS is_scheduled, j.url
FROM darkroom.jobs_of($1::text[]) j LEFT JOIN darkroom.job_queue q ON q.job_id = j.id AND q.job_type = j.type
"""


@dataclass(frozen=True, slots=True)
class JobProgress:
    """A job's progress. `job_id` is the name by which it was asked for.

    `status` is None when the job's row is deleted; `elapsed_s` is counted from its creation to its end, or to now;
    `is_scheduled` says whether the job waits for the time before which its producer doesn't want it to begin. `url` is
    that of its result, where its row has one.
    """

    job_id: str
    job_type: str = ""
    status: str | None = None
    stage: str | None = None
    attempts: int = 0
    is_waiting_for_retry: bool = False
    elapsed_s: float = 0.0
    error: str | None = None
    is_scheduled: bool = False
    url: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether the job is over: its status will never change again."""
        return self.status is None or self.status in TERMINAL

    @property
    def is_waiting(self) -> bool:
        """Whether no worker has claimed the job yet, although it is due."""
        return self.status == JobStatus.PENDING


async def job_progress(connection: Connection, jobs: Mapping[str, JobKey | None]) -> list[JobProgress]:
    """Return the progress of jobs, in the order of their names; a name without a key is that of a deleted job."""
    ids = [key.job_id for key in jobs.values() if key is not None]
    found = {key_of(row["type"], row["id"]): row for row in await connection.fetch(_PROGRESS, ids)}
    return [
        JobProgress(
            job_id=name,
            job_type=row["type"],
            status=row["status"],
            stage=None if row["status"] in TERMINAL else row["stage"],
            attempts=row["attempts"] or 0,
            is_waiting_for_retry=row["queue_status"] == "retrying" and not row["is_scheduled"],
            elapsed_s=row["elapsed_s"],
            error=row["error"],
            is_scheduled=row["is_scheduled"],
            url=row["url"],
        )
        if key is not None and (row := found.get(key))
        else JobProgress(name)
        for name, key in jobs.items()
    ]
