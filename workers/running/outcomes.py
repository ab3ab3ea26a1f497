"""Every way in which a run can end, as an outcome: what happens to its job.

Cancellation, a lost claim, a stage's error and a bug are each handled here, in `outcome_of`, and nowhere else.
"""

from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeAlias

import asyncpg
import structlog

from models.connections import ContentionError, DatabaseLostError, is_cancelled
from models.queue.claims import ClaimLostError, FencedError
from models.queue.refusal import Refusal, words_of
from models.queue.transitions import Completed, Failed, Released, Retried, Snoozed
from pipelines.errors import PermanentError, StageError, ThrottledError, TransientError
from workers.running.causes import what_lacks
from workers.running.error_log import ErrorLog
from workers.running.job import Ending, RunningJob, ToldToEndError
from workers.running.retry import retry_delay

log = structlog.get_logger(__name__)

DATABASE_LOST_DELAY: Final = timedelta(seconds=2)
"""How long a job waits whose stage found PostgreSQL gone: it has used no attempt."""

HELD_DELAY: Final = timedelta(seconds=15)
"""How long a job waits whose result had to be left because of a row that is held; its picture isn't bought again."""


@dataclass(frozen=True, slots=True)
class ClaimLost:
    """Another holds the job now, or it is over. `is_fenced` when a write of this claim came too late."""

    stage: str
    is_fenced: bool = False


Outcome: TypeAlias = Completed | Failed | Retried | Snoozed | Released | ClaimLost


async def outcome_of(job: RunningJob, steps: Awaitable[Outcome], errors: ErrorLog) -> Outcome:
    """Let steps come to an outcome, however they end. Only a cancellation that isn't the job's own is raised.

    Args:
        job: whose steps they are.
        steps: the stages of its run, or the record of their outcome.
        errors: keeps what failed.
    """
    try:
        with job.told_to_end():
            return await steps
    except ToldToEndError as told:
        return ClaimLost(job.stage) if told.ending is Ending.CLAIM_LOST else Released(job.stage, job.stage_ms)
    except ClaimLostError as lost:
        return ClaimLost(job.stage, is_fenced=isinstance(lost, FencedError))
    except StageError as error:
        if not isinstance(error, ThrottledError) or error.evidence:  # a snooze has failed no attempt
            await errors.add(job, error)
        return _of_stage_error(job, error, errors)
    except Exception as error:  # noqa: BLE001 - a bug of ours must not lose a job either
        return await _of_another_error(job, error, errors)


async def _of_another_error(job: RunningJob, error: Exception, errors: ErrorLog) -> Outcome:
    """Turn an error that is no stage's own into what happens to the job."""
    if isinstance(error, DatabaseLostError | ContentionError):
        log.warning("database_awaited", error=str(error), error_type=type(error).__name__)
        # due at once, it would be claimed over and over where claims get a connection and stages get none
        return Snoozed(job.stage, "PostgreSQL can't be used now", DATABASE_LOST_DELAY, job.stage_ms)
    if isinstance(error, asyncpg.PostgresError) and not is_cancelled(error):
        return await refused_outcome(job, error, errors)
    if isinstance(error, OSError | MemoryError | asyncpg.PostgresError):
        log.warning("stage_lacked_resources", stage=job.stage, error=str(error), error_type=type(error).__name__)
        reason = f"{job.stage} wasn't possible now: {what_lacks(error)}"
    else:
        log.error("stage_crashed", stage=job.stage, exc_info=error)
        reason = f"unexpected {type(error).__name__} in {job.stage}"
    await errors.add(job, error)
    return _of_stage_error(job, TransientError(reason), errors)


async def refused_outcome(job: RunningJob, error: Refusal, errors: ErrorLog) -> Outcome:
    """Say what happens to a job whose result the database refuses; it must not have it made over and over."""
    words = words_of(error)
    log.error("job_end_refused", stage=job.stage, error=words)  # PostgreSQL's refusal: our stack says nothing
    await errors.add(job, error)
    if isinstance(error, ContentionError):
        return Snoozed(job.stage, "another program holds rows of this job", HELD_DELAY, job.stage_ms)
    refused = TransientError(f"the database refused the result of {job.stage}: {words}")
    return _of_stage_error(job, refused, errors)


def _of_stage_error(job: RunningJob, error: StageError, errors: ErrorLog) -> Outcome:
    """Turn a stage's error into what happens to the job."""
    claim, reason = job.claim, errors.mask(str(error))
    if isinstance(error, ThrottledError):
        return Snoozed(job.stage, reason, max(error.retry_after, timedelta(seconds=1)), job.stage_ms)
    if isinstance(error, PermanentError) or not isinstance(error, TransientError):
        return Failed(job.stage, reason, job.stage_ms)
    if claim.attempt >= claim.max_attempts:
        return Failed(job.stage, f"{reason} (all {claim.max_attempts} attempts are used)", job.stage_ms)
    delay = max(retry_delay(claim.attempt), error.retry_after or timedelta(0))
    return Retried(job.stage, reason, delay, job.stage_ms)


def report(outcome: Outcome) -> None:
    """Write the line that says how a run ended."""
    match outcome:
        case Completed():
            log.info("job_completed", stage=outcome.finished)
        case Failed():
            log.warning("job_failed", stage=outcome.stage, reason=outcome.reason)
        case Retried():
            delay_s = outcome.delay.total_seconds()
            log.warning("job_retry_scheduled", stage=outcome.stage, reason=outcome.reason, delay_s=delay_s)
        case Snoozed():
            delay_s = outcome.delay.total_seconds()
            log.info("job_snoozed", stage=outcome.stage, reason=outcome.reason, delay_s=delay_s)
        case ClaimLost():
            log.warning("job_claim_lost", stage=outcome.stage)
        case Released():
            log.info("job_released")
