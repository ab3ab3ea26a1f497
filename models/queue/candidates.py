"""Jobs that a housekeeping pass selects. Each later write checks that the reason for selecting the job still holds."""

from dataclasses import dataclass
from datetime import datetime
from typing import Self
from uuid import UUID

from asyncpg import Record

from models.queue.transitions import JobRef
from models.queue.user_keys import user_of_key


@dataclass(frozen=True, slots=True)
class CandidateJob:
    """A job that housekeeping selected. `lease_token` is that of its claim; None if no worker has claimed it.

    `user_id` is the application's own, not the key that the queue has.
    """

    ref: JobRef
    user_id: str
    stage: str
    attempts: int
    lease_token: UUID | None
    tier: str

    @classmethod
    def of(cls, row: Record) -> Self:
        """Build the candidate from a row with the columns of CANDIDATE_COLUMNS."""
        ref = JobRef(row["job_type"], row["job_id"], row["id"])
        user_id = user_of_key(row["job_type"], row["user_id"])
        return cls(ref, user_id, row["stage"], row["attempts"], row["lease_token"], row["tier"])


CANDIDATE_COLUMNS = "q.id, q.job_type, q.job_id, q.user_id, q.stage, q.attempts, q.lease_token, q.tier"
"""The columns, of the queue as `q`, that a query must select for a CandidateJob."""


@dataclass(frozen=True, slots=True)
class LostClaim:
    """A claim whose worker is dead, or which its worker held far past the stage's deadline.

    `kills` counts the job's earlier claims that were lost at this stage. `suspect_of` is the worker of one of them if
    the job ran alone in its process this time (`models.queue.suspects`); None if it ran beside others.
    """

    job: CandidateJob
    max_attempts: int
    is_dead: bool
    kills: int
    suspect_of: UUID | None

    @classmethod
    def of(cls, row: Record) -> Self:
        """Build the lost claim from a row of the query for rescue."""
        return cls(CandidateJob.of(row), row["max_attempts"], row["is_dead"], row["kills"], row["suspect_of"])


@dataclass(frozen=True, slots=True)
class OverdueJob:
    """A job that hasn't finished within the maximum wait. It was paused by operators for `paused_s` seconds."""

    job: CandidateJob
    created_at: datetime
    status: str
    last_error: str | None
    paused_s: float

    @classmethod
    def of(cls, row: Record) -> Self:
        """Build the overdue job from a row of the query for the maximum wait."""
        return cls(CandidateJob.of(row), row["created_at"], row["status"], row["last_error"], row["paused_s"])


@dataclass(frozen=True, slots=True)
class RefusedJob:
    """A job that the database has refused to start for at least END_AFTER_S (`models.queue.refusals`)."""

    job: CandidateJob
    last_error: str
    refused_since: datetime
    refusals: int

    @classmethod
    def of(cls, row: Record) -> Self:
        """Build the refused job from a row of the query for refused jobs."""
        return cls(CandidateJob.of(row), row["last_error"], row["refused_since"], row["refusals"])
