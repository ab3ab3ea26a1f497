"""Darkroom as a state machine: from a state, every step that any program can make. A step is one commit or one event.

A write of a claim is one step, though it consists of several statements: models/queue/transitions.py locks the job row
and then the queue row, and writes only what it found locked. Variants override one method.

A group of writes (models/queue/groups.py) is one commit of several steps, of different jobs. Each locks, compares and
writes the rows of its own job only, so each is the step of `Machine.write`, and none sees the others: what a group can
do to a job are the same steps in the same orders. Checkpoints that become one change are steps at the same moment,
between which nobody acts; such orders are among those that are explored. That a run goes on before its checkpoint is
committed adds no step either: nothing happens outside its process until then, and what it has computed is lost with the
process, as if it had been computed after the commit. A barrier that is missing would add steps, which
tests/integration/queue/test_barriers.py and test_broken_variants.py look for.
"""

from collections.abc import Callable, Iterator

from models.queue.suspects import QUARANTINE_KILLS
from tests.model.rows import Rows
from tests.model.state import (
    ANALYZING,
    ANSWERED,
    CALLING,
    CANCELLED,
    COMPLETED,
    DEAD,
    DELETED,
    GENERATING,
    KEPT,
    LOADED,
    LOOKED,
    NEW,
    NOBODY,
    OVER,
    PENDING,
    PROCESSING,
    PROMISED,
    RECORDED,
    STATUSES,
    STORED,
    Queue,
    Run,
    State,
    Step,
)

Change = Callable[[State], State | None]


