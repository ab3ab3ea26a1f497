"""The record of how a run ended: `Recorder.record` is the only function that writes an end."""

import asyncio
import contextlib
from functools import partial
from typing import Final

import asyncpg
import structlog

from models.connections import DATABASE_ERRORS, ContentionError
from models.database import Database
from models.queue.refusals import settle_refused
from models.queue.transitions import Completed, count_pipeline_use, log_fenced
from workers.running.error_log import ErrorLog
from workers.running.job import RunningJob
from workers.running.outcomes import ClaimLost, Outcome, outcome_of, refused_outcome, report
from workers.running.patience import LANE_PATIENCE_S, with_database
from workers.running.writing import write

log = structlog.get_logger(__name__)

COUNT_PATIENCE_S: Final = 5.0
"""How long a lane is kept for a figure on a row that another program may hold."""

MOST_OUTCOMES: Final = 4
"""A result that is refused, a call to end in the middle of a commit, a claim that is lost: each comes once at most."""


class Recorder:
    """Records outcomes of one process."""

    def __init__(self, database: Database, errors: ErrorLog) -> None:
        """Keep where rows are; the caller owns the database."""
        self._database = database
        self._errors = errors

    async def record(self, job: RunningJob, outcome: Outcome) -> None:
        """Write how a run ended, or what comes instead where that can't be written. Only a bug of ours raises."""
        first = outcome
        for _ in range(MOST_OUTCOMES):
            written = await outcome_of(job, self._write(job, outcome, is_first=outcome is first), self._errors)
            if written is outcome:
                break
            outcome = written
        else:
            raise AssertionError(f"job {job.claim.job_id} could not be recorded as {outcome}")
        report(outcome)
        if isinstance(outcome, Completed) and outcome.pipeline_id is not None:
            await self._count_use(job, outcome.pipeline_id)

    async def _write(self, job: RunningJob, outcome: Outcome, *, is_first: bool) -> Outcome:
        """Write one outcome and return it, or the one that is to be written in its place."""
        if isinstance(outcome, ClaimLost):
            if outcome.is_fenced:
                await self._log_fenced(job)
            return outcome
        try:
            await write(self._database, job, outcome, contention_s=None if is_first else LANE_PATIENCE_S)
        except (asyncpg.PostgresError, ContentionError) as error:
            refused = await refused_outcome(job, error, self._errors) if is_first else outcome
            if isinstance(outcome, Completed):
                return refused
            with job.recording():
                settle = partial(settle_refused, self._database, job.claim, outcome, error)
                await with_database(settle, waiting=job)
        return outcome

    async def _log_fenced(self, job: RunningJob) -> None:
        """Keep in the job's history that this claim came too late; the job itself has gone on without it."""
        with contextlib.suppress(*DATABASE_ERRORS):
            await self._database.commit(
                "log_fenced", lambda connection: log_fenced(connection, job.claim, job.stage), patience_s=1
            )

    async def _count_use(self, job: RunningJob, pipeline_id: str) -> None:
        """Count a completed job on its pipeline; after the commit, because another program may hold that row."""
        try:
            with job.recording():  # its claim is gone by right: the look for lost ones must not cut it off
                async with asyncio.timeout(COUNT_PATIENCE_S):
                    await with_database(
                        lambda: self._database.commit(
                            "count_use", lambda connection: count_pipeline_use(connection, pipeline_id)
                        )
                    )
        except DATABASE_ERRORS as error:  # a figure for people; the job is done and paid
            log.warning("pipeline_use_uncounted", pipeline_id=pipeline_id, error=str(error) or type(error).__name__)
