"""Writing of failed attempts to error_logs, without secrets.

If a write fails, the job's end is recorded all the same.
"""

import asyncio
import traceback

from config.masking import SecretMask
from models.connections import contention_of
from models.database import Database
from models.history.error_logs import FailedAttempt, log_failed_attempts
from pipelines.errors import StageError
from workers.running.causes import error_code
from workers.running.job import RunningJob


class ErrorLog:
    """Writes errors of attempts; `mask` masks secrets in every text of an error before it is stored."""

    def __init__(self, database: Database, mask: SecretMask) -> None:
        """Store where to write; the caller owns the database."""
        self._database = database
        self._mask = mask

    async def add(self, job: RunningJob, error: Exception) -> None:
        """Write one row.

        If that fails, or the job is told to end meanwhile, the attempt's end is recorded all the same.
        """
        row = self._row(job, error)
        try:
            await log_failed_attempts(self._database, [row])
        except asyncio.CancelledError:
            if job.told_to_end() is None:
                raise

    def _row(self, job: RunningJob, error: Exception) -> FailedAttempt:
        claim, evidence = job.claim, error.evidence if isinstance(error, StageError) else None
        error = contention_of(error) or error  # error_logs counts by PostgreSQL's own names
        return FailedAttempt(
            job_type=claim.job_type,
            job_id=claim.job_id,
            user_id=claim.user_id,
            stage=job.stage,
            attempt=claim.attempt,
            message=self._mask(str(error)),
            type=type(error).__name__,
            code=error_code(error),
            stack=self._mask("".join(traceback.format_exception(error))),
            evidence=self._mask(evidence) if evidence else None,
        )
