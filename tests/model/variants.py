"""Machines with one fault each, and the promise that it breaks. The first six are those of the design's proof."""

from collections.abc import Iterator

from models.job_state import JobStatus
from tests.model.machine import Change, Machine, name
from tests.model.state import (
    ANALYZING,
    CALLING,
    LOOKED,
    PENDING,
    PROMISED,
    RECORDED,
    STORED,
    Queue,
    Run,
    State,
    Step,
)


class NoFence(Machine):
    """A claim's writes look at no lease token."""

    def write(self, s: State, worker: int, what: str, change: Change) -> Iterator[Step]:
        if (after := change(s)) is not None:
            yield Step(f"{name(worker)} {what}", after, writer=worker)


class UnlockedFence(Machine):
    """The queue row is joined and not locked: the fence is seen by the statement's snapshot, before it has the job."""

    def write(self, s: State, worker: int, what: str, change: Change) -> Iterator[Step]:
        run = s.runs[worker]
        if run is None or not run.has_passed:
            if run is not None and s.holds(worker):
                passed = s.with_run(worker, run._replace(has_passed=True))
                yield Step(f"{name(worker)}'s statement sees that the fence holds", passed)
            yield from super().write(s, worker, what, change)
        elif (after := change(s)) is not None:
            yield Step(f"{name(worker)} {what}", after, writer=worker)


class CompletionByIdAlone(Machine):
    """Completing asks only for the job's id."""

    def complete(self, s: State, worker: int) -> Iterator[Step]:
        if (after := self.completed(worker)(s)) is not None:
            yield Step(f"{name(worker)} completes the job", after, writer=worker)


class RefundOutsideTheTransaction(Machine):
    """A job's end is committed, and then its refund."""

    def refund(self, s: State) -> State:
        return s._replace(unwritten="refund") if s.charges else s

    def steps(self, s: State) -> Iterator[Step]:
        yield from super().steps(s)
        if s.unwritten == "refund":
            settled = s._replace(unwritten=None)
            yield Step("whoever ended the job pays it back", super().refund(settled))
            yield Step("whoever ended the job dies before the refund", settled, is_ours=False)


class RescueWithoutAttempt(Machine):
    """A rescue gives the attempt back."""

    def rescue(self, s: State, queue: Queue) -> Iterator[Step]:
        for step in super().rescue(s, queue):
            rescued = step.after.queue
            if rescued is not None:
                rescued = rescued._replace(attempts=rescued.attempts - 1)
            yield step._replace(after=step.after._replace(queue=rescued))


class ChargeAfterInsert(Machine):
    """The job is inserted and queued, and charged in a second transaction."""

    def submit(self, s: State) -> Iterator[Step]:
        yield Step("the producer submits", s._replace(status=PENDING, queue=Queue(), unwritten="charge"))

    def steps(self, s: State) -> Iterator[Step]:
        yield from super().steps(s)
        if s.unwritten == "charge" and s.balance >= self.price:
            yield Step("the producer is charged", self.charge(s._replace(unwritten=None)))


class ArtifactBeforeObject(Machine):
    """The artifact is recorded before its object is stored, and believed."""

    def store(self, s: State, worker: int, run: Run) -> Iterator[Step]:
        recorded = s._replace(artifact=s.artifact or PROMISED).with_run(worker, run._replace(phase=STORED))
        yield Step(f"{name(worker)} records the artifact", recorded)

    def record_artifact(self, s: State, worker: int) -> Iterator[Step]:
        yield from self.write(s, worker, "stores the picture", self.kept(worker))

    def look(self, s: State, worker: int, run: Run) -> Step:
        if s.artifact is None:
            return super().look(s, worker, run)
        return Step(f"{name(worker)} finds an artifact", s.with_run(worker, run._replace(phase=RECORDED)))


class IntentAfterCall(Machine):
    """The provider is called first, and the intent, with its fence, comes after."""

    def call(self, s: State, worker: int, run: Run) -> Iterator[Step]:
        calling = s.with_run(worker, run._replace(phase=CALLING))
        yield Step(f"{name(worker)} calls for {run.stage}", calling, buys=run.stage)