class Machine(Rows):
    """The sound one."""

    def steps(self, s: State) -> Iterator[Step]:
        """Yield every step from a state."""
        if s.status == NEW:
            yield from self.submit(s)
        yield from self.scheduler(s)
        for worker in range(len(s.runs)):
            yield from self.worker(s, worker)
        yield from self.others(s)
        yield from self.faults(s)
        if s.balance >= 1 and not s.has_spent:
            bought = s._replace(balance=s.balance - 1, ledger=s.ledger - 1, has_spent=True)
            yield Step("the user buys something else", bought, is_ours=False)

    def submit(self, s: State) -> Iterator[Step]:
        """Insert, queue and charge in the producer's statement, or nothing of it."""
        if s.balance >= self.price:
            yield Step("the producer submits, and is charged", self.charge(s._replace(status=PENDING, queue=Queue())))

    # the scheduler, and what any idle worker does: models/queue/rescue.py, wake_due of models/queue/claims.py

    def scheduler(self, s: State) -> Iterator[Step]:
        """Wake what waits, rescue what nobody holds, and end what has waited for too long."""
        if s.queue is None:
            return
        if s.queue.status == "retrying":
            yield Step("the scheduler wakes the job", s._replace(queue=s.queue._replace(status="pending")))
        if s.queue.holder == DEAD or (s.queue.holder >= 0 and self.is_asleep(s, s.queue.holder)):
            yield from self.rescue(s, s.queue)
        ended = self.failed(self.disturbed(s))
        if ended is not None:
            yield Step("the scheduler ends the job: its maximum wait is over", ended, is_ours=False)

    def rescue(self, s: State, queue: Queue) -> Iterator[Step]:
        """Make a lost claim due again, to run alone, or end a job without attempts or one that kills workers."""
        s = self.disturbed(s)
        kills = queue.kills + 1
        if (kills >= QUARANTINE_KILLS and queue.is_suspect) or queue.attempts >= self.max_attempts:
            ended = self.failed(s)
            if ended is not None:
                yield Step("the scheduler ends the job instead of a rescue", ended)
            return
        rescued = self.set_status(
            s._replace(queue=queue._replace(status="pending", holder=NOBODY, kills=kills, is_suspect=True)), PENDING
        )
        if rescued is not None:
            yield Step("the scheduler rescues the job", rescued)

    # a worker: models/queue/claims.py, workers/running/claim_loop.py

    def worker(self, s: State, worker: int) -> Iterator[Step]:
        """Claim, work, notice that a claim is gone; give back a claim whose answer was lost on the way."""
        run = s.runs[worker]
        if run is None:
            if s.queue is not None and s.queue.status == "pending" and worker == s.runs.index(None):
                yield from self.claim(s, s.queue, worker)
            if s.holds(worker):
                yield from self.write(s, worker, "gives back a claim that it doesn't know", self.released)
        elif not run.is_asleep:
            yield from self.work(s, worker, run)
            if not s.holds(worker):
                yield Step(f"{name(worker)} hears that its claim is gone", self.stopped(s, worker))

    def claim(self, s: State, queue: Queue, worker: int) -> Iterator[Step]:
        """Take the job; the first idle worker does, because all are alike. A suspect runs alone in its process."""
        beside = (s.runs[other] for other, its in enumerate(self.process_of) if its == self.process_of[worker])
        if s.status in OVER or (queue.is_suspect and any(beside)):
            return
        claimed = s._replace(
            status=PROCESSING,
            queue=queue._replace(status="processing", attempts=queue.attempts + 1, holder=worker),
            used=s.used + 1,
        )
        yield Step(f"{name(worker)} claims the job", claimed.with_run(worker, Run(queue.stage)))
        yield Step(f"{name(worker)} claims the job, and never hears of it", claimed, is_ours=False)

    def write(self, s: State, worker: int, what: str, change: Change) -> Iterator[Step]:
        """Write by a claim: the fence and the change in one transaction. A write that is refused ends its run."""
        if not s.holds(worker):
            yield Step(f"{name(worker)} can't write, its claim is gone", self.stopped(s, worker), writer=worker)
        elif (after := change(s)) is not None:
            yield Step(f"{name(worker)} {what}", after, writer=worker)

    # a run of a claim: workers/running/run.py, workers/gate/admission.py, models/queue/transitions.py

    def work(self, s: State, worker: int, run: Run) -> Iterator[Step]:
        """Yield what a run does next."""
        if run.phase == LOADED:
            yield from self.begin(s, worker, run)
        elif run.phase == LOOKED:
            yield from self.call(s, worker, run)
        elif run.phase == CALLING:
            yield from self.wait_for_answer(s, worker, run)
        elif run.phase == ANSWERED and run.stage == ANALYZING:
            yield from self.write(s, worker, "commits the checkpoint", self.checkpoint(worker))
        elif run.phase == ANSWERED:
            yield from self.store(s, worker, run)
        elif run.phase == STORED:
            yield from self.record_artifact(s, worker)
        else:
            yield from self.complete(s, worker)
            yield from self.write(s, worker, "retries: the result was refused", self.retried(worker))

    def begin(self, s: State, worker: int, run: Run) -> Iterator[Step]:
        """Look for the picture of an earlier run; or end before anything is bought."""
        if run.stage == ANALYZING:
            yield from self.call(s, worker, run)
        else:
            yield self.look(s, worker, run)
        yield from self.write(s, worker, "fails for good", self.ended(worker))
        yield from self.write(s, worker, "retries", self.retried(worker))
        yield from self.write(s, worker, "snoozes", self.snoozed(worker))
        yield from self.write(s, worker, "releases the job", self.let_go(worker))
        if run.stage == GENERATING:
            yield from self.hand_over(s, worker)

    def hand_over(self, s: State, worker: int) -> Iterator[Step]:
        """Let the job wait for this stage in another queue, before anything of it is done."""
        yield from self.write(s, worker, "hands the job over", self.let_go(worker))

    def look(self, s: State, worker: int, run: Run) -> Step:
        """Look for an artifact and its object; what is stored isn't bought again."""
        if s.artifact == KEPT:
            return Step(f"{name(worker)} finds a stored picture", s.with_run(worker, run._replace(phase=RECORDED)))
        return Step(f"{name(worker)} finds no stored picture", s.with_run(worker, run._replace(phase=LOOKED)))

    def call(self, s: State, worker: int, run: Run) -> Iterator[Step]:
        """Commit the intent, and call; or refuse to pay for yet another picture."""
        if run.stage == GENERATING and s.paid >= self.most_paid:
            yield from self.write(s, worker, "fails: too many paid calls", self.ended(worker))
        else:
            for step in self.write(s, worker, f"commits the intent and calls for {run.stage}", self.calling(worker)):
                yield step._replace(buys=run.stage) if step.after.runs[worker] else step

    def wait_for_answer(self, s: State, worker: int, run: Run) -> Iterator[Step]:
        """Get an answer, a refusal that isn't paid, a refusal that is, nothing in time; or cut the call off."""
        answered = self.answered(s, run).with_run(worker, run._replace(phase=ANSWERED))
        yield Step(f"{name(worker)} has the answer for {run.stage}", answered)
        unpaid = s._replace(paid=s.paid - 1) if run.stage == GENERATING else s
        yield Step(f"{name(worker)} is refused by the provider", unpaid.with_run(worker, run._replace(phase=LOADED)))
        yield from self.write(s, worker, "fails: refused by policy", self.ended(worker))
        yield from self.write(s, worker, "retries: no answer in time", self.retried(worker))
        if s.holds(worker):
            yield from self.write(self.cut_off(s, run), worker, "cuts its call off and releases", self.let_go(worker))

    def store(self, s: State, worker: int, run: Run) -> Iterator[Step]:
        """Store the picture; or lose it with a storage, or a shutdown, that leaves no time for it."""
        yield Step(f"{name(worker)} stores the picture", s.with_run(worker, run._replace(phase=STORED)))
        if s.holds(worker):
            lost = s._replace(slack=s.slack + 1)
            yield from self.write(lost, worker, "retries: no storage until the deadline", self.retried(worker))
            yield from self.write(lost, worker, "releases: no storage until the grace is over", self.let_go(worker))

    def record_artifact(self, s: State, worker: int) -> Iterator[Step]:
        """Record the stored picture."""
        yield from self.write(s, worker, "records the artifact", self.kept(worker))

    def complete(self, s: State, worker: int) -> Iterator[Step]:
        """Write the result."""
        yield from self.write(s, worker, "completes the job", self.completed(worker))

    def answered(self, s: State, run: Run) -> State:
        """Count an answer with a picture."""
        return s._replace(slack=s.slack - 1) if run.stage == GENERATING else s

    def cut_off(self, s: State, run: Run) -> State:
        """Count a call that was cut off by us: a disturbance, and perhaps an answer."""
        return self.answered(self.disturbed(s), run)

    def stopped(self, s: State, worker: int) -> State:
        """End a run in its process; a call in flight may have been answered."""
        run = s.runs[worker]
        if run is not None and run.phase == CALLING:
            s = self.answered(s, run)
        return s.with_run(worker, None)

    # what a claim may write

    def calling(self, worker: int) -> Change:
        """Commit an intent."""

        def change(s: State) -> State:
            run = s.runs[worker]
            assert run is not None
            paid = s.paid + (run.stage == GENERATING)
            return s._replace(paid=paid).with_run(worker, run._replace(phase=CALLING, has_passed=False))

        return change

    def checkpoint(self, worker: int) -> Change:
        """Finish the first stage and begin the second, of which no worker has died."""

        def change(s: State) -> State:
            queue = s.queue._replace(stage=GENERATING, kills=0, is_suspect=False) if s.queue is not None else None
            return s._replace(queue=queue).with_run(worker, Run(GENERATING))

        return change

    def kept(self, worker: int) -> Change:
        """Commit the artifact of a stored picture."""

        def change(s: State) -> State:
            run = s.runs[worker]
            assert run is not None
            return s._replace(artifact=KEPT).with_run(worker, run._replace(phase=RECORDED, has_passed=False))

        return change

    def completed(self, worker: int) -> Change:
        """End with the picture that the artifact names."""

        def change(s: State) -> State | None:
            after = self.set_status(s, COMPLETED)
            if after is not None and after.status != s.status:
                after = after._replace(result=s.artifact or PROMISED)
            return after and after.with_run(worker, None)

        return change

    def ended(self, worker: int) -> Change:
        """Fail for good."""

        def change(s: State) -> State | None:
            after = self.failed(s)
            return after and after.with_run(worker, None)

        return change

    def retried(self, worker: int) -> Change:
        """Wait for another attempt, or end if there is none."""

        def change(s: State) -> State | None:
            if s.queue is not None and s.queue.attempts >= self.max_attempts:
                return self.ended(worker)(s)
            return self.waits(s, worker, "retrying", given_back=0)

        return change

    def snoozed(self, worker: int) -> Change:
        """Wait, with the attempt given back."""
        return lambda s: self.waits(s, worker, "retrying", given_back=1)

    def let_go(self, worker: int) -> Change:
        """Be due at once, with the attempt given back."""
        return lambda s: self.waits(s, worker, "pending", given_back=1)

    def released(self, s: State) -> State | None:
        """Give back a claim of which there is no run."""
        assert s.queue is not None
        return self.waits(s, s.queue.holder, "pending", given_back=1)

    def waits(self, s: State, worker: int, status: str, *, given_back: int) -> State | None:
        """Move queue row and job row back to waiting."""
        if s.queue is not None:
            attempts = s.queue.attempts - given_back
            queue = s.queue._replace(status=status, holder=NOBODY, attempts=attempts)
            s = s._replace(queue=queue, used=s.used - given_back)
        after = self.set_status(s, PENDING)
        return after and after.with_run(worker, None)

    # everybody else, and what breaks

    def others(self, s: State) -> Iterator[Step]:
        """Cancel; and let a foreign program write any status by id, or delete the row, whenever it likes."""
        if s.status in {NEW, DELETED}:
            return
        cancelled = self.set_status(self.disturbed(s), CANCELLED)
        if cancelled is not None and s.status not in OVER:
            yield Step("the canceller cancels the job", cancelled, is_ours=False)
        if s.meddling == 0:
            return
        meddled = s._replace(meddling=s.meddling - 1)
        for status in STATUSES:
            ends = status in OVER and s.status not in OVER
            after = self.set_status(self.disturbed(meddled) if ends else meddled, status)
            if after is not None and after != meddled:
                yield Step(f"the foreign program sets {status}", after, is_ours=False)
        deleted = self.end(self.disturbed(meddled), DELETED) if s.status not in OVER else meddled
        yield Step("the foreign program deletes the row", deleted._replace(status=DELETED), is_ours=False)

    def faults(self, s: State) -> Iterator[Step]:
        """Kill a process, stop it past its lease, and let it go on."""
        for process in sorted(set(self.process_of)):
            mine = [worker for worker, its in enumerate(self.process_of) if its == process]
            runs = [s.runs[worker] for worker in mine]
            if any(runs) or any(map(s.holds, mine)):
                yield Step(f"{names(mine)} dies", self.killed(s, mine), is_ours=False)
            if any(run is not None and not run.is_asleep for run in runs):
                yield Step(
                    f"{names(mine)} stops for longer than the lease", asleep(s, mine, is_asleep=True), is_ours=False
                )
            if any(run is not None and run.is_asleep for run in runs):
                yield Step(f"{names(mine)} goes on", asleep(s, mine, is_asleep=False))

    def killed(self, s: State, workers: list[int]) -> State:
        """End the runs of a process, whose claims nobody holds any more. Another process starts in its place."""
        for worker in workers:
            if s.queue is not None and s.holds(worker):
                s = self.disturbed(s)._replace(queue=s.queue._replace(holder=DEAD))
            s = self.stopped(s, worker)
        return s

    def is_asleep(self, s: State, worker: int) -> bool:
        """Say whether a worker's lease is over."""
        run = s.runs[worker]
        return run is not None and run.is_asleep


def asleep(s: State, workers: list[int], *, is_asleep: bool) -> State:
    """Stop a process's runs, or let them go on."""
    for worker in workers:
        run = s.runs[worker]
        if run is not None:
            s = s.with_run(worker, run._replace(is_asleep=is_asleep))
    return s


def name(worker: int) -> str:
    """Name a worker."""
    return f"worker {'AB'[worker]}"


def names(workers: list[int]) -> str:
    """Name the workers of a process."""
    return " and ".join(map(name, workers))
