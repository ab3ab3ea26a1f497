"""The state machine of jobs.

The database's guards are rendered from it, and documents and tests are checked against it.
"""

from enum import StrEnum


class JobStatus(StrEnum):
    """A job's status; the labels are those of the schema's enum `JobStatus`."""

    PENDING = "PENDING"
    PROCESSING = "PROCESSING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    REFUNDED = "REFUNDED"
    CANCELLED = "CANCELLED"

    @property
    def is_terminal(self) -> bool:
        """Whether the job is over. FAILED counts too, although a refund may still turn it into REFUNDED."""
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
"""The statuses that each status may change to. Any other change of an unfinished job raises SQLSTATE 23514."""

LABEL_CHANGES = frozenset({(JobStatus.FAILED, JobStatus.REFUNDED)})
"""Changes of a finished job's label that are accepted without effect; any other write of its status changes nothing."""
