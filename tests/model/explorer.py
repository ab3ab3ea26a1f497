"""A breadth-first search over every state that a machine can reach; it finds the shortest way to a broken promise."""

import gc
from collections.abc import Iterator
from dataclasses import dataclass

from tests.model.machine import Machine
from tests.model.promises import STEP_PROMISES, is_over, state_promises
from tests.model.state import State

MOST_STATES = 600_000


class TooManyStatesError(Exception):
    """The machine is larger than a test can walk."""


@dataclass(frozen=True)
class Violation:
    """A broken promise, and the shortest way to it."""

    promise: str
    finding: str
    trace: tuple[str, ...]

    def __str__(self) -> str:
        steps = "".join(f"\n  {number}. {label}" for number, label in enumerate(self.trace, 1))
        return f"{self.promise}: {self.finding}{steps}"


@dataclass(frozen=True)
class Exploration:
    """What a walk came to. `changes` are the pairs of statuses that some step went between."""

    states: int
    steps: int
    changes: frozenset[tuple[str, str]]
    violation: Violation | None


class _Walk:
    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.number_of = {machine.start: 0}
        self.states = [machine.start]
        self.parents: list[tuple[int, str]] = [(-1, "")]
        self.earlier: list[list[int]] = [[]]
        self.steps = 0
        self.changes: set[tuple[str, str]] = set()
        self.promises = state_promises(machine.price, machine.max_attempts, machine.most_paid)

    def run(self) -> Exploration:
        violation = next(self.broken(), None) or self.stuck()
        return Exploration(len(self.states), self.steps, frozenset(self.changes), violation)

    def broken(self) -> Iterator[Violation]:
        """Walk; yield what each step or the state after it breaks."""
        number = 0
        while number < len(self.states):
            before = self.states[number]
            for step in self.machine.steps(before):
                self.steps += 1
                self.changes.add((before.status, step.after.status))
                target = self.number_of.get(step.after, -1)
                is_new = target < 0
                if is_new:
                    target = self.add(step.after, number, step.label)
                if step.is_ours:
                    self.earlier[target].append(number)
                for promise, is_kept in STEP_PROMISES.items():
                    if finding := is_kept(before, step):
                        yield Violation(promise, finding, (*self.trace(number), step.label))
                for promise, holds in self.promises if is_new else ():
                    if finding := holds(step.after):
                        yield Violation(promise, finding, self.trace(target))
            number += 1

    def add(self, state: State, parent: int, label: str) -> int:
        if len(self.states) >= MOST_STATES:
            raise TooManyStatesError(f"more than {MOST_STATES} states")
        self.number_of[state] = number = len(self.states)
        self.states.append(state)
        self.parents.append((parent, label))
        self.earlier.append([])
        return number

    def stuck(self) -> Violation | None:
        """Find the nearest state from which Darkroom's own steps lead to no end (I1)."""
        found = [is_over(state) for state in self.states]
        open_ends = [number for number, is_end in enumerate(found) if is_end]
        while open_ends:
            for number in self.earlier[open_ends.pop()]:
                if not found[number]:
                    found[number] = True
                    open_ends.append(number)
        if all(found):
            return None
        return Violation("I1", "no step of ours leads to an end from here", self.trace(found.index(False)))

    def trace(self, number: int) -> tuple[str, ...]:
        labels = []
        while number > 0:
            number, label = self.parents[number]
            labels.append(label)
        return tuple(reversed(labels))


def explore(machine: Machine) -> Exploration:
    """Walk every reachable state, or until a promise is broken.

    Raises:
        TooManyStatesError: there are more than MOST_STATES.
    """
    gc.disable()  # it would look through every state again and again, and a state refers to nothing that refers to it
    try:
        return _Walk(machine).run()
    finally:
        gc.enable()
