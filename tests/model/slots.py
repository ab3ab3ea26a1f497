"""Users' slots under a cap as a state machine: one user, whose jobs two claimers give slots to and run.

A step is one commit, or the beginning of a transaction that reads what is committed then. `models/queue/fair.sql` is
the code: `darkroom.admit` deletes rows of freed_slots and locks the user's slots, counts in a later statement, and
commits what it has chosen. A job that is handed over to another queue leaves its slot and asks for one again, as a job
does that waits for a retry which is due at once.
"""

from collections.abc import Iterator
from typing import NamedTuple

NEW, HELD, READY, RUNNING, RETRYING, OVER = "new", "held", "claimable", "running", "waits for a retry", "over"
TAKING = frozenset({READY, RUNNING})


class Look(NamedTuple):
    """A claimer's look at the user, not committed: how many slots it has seen free, and the job it gives one to."""

    free: int
    chosen: int | None


class Slots(NamedTuple):
    """Everything between two commits. `is_freed`: freed_slots has a row; `looks` are the claimers' transactions."""

    jobs: tuple[str, ...]
    is_freed: bool = False
    looks: tuple[Look | None, ...] = (None, None)

    def with_job(self, number: int, status: str, *, is_freed: bool | None = None) -> "Slots":
        """Return the state with another status of a job."""
        jobs = (*self.jobs[:number], status, *self.jobs[number + 1 :])
        return self._replace(jobs=jobs, is_freed=self.is_freed if is_freed is None else is_freed)

    def with_look(self, claimer: int, look: Look | None) -> "Slots":
        """Return the state with another look of a claimer."""
        return self._replace(looks=(*self.looks[:claimer], look, *self.looks[claimer + 1 :]))

    @property
    def taken(self) -> int:
        """How many slots are taken by what is committed."""
        return sum(status in TAKING for status in self.jobs)


class SlotsMachine:
    """The sound one."""

    def __init__(self, jobs: int = 3, cap: int = 1) -> None:
        """Set how many jobs the user submits, and how many may run."""
        self.cap = cap
        self.start = Slots((NEW,) * jobs)

    def steps(self, s: Slots) -> Iterator[tuple[str, Slots]]:
        """Yield every step from a state, with who does what."""
        for number, status in enumerate(s.jobs):
            yield from self.of_job(s, number, status)
        for claimer in range(len(s.looks)):
            look = s.looks[claimer]
            if look is not None:
                yield f"claimer {claimer} commits its look", self.commit(s, claimer, look)
                yield f"claimer {claimer} dies", s.with_look(claimer, None)._replace(is_freed=True)
            elif s.is_freed and self.may_look(s):
                yield f"claimer {claimer} looks", self.look(s, claimer)

    def of_job(self, s: Slots, number: int, status: str) -> Iterator[tuple[str, Slots]]:
        """Yield what may happen to one job."""
        if status == NEW:
            yield f"job {number} enters", s.with_job(number, HELD, is_freed=True)
        elif status == READY:
            yield f"job {number} is claimed", s.with_job(number, RUNNING)
        elif status == RUNNING:
            yield f"job {number} is rescued or released", s.with_job(number, READY)
            yield f"job {number} waits for a retry", self.freed(s.with_job(number, RETRYING))
        elif status == RETRYING:
            yield f"job {number} is due again", s.with_job(number, HELD, is_freed=True)
        if status not in {NEW, OVER}:
            ended = s.with_job(number, OVER)
            yield f"job {number} ends", self.freed(ended) if status in TAKING else ended

    def freed(self, s: Slots) -> Slots:
        """Record that a job has left its slot, in the transaction by which it leaves."""
        return s._replace(is_freed=True)

    def may_look(self, s: Slots) -> bool:
        """Say whether the user's slots can be locked."""
        return not any(s.looks)

    def look(self, s: Slots, claimer: int) -> Slots:
        """Delete the row of freed_slots, count what is committed, and choose a job."""
        free = self.cap - s.taken
        locked = {look.chosen for look in s.looks if look is not None}
        held = [number for number, status in enumerate(s.jobs) if status == HELD and number not in locked]
        return s.with_look(claimer, Look(free, held[0] if held and free > 0 else None))._replace(is_freed=False)

    def commit(self, s: Slots, claimer: int, look: Look) -> Slots:
        """Give the slot; have the user looked at again if one is left and a job is held."""
        after = s.with_look(claimer, None)
        if look.chosen is not None and s.jobs[look.chosen] == HELD:
            after = after.with_job(look.chosen, READY)
        return after._replace(is_freed=after.is_freed or (HELD in after.jobs and after.taken < self.cap))


class CapReadWithoutLock(SlotsMachine):
    """Claimers count slots without locking them."""

    def may_look(self, _s: Slots) -> bool:
        return True


class SlotNotFreed(SlotsMachine):
    """A job leaves its slot, and nobody is told."""

    def freed(self, s: Slots) -> Slots:
        return s


class LookedAtOnce(SlotsMachine):
    """A look that leaves a slot free isn't repeated, though a job may have come to be held meanwhile."""

    def commit(self, s: Slots, claimer: int, look: Look) -> Slots:
        return super().commit(s, claimer, look)._replace(is_freed=False)


VARIANTS = {CapReadWithoutLock: "cap", SlotNotFreed: "stranded", LookedAtOnce: "stranded"}
"""What each breaks."""


def broken(machine: SlotsMachine) -> tuple[str, tuple[str, ...]] | None:
    """Walk every reachable state; return the first broken promise and the shortest way to it, or None."""
    ways: dict[Slots, tuple[str, ...]] = {machine.start: ()}
    states = [machine.start]
    for state in states:
        if state.taken > machine.cap:
            return "cap", ways[state]
        is_waiting = HELD in state.jobs and state.taken < machine.cap
        if is_waiting and not state.is_freed and not any(state.looks):
            return "stranded", ways[state]
        for label, after in machine.steps(state):
            if after not in ways:
                ways[after] = (*ways[state], label)
                states.append(after)
    return None
