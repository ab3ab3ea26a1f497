"""The life of one claim: run, then record."""

from collections.abc import Awaitable, Callable

import structlog

from workers.running.job import RunningJob
from workers.running.outcomes import Outcome

log = structlog.get_logger(__name__)


class Runner:
    """Takes claims of one process to their recorded ends."""

    def __init__(
        self,
        run: Callable[[RunningJob], Awaitable[Outcome]],
        record: Callable[[RunningJob, Outcome], Awaitable[None]],
    ) -> None:
        """Keep the two steps.

        Args:
            run: runs a claim's stages; writes no end.
            record: writes how the run ended.
        """
        self._run = run
        self._record = record

    async def run_job(self, job: RunningJob) -> None:
        """Take one claim to its recorded end. Only a bug of ours raises."""
        structlog.contextvars.bind_contextvars(
            job_id=job.claim.job_id, job_type=job.claim.job_type, attempt=job.claim.attempt
        )
        log.info("job_claimed", stage=job.stage)
        await self._record(job, await self._run(job))
