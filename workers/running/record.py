"""The record of how a run ended: `Recorder.record` is the only function that writes an end."""

import asyncio
import contextlib
from functools import partial
from typing import Final

import structlog

from config.masking import SecretMask
from models.connections import DATABASE_ERRORS
from models.database import Database
from models.database_retries import LANE_RETRY_S, with_database_retries
from models.queue.claims import prolong
from models.queue.refusal import Refusal
from models.queue.refusals import settle_refused
from models.queue.transitions import Completed, count_pipeline_use, log_fenced
from models.queue.writing import PROLONGED_S, write
from workers.running.error_log import ErrorLog
from workers.running.job import RunningJob
from workers.running.outcomes import ClaimLost, End, Outcome, outcome_of, report

log = structlog.get_logger(__name__)

COUNT_PATIENCE_S: Final = 5.0
"""How long a lane is kept for a figure on a row that another program may hold."""

MOST_TRIES: Final = 5
"""A result that is refused, an end that is, a call to end in the middle of a commit, a claim found lost: each once."""

AGAIN_S: Final = 15.0
"""How long an end waits of which the database takes nothing: no right, no partition, a table that is held."""


class Recorder:
    """Records outcomes of one process."""

    def __init__(self, database: Database, mask: SecretMask) -> None:
        """Keep where rows are, and what takes secrets out of texts; the caller owns the database."""
        self._database = database
        self._mask = mask
        self._errors = ErrorLog(database, mask)

    async def record(self, job: RunningJob, outcome: Outcome) -> None:
        """Write how a run ended, or what comes instead where that can't be written. Only a bug of ours raises.

        It is tried until something is written or the claim is lost: a result in hand may be paid, and whoever rescued
        its claim would take an attempt for it.
        """
        made = outcome.end
        while (end := await self._tried(job, outcome)) is None:
            log.warning("job_end_awaited", job_id=job.claim.job_id, stage=job.stage)
            outcome = await outcome_of(job, self._later(job, made), self._mask)
        report(end)
        await self._count_use(job, end)

    async def _tried(self, job: RunningJob, outcome: Outcome) -> End | None:
        """Write an end, or what comes instead; return what was written, None if the database takes nothing of it.

        A result that the database refuses must not be made over and over: its attempt has failed. Any other end that
        it refuses is settled in another way.
        """
        refusal: Refusal | None = None
        for number in range(MOST_TRIES):
            retry_for_s = LANE_RETRY_S if number else None
            tried = await outcome_of(
                job, self._written(job, outcome, refusal, retry_for_s), self._mask, writes_end=True
            )
            if tried.end is outcome.end:
                return tried.end
            if isinstance(tried.error, Refusal) and not isinstance(outcome.end, Completed):
                refusal, outcome = tried.error, Outcome(outcome.end, tried.error)
            else:
                refusal, outcome = None, tried
        return None

    async def _later(self, job: RunningJob, made: End) -> End:
        """Wait outside of the lane, and return what the run came to; the claim is kept for as long as it can be."""
        job.leave_lane()
        try:
            with contextlib.suppress(*DATABASE_ERRORS):
                work = partial(prolong, held=job.claim, at_least_s=PROLONGED_S)
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
            with job.recording():  # its claim is gone by right: the look for lost ones must not cut it off
                async with asyncio.timeout(COUNT_PATIENCE_S):
                    await with_database_retries(partial(self._database.commit, "count_use", work))
        except DATABASE_ERRORS as error:  # a figure for people; the job is done and paid
            log.warning("pipeline_use_uncounted", pipeline_id=pipeline_id, error=str(error) or type(error).__name__)

    async def _written(
        self, job: RunningJob, outcome: Outcome, refusal: Refusal | None, retry_for_s: float | None
    ) -> End:
        """Tell error_logs what failed, write the end, and return it.

        Args:
            job: whose end it is.
            outcome: with the end.
            refusal: what the database said when it was written before: it is settled in another way.
            retry_for_s: how long it waits for rows that another program holds; None for as long as a result may.

        Raises:
            FencedError: another holds the job, or it is over.
            ContentionError, asyncpg.PostgresError: the database refuses the end; nothing was written.
        """
        end = outcome.end
        if outcome.error is not None:
            await self._errors.add(job, outcome.error)
        if isinstance(end, ClaimLost):
            if end.is_fenced:  # the job has gone on without this claim; its history says that a write came too late
                with contextlib.suppress(*DATABASE_ERRORS):
                    work = partial(log_fenced, claim=job.claim, stage=end.stage)
                    await self._database.commit("log_fenced", work, retry_for_s=1)
            return end
        with job.recording():
            if refusal is None:
                await write(self._database, job.claim, end, waiting=job, contention_s=retry_for_s)
            else:
                await with_database_retries(
                    partial(settle_refused, self._database, job.claim, end, refusal), waiting=job
                )
        return end