class ArtifactIsNotLookedFor(Machine):
    """A run that resumes doesn't ask whether its picture is there already."""

    def look(self, s: State, worker: int, run: Run) -> Step:
        return Step(f"{name(worker)} looks for no picture", s.with_run(worker, run._replace(phase=LOOKED)))


class RunFromTheFirstStage(Machine):
    """A claim begins at the first stage, whatever was finished."""

    def claim(self, s: State, queue: Queue, worker: int) -> Iterator[Step]:
        for step in super().claim(s, queue, worker):
            run = step.after.runs[worker]
            yield step._replace(after=step.after.with_run(worker, Run(ANALYZING))) if run else step


class CompletionBeforeStore(Machine):
    """The job is completed with the answer in memory, to be stored later."""

    def store(self, s: State, worker: int, run: Run) -> Iterator[Step]:
        yield from super().store(s, worker, run)
        yield from self.complete(s, worker)


class FenceByWorker(Machine):
    """The fence asks which process holds the job, and not which of its claims."""

    def __init__(self) -> None:
        super().__init__(process_of=(0, 0))

    def write(self, s: State, worker: int, what: str, change: Change) -> Iterator[Step]:
        holder = s.queue.holder if s.queue is not None else -1
        if holder >= 0 and self.process_of[holder] == self.process_of[worker] and (after := change(s)) is not None:
            yield Step(f"{name(worker)} {what}", after, writer=worker)
        else:
            yield from super().write(s, worker, what, change)


class HandOverWithoutFence(Machine):
    """A hand-over looks at no lease token."""

    def hand_over(self, s: State, worker: int) -> Iterator[Step]:
        if s.queue is not None and (after := self.let_go(worker)(s)) is not None:
            yield Step(f"{name(worker)} hands the job over", after, writer=worker)


class NoRescue(Machine):
    """Nobody takes over what a dead process held."""

    def rescue(self, _state: State, _queue: Queue) -> Iterator[Step]:
        return iter(())


class NoStatusGuard(Machine):
    """A finished job takes any status that is written."""

    def set_status_of_finished(self, s: State, status: str) -> State:
        return self.end(s, status) if JobStatus(status).is_terminal else s._replace(status=status)


class LedgerApart(Machine):
    """A refund's balance and its ledger row are two transactions."""

    def refund(self, s: State) -> State:
        paid = super().refund(s)
        return paid._replace(ledger=s.ledger, unwritten="ledger") if paid != s else s

    def steps(self, s: State) -> Iterator[Step]:
        yield from super().steps(s)
        if s.unwritten == "ledger":
            entered = s._replace(ledger=s.ledger + self.price, unwritten=None)
            yield Step("the refund's ledger row is written", entered)


class BalanceReadUnlocked(Machine):
    """Charging reads the balance without locking it, and writes what it reckoned."""

    def submit(self, s: State) -> Iterator[Step]:
        if s.unwritten is None and s.balance >= self.price:
            yield Step("the producer's statement reads the balance", s._replace(unwritten=str(s.balance)))
        elif s.unwritten is not None:
            charged = self.charge(s._replace(status=PENDING, queue=Queue(), unwritten=None))
            yield Step("the producer submits", charged._replace(balance=int(s.unwritten) - self.price))


VARIANTS: dict[type[Machine], str] = {
    NoFence: "I2",
    UnlockedFence: "I2",
    RefundOutsideTheTransaction: "I3",
    RescueWithoutAttempt: "I1",
    CompletionByIdAlone: "I2",
    ChargeAfterInsert: "I3",
    ArtifactBeforeObject: "I4",
    CompletionBeforeStore: "I4",
    IntentAfterCall: "I6",
    ArtifactIsNotLookedFor: "I6",
    RunFromTheFirstStage: "I6",
    FenceByWorker: "I2",
    HandOverWithoutFence: "I2",
    NoRescue: "I1",
    NoStatusGuard: "I5",
    LedgerApart: "I7",
    BalanceReadUnlocked: "I7",
}
"""What each breaks first: on a shortest way."""
