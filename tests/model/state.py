"""The state in the model: one job with its queue row, its claims, its money and its pictures.

A worker is a process with one job at a time, and a claim is identified by its worker: its lease token is current as
long as the queue row names that worker. Time isn't counted: whatever may happen late may happen at any step.
"""

from typing import NamedTuple

from models.job_state import LABEL_CHANGES, TERMINAL, TRANSITIONS, JobStatus
from pipelines.job_types import ANALYZE, GENERATE

STATUSES = tuple(status.value for status in JobStatus)
PENDING, PROCESSING, COMPLETED, FAILED, REFUNDED, CANCELLED = STATUSES
OVER = frozenset(status.value for status in TERMINAL)
CHANGES = frozenset((before.value, after.value) for before, targets in TRANSITIONS.items() for after in targets)
LABELS = frozenset((before.value, after.value) for before, after in LABEL_CHANGES)
"""As models/job_state.py has them, as plain strings: an enum's hash costs more than the rest of a state's."""

NEW, DELETED = "not submitted", "deleted"

ANALYZING, GENERATING = ANALYZE.name, GENERATE.name
STAGES = (ANALYZING, GENERATING)
"""Two stand for four: the one that buys a picture, and one before it that buys, too, and ends with a checkpoint."""

LOADED, LOOKED, CALLING, ANSWERED = "loaded", "looked", "calling", "answered"
STORED, RECORDED = "stored", "recorded"
"""How far a run is in its stage: it has begun; it has found no stored picture; the intent is committed and the call
out; the answer is in memory; the picture is in storage; its artifact is recorded."""

NOBODY, DEAD = -1, -2
"""In place of a worker: the row is claimed by none, or by a process that is gone."""

PROMISED, KEPT = "promised", "kept"
"""An artifact, or a completed job's picture: recorded without its object, and with it."""


class Queue(NamedTuple):
    """The row of job_queue. `kills` counts the rescues at this stage, as stage_runs does. A suspect runs alone.

    `has_tag` is whether it has its place in the fair order.
    """

    status: str = "pending"
    stage: str = ANALYZING
    attempts: int = 0
    holder: int = NOBODY
    kills: int = 0
    is_suspect: bool = False
    has_tag: bool = True


class Run(NamedTuple):
    """A worker's job. `is_asleep`: stopped past its lease. `has_passed`: a statement in flight saw the fence hold."""

    stage: str
    phase: str = LOADED
    is_asleep: bool = False
    has_passed: bool = False


class State(NamedTuple):
    """Everything at one moment between two commits.

    Attributes:
        status: the job row's, or NEW or DELETED.
        queue: its queue row.
        runs: each worker's job.
        balance: of the user, who can pay for one job.
        ledger: the sum of the user's ledger rows.
        charges: how often the job was charged.
        refunds: how often it was paid back.
        artifact: what is recorded for its picture.
        result: what the completed job names.
        paid: its generate calls that may have been paid, by the intent log.
        slack: answers with a picture that I6 still allows: 1, one more for each disturbance, one less for each answer.
        used: attempts used, counted by us and not by the queue row.
        meddling: writes that the foreign program has left.
        has_spent: the user has bought something else with the same balance.
        unwritten: what a variant has still to write in a transaction of its own.
        is_slot_taken: whether another job of the user has the one slot that the user has, where there is a cap.
    """

    status: str
    queue: Queue | None
    runs: tuple[Run | None, ...]
    balance: int
    ledger: int = 0
    charges: int = 0
    refunds: int = 0
    artifact: str | None = None
    result: str | None = None
    paid: int = 0
    slack: int = 1
    used: int = 0
    meddling: int = 0
    has_spent: bool = False
    unwritten: str | None = None
    is_slot_taken: bool = False

    def holds(self, worker: int) -> bool:
        """Say whether the lease token of a worker's run is the queue row's."""
        return self.queue is not None and self.queue.holder == worker

    def with_run(self, worker: int, run: Run | None) -> "State":
        """Return the state with another run of a worker."""
        return self._replace(runs=(*self.runs[:worker], run, *self.runs[worker + 1 :]))


class Step(NamedTuple):
    """One commit, or one thing that happens between two.

    Attributes:
        label: who did what.
        after: the state that follows.
        writer: whose claim wrote; None for what needs no claim.
        buys: the stage for which a provider is called.
        is_ours: Darkroom's own progress, and neither a fault nor somebody else's doing.
    """

    label: str
    after: State
    writer: int | None = None
    buys: str | None = None
    is_ours: bool = True
