"""What the end of a run means: an error, a cancellation or a transition, as what is recorded, logged and kept of it."""

import asyncio
import time
import traceback
from datetime import timedelta

import structlog

from config.masking import SecretMask
from models.connections import contention_of
from models.history.error_logs import FailedAttempt
from models.queue.claims import ClaimLostError
from models.queue.transitions import Completed, Failed, Released, Retried, Snoozed, Transition
from pipelines.errors import PermanentError, StageError, ThrottledError, TransientError
from workers.running.causes import error_code
from workers.running.claim_loop import Ending, RunningJob
from workers.running.retry import retry_delay

log = structlog.get_logger(__name__)


def ending_of(job: RunningJob, error: StageError, mask: SecretMask) -> Transition:
    """Turn a stage's error into what happens to the job."""
    claim, reason = job.claim, mask(str(error))
    duration_ms = elapsed_ms(job)
    if isinstance(error, ThrottledError):
        return Snoozed(job.stage, reason, max(error.retry_after, timedelta(seconds=1)), duration_ms)
    if isinstance(error, PermanentError) or not isinstance(error, TransientError):
        return Failed(job.stage, reason, duration_ms)
    if claim.attempt >= claim.max_attempts:
        return Failed(job.stage, f"{reason} (all {claim.max_attempts} attempts are used)", duration_ms)
    delay = max(retry_delay(claim.attempt), error.retry_after or timedelta(0))
    return Retried(job.stage, reason, delay, duration_ms)


def failed_attempt(job: RunningJob, error: Exception, mask: SecretMask) -> FailedAttempt:
    """Describe an attempt's error as error_logs keeps it, without secrets."""
    claim, evidence = job.claim, error.evidence if isinstance(error, StageError) else None
    error = contention_of(error) or error  # whoever counts errors knows PostgreSQL's names
    return FailedAttempt(
        job_type=claim.job_type,
        job_id=claim.job_id,
        user_id=claim.user_id,
        stage=job.stage,
        attempt=claim.attempt,
        message=mask(str(error)),
        type=type(error).__name__,
        code=error_code(error),
        stack=mask("".join(traceback.format_exception(error))),
        evidence=mask(evidence) if evidence else None,
    )


def report(transition: Transition) -> None:
    """Write the line that says how a claim ended."""
    match transition:
        case Completed():
            log.info("job_completed", stage=transition.finished)
        case Failed():
            log.warning("job_failed", stage=transition.stage, reason=transition.reason)
        case Retried():
            delay_s = transition.delay.total_seconds()
            log.warning("job_retry_scheduled", stage=transition.stage, reason=transition.reason, delay_s=delay_s)
        case Snoozed():
            delay_s = transition.delay.total_seconds()
            log.info("job_snoozed", stage=transition.stage, reason=transition.reason, delay_s=delay_s)
        case _:
            log.info("job_released")


def told_to_end(job: RunningJob) -> Released:
    """Turn a cancellation into what it means.

    Raises:
        asyncio.CancelledError: nobody told the job to end: it is the loop's own.
        ClaimLostError: the claim is gone.
    """
    if job.ending is None:
        raise asyncio.CancelledError
    take_back_cancellation()
    if job.ending is Ending.CLAIM_LOST:
        raise ClaimLostError(f"job {job.claim.job_id} was cancelled or taken over")
    return Released(job.stage, elapsed_ms(job))


def take_back_cancellation() -> None:
    """Let what follows wait again: the cancellation has done its work."""
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()


def elapsed_ms(job: RunningJob) -> int:
    """Return how long the job's stage has run."""
    return round((time.monotonic() - job.started_s) * 1000)
