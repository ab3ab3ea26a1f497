"""The run of one claim and the record of its end."""

from config.logger import EventLogger, bound_fields
from workers.running.job import RunningJob
from workers.running.outcomes import forget_frames
from workers.running.record import Recorder
from workers.running.run import StageRunner

log = EventLogger(__name__)


class Runner:
    """Runs claims of one process: `StageRunner` runs the stages, `Recorder` writes the end."""

    def __init__(self, stages: StageRunner, recorder: Recorder) -> None:
        """Store the runner of stages and the recorder."""
        self._stages = stages
        self._recorder = recorder

    async def run_job(self, job: RunningJob) -> None:
        """Run one claim and record its end. Raises only for a bug of ours."""
        claim = job.claim
        bound_fields.set({"job_id": claim.job_id, "job_type": claim.job_type, "attempt": claim.attempt})
        log.debug("job_claimed", stage=job.stage)
        outcome = await self._stages.run(job)
        await self._recorder.record(job, outcome)
        if outcome.error is not None:
            forget_frames(outcome.error)
