"""Outcomes: every way in which a run can end, and what then happens to its job.

Cancellation, a lost claim, a stage's error and a bug are each handled here, in `outcome_of`, and nowhere else.
"""

import asyncio
from collections.abc import Awaitable
from datetime import timedelta
from typing import Final, TypeAlias

import asyncpg

from config.logger import EventLogger
from config.masking import SecretMask
from config.values import value
from models.connections import ContentionError, DatabaseLostError, is_cancelled
from models.queue.claims import ClaimLostError, FencedError
from models.queue.refusal import refusal_text
from models.queue.transitions import Completed, Failed, HandedOver, Released, Retried, Snoozed
from pipelines.errors import PermanentError, StageError, ThrottledError, TransientError
from workers.gate.refusals import SentBackError
from workers.running.causes import what_lacks
from workers.running.job import Ending, RunningJob
from workers.running.retry import retry_delay

log = EventLogger(__name__)

DATABASE_LOST_DELAY: Final = timedelta(seconds=2)
"""How long a job waits after its stage found PostgreSQL unreachable; the attempt isn't counted."""

HELD_DELAY: Final = timedelta(seconds=15)
"""How long a job waits whose result couldn't be written, because another program holds its row.

The picture is stored, and isn't bought again.
"""


@value
class ClaimLost:
    """Another worker holds the job, or it is over. `is_fenced`: the fence refused a write of this claim."""

    stage: str
    is_fenced: bool = False


End: TypeAlias = Completed | Failed | Retried | Snoozed | Released | HandedOver | ClaimLost


@value
class Outcome:
    """How a run ended, before it is written. `error` is what ended it, for error_logs; None without an error."""

    end: End
    error: Exception | None = None


async def outcome_of(job: RunningJob, steps: Awaitable[End], mask: SecretMask, *, writes_end: bool = False) -> Outcome:
    """Run steps and return their outcome, however they end. Nothing is written.

    The only error that is raised is a cancellation that `RunningJob.end` didn't cause.

    Args:
        job: the job whose steps they are.
        steps: the stages of its run, or the record of its end.
        mask: function that masks secrets in reasons.
        writes_end: whether the steps write the end of the run, so that an error of the database concerns the end.
    """
    try:
        return Outcome(await steps)
    except (asyncio.CancelledError, Exception) as error:  # noqa: BLE001 - a bug of ours must not lose a job either
        outcome = _by_error(job, error, mask, writes_end=writes_end)
        if outcome.error is None:
            forget_frames(error)
        return outcome


def forget_frames(error: BaseException) -> None:
    """Forget the traceback of an error that needs no more record, and so what its functions hold, such as pictures.

    A function that keeps its own error in a variable is in a cycle with it, and would hold them until a garbage
    collection. Frames aren't cleared, because jobs may share an error, and one of their functions may still run.
    """
    one: BaseException | None = error
    while one is not None and one.__traceback__ is not None:
        one.__traceback__ = None
        one = one.__cause__ or one.__context__


def _by_error(
    job: RunningJob, error: asyncio.CancelledError | Exception, mask: SecretMask, *, writes_end: bool
) -> Outcome:
    """Return the outcome for an error; raise it if it is a cancellation that `RunningJob.end` didn't cause."""
    match error:
        case asyncio.CancelledError():
            ending = job.told_to_end()
            if ending is None:
                raise error
            is_lost = ending is Ending.CLAIM_LOST
            return Outcome(ClaimLost(job.stage) if is_lost else Released(job.stage, job.stage_ms))
        case ClaimLostError():
            return Outcome(ClaimLost(job.stage, is_fenced=isinstance(error, FencedError)))
        case SentBackError():
            return Outcome(Released(job.stage, job.stage_ms))
        case StageError():
            is_failure = not isinstance(error, ThrottledError) or error.evidence  # a snooze isn't a failed attempt
            return Outcome(_end_by(job, error, mask), error if is_failure else None)
        case _:
            return _by_another_error(job, error, mask, writes_end=writes_end)


def _by_another_error(job: RunningJob, error: Exception, mask: SecretMask, *, writes_end: bool) -> Outcome:
    """Return the outcome for an error that isn't a stage's own."""
    is_refused = isinstance(error, asyncpg.PostgresError) and not is_cancelled(error)
    if isinstance(error, asyncpg.PostgresError | ContentionError) and (writes_end or is_refused):
        words = refusal_text(error)
        log.error("job_end_refused", stage=job.stage, error=words)  # PostgreSQL's refusal: our traceback says nothing
        if isinstance(error, ContentionError):
            reason = "another program holds rows of this job"
            return Outcome(Snoozed(job.stage, reason, HELD_DELAY, job.stage_ms), error)
        reason = f"the database refused the result of {job.stage}: {words}"
    elif isinstance(error, DatabaseLostError | ContentionError):
        log.warning("database_awaited", error=str(error), error_type=type(error).__name__)
        # If the job were due at once, it would be claimed again and again while claims get a connection and stages get
        # none
        return Outcome(Snoozed(job.stage, "PostgreSQL can't be used now", DATABASE_LOST_DELAY, job.stage_ms))
    elif isinstance(error, OSError | MemoryError | asyncpg.PostgresError):
        log.warning("stage_lacked_resources", stage=job.stage, error=str(error), error_type=type(error).__name__)
        reason = f"{job.stage} wasn't possible now: {what_lacks(error)}"
    else:
        log.error("stage_crashed", stage=job.stage, exc_info=error)
        reason = f"unexpected {type(error).__name__} in {job.stage}"
    return Outcome(_end_by(job, TransientError(reason), mask), error)


def _end_by(job: RunningJob, error: StageError, mask: SecretMask) -> Snoozed | Failed | Retried:
    """Return the end that follows from a stage's error."""
    claim, reason = job.claim, mask(str(error))
    if isinstance(error, ThrottledError):
        return Snoozed(job.stage, reason, max(error.retry_after, timedelta(seconds=1)), job.stage_ms)
    if isinstance(error, PermanentError) or not isinstance(error, TransientError):
        return Failed(job.stage, reason, job.stage_ms)
    if claim.attempt >= claim.max_attempts:
        return Failed(job.stage, f"{reason} (all {claim.max_attempts} attempts are used)", job.stage_ms)
    delay = max(retry_delay(claim.attempt), error.retry_after or timedelta(0))
    return Retried(job.stage, reason, delay, job.stage_ms)


def report(job: RunningJob, end: End) -> None:
    """Log how a run ended."""
    match end:
        case Completed():
            log.info("job_completed", stage=end.finished, duration_s=job.run_ms / 1000, stages_ms=job.stages_ms)
        case Failed():
            log.warning("job_failed", stage=end.stage, reason=end.reason)
        case Retried():
            delay_s = end.delay.total_seconds()
            log.warning("job_retry_scheduled", stage=end.stage, reason=end.reason, delay_s=delay_s)
        case Snoozed():
            delay_s = end.delay.total_seconds()
            log.info("job_snoozed", stage=end.stage, reason=end.reason, delay_s=delay_s)
        case ClaimLost():
            log.warning("job_claim_lost", stage=end.stage)
        case Released():
            log.info("job_released")
        case HandedOver():
            log.info("job_handed_over", stage=end.stage, queue=end.queue)
