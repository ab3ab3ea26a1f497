"""Queue rows as a pass over many jobs finds them: what it writes afterwards asks whether they are still so."""

from dataclasses import dataclass
from datetime import datetime
from typing import Self
from uuid import UUID

from asyncpg import Record

from models.queue.transitions import Unheld


@dataclass(frozen=True, slots=True)
class Found:
    """A job in the queue. `lease_token` is that of its claim; None if nobody has claimed it."""

    unheld: Unheld
    user_id: str
    stage: str
    attempts: int
    lease_token: UUID | None

    @classmethod
    def of(cls, row: Record) -> Self:
        """Build it from a row with the columns of FOUND."""
        unheld = Unheld(row["job_type"], row["job_id"], row["id"])
        return cls(unheld, row["user_id"], row["stage"], row["attempts"], row["lease_token"])


FOUND = "q.id, q.job_type, q.job_id, q.user_id, q.stage, q.attempts, q.lease_token"
"""What a query over `q` selects for a Found."""


@dataclass(frozen=True, slots=True)
class LostClaim:
    """A claim that nobody holds. `kills` is how many claims of the job were lost at this stage before."""

    job: Found
    max_attempts: int
    is_dead: bool
    kills: int

    @classmethod
    def of(cls, row: Record) -> Self:
        """Build it from a row of what rescue looks for."""
        return cls(Found.of(row), row["max_attempts"], row["is_dead"], row["kills"])


@dataclass(frozen=True, slots=True)
class OverdueJob:
    """A job that hasn't finished within the maximum wait; `paused_s` of its time, operators' pauses held it back."""

    job: Found
    created_at: datetime
    status: str
    last_error: str | None
    paused_s: float

    @classmethod
    def of(cls, row: Record) -> Self:
        """Build it from a row of what the maximum wait looks for."""
        return cls(Found.of(row), row["created_at"], row["status"], row["last_error"], row["paused_s"])


@dataclass(frozen=True, slots=True)
class RefusedJob:
    """A job that the database has refused to start for long."""

    job: Found
    last_error: str
    refused_since: datetime
    refusals: int

    @classmethod
    def of(cls, row: Record) -> Self:
        """Build it from a row of what the database refuses."""
        return cls(Found.of(row), row["last_error"], row["refused_since"], row["refusals"])
