"""Counts of how runs end, after what they wrote is committed."""

from models.queue.transitions import Completed, Failed, Released, Retried, Snoozed, Transition
from workers.metrics.recording import Recording
from workers.running.job import RunningJob
from workers.running.outcomes import ClaimLost, End


def count_end(recording: Recording, job: RunningJob, end: End) -> None:
    """Count the end of a run, once: what its commit has made of the job, or how its attempt ended.

    If the answer of the commit got lost, the fence refused its repetition, and what was committed is counted. An end
    that housekeeping wrote in place of the run's own is counted by the process that wrote it.
    """
    if isinstance(end, ClaimLost):
        if job.written is not None:
            _count_written(recording, job, job.written)
        elif job.is_fenced:
            recording.write_fenced(end.stage)
        return
    _count_written(recording, job, end)


def _count_written(recording: Recording, job: RunningJob, end: Transition) -> None:
    claim = job.claim
    if isinstance(end, Completed | Failed) and job.ended is not None:
        recording.job_ended(claim.job_type, claim.tier, job.ended)
    match end:
        case Failed():
            recording.stage_ended(claim.job_type, end.stage, "failed", end.duration_ms)
            if job.ended is None:  # the database refused the end for now, and the job was set aside
                recording.attempt_ended(end.stage, "retried")
        case Retried() | Snoozed() | Released():
            how = end.event if isinstance(end, Retried) else type(end).__name__.lower()
            recording.attempt_ended(end.stage, how)
            if end.duration_ms:  # otherwise it ended before the stage began
                recording.stage_ended(claim.job_type, end.stage, how, end.duration_ms)
