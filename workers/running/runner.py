"""The life of one claim: run, then record."""

import structlog

from workers.running.job import RunningJob
from workers.running.record import Recorder
from workers.running.run import StageRunner

log = structlog.get_logger(__name__)


class Runner:
    """Takes claims of one process to their recorded ends."""

    def __init__(self, stages: StageRunner, recorder: Recorder) -> None:
        """Keep who runs and who records."""
        self._stages = stages
        self._recorder = recorder

    async def run_job(self, job: RunningJob) -> None:
        """Take one claim to its recorded end. Only a bug of ours raises."""
        structlog.contextvars.bind_contextvars(
            job_id=job.claim.job_id, job_type=job.claim.job_type, attempt=job.claim.attempt
        )
        log.info("job_claimed", stage=job.stage)
        outcome = await self._stages.run(job)
        await self._recorder.record(job, outcome)
