"""Errors of operations, and the translation of PostgreSQL's refusals into them."""

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from models.connections import is_raised
from models.job_state import JobStatus


class OperationError(Exception):
    """Raised when an operation was refused and changed nothing; the message is one line that says what to do."""


class NotFoundError(OperationError):
    """Raised when a named user, job, picture or pipeline doesn't exist."""


class NotYoursError(OperationError):
    """Raised when the user may not use a picture, pipeline or key."""


class PaymentRefusedError(OperationError):
    """Raised when the balance is too small, or the cost isn't the tier's price."""


class InvalidInputError(OperationError):
    """Raised when a picture, a pipeline or a value breaks a rule; the message names it."""


class WrongModeError(OperationError):
    """Raised when an operation needs mode managed, but the application keeps the balances."""

    def __init__(self, mode: str) -> None:
        super().__init__(
            f"this database is in mode {mode}: the application keeps the balances, so grant tokens there; "
            "`darkroom tokens grant` works in mode managed only"
        )


class JobNotRetryableError(OperationError):
    """Raised when a job is to be retried that hasn't ended, or has ended COMPLETED."""

    def __init__(self, job_id: str, status: str) -> None:
        super().__init__(
            f"job {job_id} is {status}; only FAILED, REFUNDED and CANCELLED jobs can be retried"
            + (", and COMPLETED ones with --redo" if status == JobStatus.COMPLETED else "")
        )


class JobRetriedError(OperationError):
    """Raised when a job that a filter selected was retried by another operator meanwhile."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job {job_id} has been retried already; name its id to retry it once more")


class JobNotWaitingError(OperationError):
    """Raised when a job that isn't waiting is to be given another due time."""

    def __init__(self, job_id: str, status: str) -> None:
        super().__init__(f"job {job_id} is {status}; only jobs that wait can be given another time")


class JobNotCancellableError(OperationError):
    """Raised when a job that has ended is to be cancelled."""

    def __init__(self, job_id: str, status: str) -> None:
        super().__init__(f"job {job_id} is {status} already; only PENDING and PROCESSING jobs can be cancelled")


RETRYABLE = frozenset({JobStatus.FAILED, JobStatus.REFUNDED, JobStatus.CANCELLED})

_BY_SQLSTATE: dict[str, type[OperationError]] = {
    "P0001": PaymentRefusedError,
    "P0002": NotFoundError,
    "42501": NotYoursError,
    "22001": InvalidInputError,
    "22023": InvalidInputError,
    "23503": NotFoundError,
}
_ADVICE = {
    "P0001": "see `darkroom tokens balance`, or add some with `darkroom tokens grant`",
    "P0002": "check the id",
    "23503": "it was deleted meanwhile",
}


def operation_error(error: asyncpg.PostgresError) -> OperationError | None:
    """Return our error for a refusal of our SQL functions, by its SQLSTATE; None for any other error."""
    state = error.sqlstate or ""
    ours = _BY_SQLSTATE.get(state)
    if ours is None:
        return None
    said = str(error.args[0])  # str(error) adds the detail, which our functions give to programs
    if state == "42501" and not is_raised(error):
        return ours(f"{said}; ask for it with `darkroom db upgrade --grant ROLE`")
    advice = _ADVICE.get(state)
    return ours(f"{said}; {advice}" if advice else said)


@contextmanager
def translated() -> Iterator[None]:
    """Replace PostgreSQL's refusals in the block by our own errors, where an operator can act on them.

    Raises:
        OperationError: as in `operation_error`; any other error is raised unchanged.
    """
    try:
        yield
    except asyncpg.PostgresError as error:
        ours = operation_error(error)
        if ours is None:
            raise
        raise ours from error
