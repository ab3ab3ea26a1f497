"""Recording of how runs end: `Recorder.record` is the only function that writes a run's end."""

import asyncio
import contextlib
from functools import partial
from typing import Final

from config.logger import EventLogger
from config.masking import SecretMask
from models.connections import DATABASE_ERRORS
from models.database import Database
from models.database_retries import LANE_RETRY_S, with_database_retries
from models.job_state import JobStatus
from models.queue.claims import prolong
from models.queue.ended import Ended, ended_as
from models.queue.groups import GroupWriter
from models.queue.refusal import Refusal
from models.queue.refusals import settle_refused
from models.queue.transitions import Completed, Failed, count_pipeline_use, log_fenced
from models.queue.writing import PROLONGED_S, write_alone
from workers.metrics.recording import Recording
from workers.running.ends import count_end
from workers.running.error_log import ErrorLog
from workers.running.job import RunningJob
from workers.running.outcomes import ClaimLost, End, Outcome, outcome_of, report

log = EventLogger(__name__)

COUNT_TIMEOUT_S: Final = 5.0
"""Seconds for which a job keeps its lane to count its pipeline's use, whose row another program may hold."""

MOST_TRIES: Final = 5
"""Tries of one record: a refused result, a refused end, an interruption by a stop, and a lost claim each take one."""

AGAIN_S: Final = 15.0
"""Seconds between tries to write an end that the database refuses in every form: a right is missing, a row locked."""


class Recorder:
    """Records the outcomes of one process."""

    def __init__(
        self, database: Database, writer: GroupWriter, mask: SecretMask, recording: Recording | None = None
    ) -> None:
        """Store where rows are, what writes them, and what masks secrets; the caller owns the database.

        `recording` counts the ends.
        """
        self._database = database
        self._writer = writer
        self._mask = mask
        self._errors = ErrorLog(database, mask)
        self._recording = recording or Recording()

    async def record(self, job: RunningJob, outcome: Outcome) -> None:
        """Write how a run ended or, if the database refuses that, another end. Raises only for a bug of ours.

        Writing is repeated until something is written or the claim is lost: the provider may have been paid for the
        result, and a rescue of the claim would use an attempt.
        """
        made = outcome.end
        while (end := await self._tried(job, outcome)) is None:
            log.warning("job_end_awaited", job_id=job.claim.job_id, stage=job.stage)
            outcome = await outcome_of(job, self._later(job, made), self._mask)
        report(job, end)
        count_end(self._recording, job, end)
        await self._count_use(job, end)

    async def _tried(self, job: RunningJob, outcome: Outcome) -> End | None:
        """Write an end, or another if it is refused; return the written one, or None if all are.

        If the database refuses a result, its attempt counts as failed, so that the picture isn't made again and
        again. Any other refused end is settled by `settle_refused`.
        """
        refusal: Refusal | None = None
        for number in range(MOST_TRIES):
            retry_for_s = LANE_RETRY_S if number else None
            if not isinstance(outcome.end, (Completed, ClaimLost)):
                earlier = await outcome_of(job, self._after_checkpoints(job, outcome.end), self._mask, writes_end=True)
                job.forget_unwritten()
                if earlier.end is not outcome.end:  # a checkpoint wasn't written, so the run has ended there
                    refusal, outcome = None, earlier
                    continue
            tried = await outcome_of(
                job, self._written(job, outcome, refusal, retry_for_s), self._mask, writes_end=True
            )
            job.forget_unwritten()
            if tried.end is outcome.end:
                return tried.end
            if isinstance(tried.error, Refusal) and not isinstance(outcome.end, Completed):
                refusal, outcome = tried.error, Outcome(outcome.end, tried.error)
            else:
                refusal, outcome = None, tried
        return None

    async def _after_checkpoints(self, job: RunningJob, end: End) -> End:
        """Wait until every checkpoint of the run is written; return the end. Raises as `RunningJob.saved`."""
        with job.recording():
            await job.saved()
        return end

    async def _later(self, job: RunningJob, made: End) -> End:
        """Free the lane, prolong the claim and wait AGAIN_S; then return the end that is still to be written."""
        job.leave_lane()
        try:
            with contextlib.suppress(*DATABASE_ERRORS):
                work = partial(prolong, held=[(job.claim, PROLONGED_S)])
                await self._database.commit("prolong", work, retry_for_s=0)
            await asyncio.sleep(AGAIN_S)
        finally:
            job.take_lane()
        return made

    async def _count_use(self, job: RunningJob, end: End) -> None:
        pipeline_id = end.pipeline_id if isinstance(end, Completed) else None
        if pipeline_id is None:
            return
        work = partial(count_pipeline_use, pipeline_id=pipeline_id)
        try:
            # the claim is gone as expected, and the check for lost claims must not interrupt this
            with job.recording():
                async with asyncio.timeout(COUNT_TIMEOUT_S):
                    await with_database_retries(partial(self._database.commit, "count_use", work))
        except DATABASE_ERRORS as error:  # only a count for people; the job is done and paid
            log.warning("pipeline_use_uncounted", pipeline_id=pipeline_id, error=str(error) or type(error).__name__)

    async def _written(
        self, job: RunningJob, outcome: Outcome, refusal: Refusal | None, retry_for_s: float | None
    ) -> End:
        """Write the failed attempt to error_logs, write the end, and return the end.

        Args:
            job: the job.
            outcome: the outcome that has the end.
            refusal: the database's error of an earlier try to write it, which is then settled in another way.
            retry_for_s: how long to wait for rows that another program holds; None for as long as a result may wait.

        Raises:
            FencedError: another worker holds the job, or it is over.
            ContentionError, asyncpg.PostgresError: the database refused the end; nothing was written.
        """
        end = outcome.end
        if outcome.error is not None:
            await self._errors.add(job, outcome.error)
        if isinstance(end, ClaimLost):
            if end.is_fenced:  # the claim was lost before; the job's history records that a write came too late
                with contextlib.suppress(*DATABASE_ERRORS):
                    await self._log_fenced(job, end)
            return end
        job.tried.append(end)
        with job.recording():
            if refusal is None and isinstance(end, Failed):
                job.ended = await write_alone(self._database, job.claim, end, waiting=job, contention_s=retry_for_s)
            elif refusal is None:
                job.send(self._writer, end, contention_s=retry_for_s)
                status = await job.saved()
                job.ended = None if status is None else Ended(status)
            else:
                job.ended = await with_database_retries(
                    partial(settle_refused, self._database, job.claim, end, refusal), waiting=job
                )
        return end

    async def _log_fenced(self, job: RunningJob, lost: ClaimLost) -> None:
        """Record that the fence refused a write, unless the job's own end was committed and only its answer got lost.

        What this end has made of the job is read then: it has to be counted, and no statement has told it.
        """
        claim = job.claim
        work = partial(log_fenced, claim=claim, stage=lost.stage, tried=job.tried)
        job.is_fenced, job.written = await self._database.commit("log_fenced", work, retry_for_s=1)
        if isinstance(job.written, Completed | Failed):
            status = JobStatus.COMPLETED if isinstance(job.written, Completed) else None
            read = partial(ended_as, job_type=claim.job_type, job_id=claim.job_id, status=status)
            job.ended = await self._database.run(read)
