"""A record of what the programs of a run did and saw, kept outside of all that faults reach; the audit uses it."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Submitted:
    """A job of `pictures` pictures that a producer asked for; `is_certain` if it was told of the commit."""

    job_id: str
    user_id: str
    image_id: str | None
    idempotency_key: str | None = None
    is_certain: bool = True
    pictures: int = 1


@dataclass(slots=True)
class Injected:
    """A fault that was made: from when to when (seconds since 1970), and the worker or the processes that it hit."""

    kind: str
    at_s: float
    until_s: float
    worker_id: str | None = None
    detail: str = ""
    pids: frozenset[int] = frozenset()


@dataclass(slots=True)
class Book:
    """Everything that is written down while a run lasts."""

    submitted: list[Submitted] = field(default_factory=list)
    deleted: set[tuple[str, str]] = field(default_factory=set)
    """(`user` | `image` | `job`, id): what was deleted, or may have been."""
    injected: list[Injected] = field(default_factory=list)
    seen: Counter = field(default_factory=Counter)
    """What happened to the programs: deadlocks, lost connections, refusals, by name."""
    deadlocks: list[str] = field(default_factory=list)
    isolation_failures: list[tuple[str, str, float, float]] = field(default_factory=list)
    """Serialization failures of producers that share no row with anybody: error, user, and from when to when."""
    restored: set[str] = field(default_factory=set)
    """Jobs whose row came with a checkpoint that nobody can read: they begin at an earlier stage than the row said."""
    refused_cancels: list[str] = field(default_factory=list)
    """Cancellations that the database refused because a refund couldn't be paid."""
    exceeded: set[str] = field(default_factory=set)
    """Users of whom more jobs ran than their cap allows, as seen at some moment."""
    cancels_s: list[float] = field(default_factory=list)
    """How long each cancellation took, from our asking to its commit: the job is terminal then."""
