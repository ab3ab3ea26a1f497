"""The database's triggers in the model: those of models/money/money.sql, entering.sql and changes.sql."""

from tests.model.state import (
    ANSWERED,
    CALLING,
    CHANGES,
    COMPLETED,
    DELETED,
    FAILED,
    GENERATING,
    LABELS,
    NEW,
    NOBODY,
    OVER,
    PENDING,
    REFUNDED,
    STORED,
    Run,
    State,
)

BUYING = frozenset({CALLING, ANSWERED, STORED})
"""Phases in which a picture is paid for, or may be, and would be lost with the run."""


class Rows:
    """The rules, and the scale of a machine."""

    def __init__(
        self,
        *,
        price: int = 1,
        max_attempts: int = 2,
        most_paid: int = 2,
        meddling: int = 1,
        process_of: tuple[int, ...] = (0, 1),
    ) -> None:
        """Set it.

        Args:
            price: what the job costs, of a balance of 1.
            max_attempts: of the job.
            most_paid: generate calls that may be paid for it.
            meddling: how many writes the foreign program makes.
            process_of: each worker's process: workers of one die and stop together.
        """
        self.price, self.max_attempts, self.most_paid = price, max_attempts, most_paid
        self.process_of = process_of
        self.start = State(NEW, None, (None,) * len(process_of), balance=1, meddling=meddling)

    def charge(self, s: State) -> State:
        """Take the price from balance and ledger, once."""
        if self.price == 0:
            return s
        return s._replace(balance=s.balance - self.price, ledger=s.ledger - self.price, charges=s.charges + 1)

    def refund(self, s: State) -> State:
        """Pay back what was charged, once: the key in job_money says whether it was."""
        if s.charges == 0 or s.refunds > 0:
            return s
        return s._replace(balance=s.balance + self.price, ledger=s.ledger + self.price, refunds=s.refunds + 1)

    def set_status(self, s: State, status: str) -> State | None:
        """Write a status, with all that its triggers do; None if the guard refuses it."""
        if s.status in {status, DELETED}:
            return s
        if s.status in OVER:
            return self.set_status_of_finished(s, status)
        if (s.status, status) not in CHANGES:
            return None
        return self.end(s, status) if status in OVER else self.follow(s._replace(status=status), status)

    def set_status_of_finished(self, s: State, status: str) -> State:
        """Keep a terminal status, but for a label."""
        return s._replace(status=status) if (s.status, status) in LABELS else s

    def follow(self, s: State, status: str) -> State:
        """Let a claimed job wait again whose status another program set back."""
        if status == PENDING and s.queue is not None and s.queue.status == "processing":
            queue = s.queue._replace(status="pending", holder=NOBODY, is_suspect=False)
            return self.disturbed(s)._replace(queue=queue, used=s.used - 1)
        return s

    def end(self, s: State, status: str) -> State:
        """End or delete a job: its queue row goes, and unless it was completed it is paid back."""
        s = s._replace(status=status, queue=None, used=0)
        return s if status == COMPLETED else self.refund(s)

    def failed(self, s: State) -> State | None:
        """Return the state after a failure of Darkroom's own."""
        return self.set_status(s, REFUNDED if s.charges else FAILED)

    def disturbed(self, s: State) -> State:
        """Allow one more answer if somebody now takes the claim of a run that is buying a picture."""
        run = s.runs[s.queue.holder] if s.queue is not None and s.queue.holder >= 0 else None
        return s._replace(slack=s.slack + 1) if run is not None and is_buying(run) else s


def is_buying(run: Run) -> bool:
    """Say whether a run's end would lose a picture that may be paid."""
    return run.stage == GENERATING and run.phase in BUYING
