"""The state machine of a job: the one place from which SQL guards, docs and tests are derived or checked."""

from enum import StrEnum


class JobStatus(StrEnum):
    """A job's status; the labels are the schema's `JobStatus`."""

    PENDING = "PENDING"
    PROCESSING = "PROCESSING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    REFUNDED = "REFUNDED"
    CANCELLED = "CANCELLED"

    @property
    def is_terminal(self) -> bool:
        """A terminal status never changes, but for the label REFUNDED on a FAILED job."""
        return self in TERMINAL


TERMINAL = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.REFUNDED, JobStatus.CANCELLED})

TRANSITIONS: dict[JobStatus, frozenset[JobStatus]] = {
    JobStatus.PENDING: frozenset({JobStatus.PROCESSING, JobStatus.CANCELLED, JobStatus.FAILED, JobStatus.REFUNDED}),
    JobStatus.PROCESSING: frozenset({JobStatus.PENDING} | TERMINAL),
    JobStatus.COMPLETED: frozenset(),
    JobStatus.FAILED: frozenset(),
    JobStatus.REFUNDED: frozenset(),
    JobStatus.CANCELLED: frozenset(),
}
"""What each status may become. Any other change of an unfinished job raises SQLSTATE 23514."""

LABEL_CHANGES = frozenset({(JobStatus.FAILED, JobStatus.REFUNDED)})
"""Accepted on a finished job, without any effect: every other write of a status there changes nothing."""
