"""The job under a cap and in the fair order: one slot for it and another job of its user, and a tag that it keeps.

The rules are those of models/queue/fair.sql, each a step by itself. How two claimers give slots at the same moment is
the subject of tests/model/slots.py, in which jobs are no more than their slots.
"""

from collections.abc import Iterator

from tests.model.machine import Machine
from tests.model.state import PENDING, Queue, State, Step

CLAIMABLE = frozenset({"pending", "processing"})
"""A queue row with one of these has a slot. One that is held has none, and no claim finds it."""


class CappedMachine(Machine):
    """The sound one."""

    def steps(self, s: State) -> Iterator[Step]:
        """Yield every step from a state: those of the job, which ask for a slot, and those of slots."""
        for step in super().steps(s):
            yield step._replace(after=self.ask_for_slot(s, step.after))
        yield from self.admit(s)
        if s.is_slot_taken:
            yield Step("the user's other job leaves its slot", s._replace(is_slot_taken=False))
        elif s.queue is None or s.queue.status not in CLAIMABLE:
            yield Step("another job of the user gets the slot", s._replace(is_slot_taken=True), is_ours=False)

    def submit(self, s: State) -> Iterator[Step]:
        """Enter with a tag; or for later, without one."""
        yield from super().submit(s)
        if s.balance >= self.price:
            later = Queue(status="retrying", has_tag=False)
            yield Step("the producer submits for later", self.charge(s._replace(status=PENDING, queue=later)))

    def ask_for_slot(self, before: State, after: State) -> State:
        """Hold a row that becomes claimable, until a claimer has given it a slot: the trigger of that name."""
        if after.queue is None or after.queue.status != "pending":
            return after
        if before.queue is not None and before.queue.status in CLAIMABLE:
            return after
        return after._replace(queue=after.queue._replace(status="held"))

    def admit(self, s: State) -> Iterator[Step]:
        """Give a free slot, and a tag to a job that has none."""
        if s.queue is not None and s.queue.status == "held" and not s.is_slot_taken:
            admitted = s.queue._replace(status="pending", has_tag=True)
            yield Step("a claimer gives the job a slot", s._replace(queue=admitted))


class CapReadTooEarly(CappedMachine):
    """A claimer gives the slot that it has seen free, though another job has it by now."""

    def admit(self, s: State) -> Iterator[Step]:
        yield from super().admit(s)
        if s.queue is not None and s.queue.status == "held" and s.is_slot_taken:
            yield Step("a claimer gives a slot that is taken", s._replace(queue=s.queue._replace(status="pending")))


class RetryKeepsItsSlot(CappedMachine):
    """A job that waits for a retry is claimable again without asking for a slot, which another job has meanwhile."""

    def ask_for_slot(self, before: State, after: State) -> State:
        if before.queue is not None and before.queue.status == "retrying" and before.queue.has_tag:
            return after
        return super().ask_for_slot(before, after)


class SlotGivenOnce(CappedMachine):
    """A job whose slot was free at its entry gets it, and nobody looks again after another job has left it."""

    def __init__(self) -> None:
        super().__init__(price=0, meddling=0)  # every state is walked before it is certain that some lead nowhere

    def admit(self, s: State) -> Iterator[Step]:
        if s.used == 0:
            yield from super().admit(s)


class TagLostAtRetry(CappedMachine):
    """A job that waits for a retry takes its turn again."""

    def waits(self, s: State, worker: int, status: str, *, given_back: int) -> State | None:
        after = super().waits(s, worker, status, given_back=given_back)
        return after and after.queue and after._replace(queue=after.queue._replace(has_tag=False))


class DueWithoutTag(CappedMachine):
    """A job for later is claimable once it is due, without a tag."""

    def admit(self, s: State) -> Iterator[Step]:
        for step in super().admit(s):
            assert s.queue is not None
            assert step.after.queue is not None
            yield step._replace(after=s._replace(queue=step.after.queue._replace(has_tag=s.queue.has_tag)))


VARIANTS = {
    CapReadTooEarly: "caps",
    RetryKeepsItsSlot: "caps",
    SlotGivenOnce: "I1",
    TagLostAtRetry: "turns",
    DueWithoutTag: "turns",
}
"""Machines with one fault each, and the promise that it breaks."""
