"""The model of a job's life: no reachable state breaks a promise, and each fault that is built in is found."""

from functools import lru_cache

import pytest

from models.job_state import TRANSITIONS
from tests.model import capped
from tests.model.explorer import explore
from tests.model.machine import Machine
from tests.model.state import COMPLETED, DELETED
from tests.model.variants import VARIANTS as OF_JOBS

VARIANTS = OF_JOBS | capped.VARIANTS
SCALES = {
    "three attempts": Machine(max_attempts=3),
    "two writes of a foreign program": Machine(meddling=2),
    "two workers of one process": Machine(process_of=(0, 0)),
    "a job that costs nothing": Machine(price=0, meddling=0),
    "a user with one slot": capped.CappedMachine(price=0, meddling=0),
}


@lru_cache
def explored_at(scale):
    return explore(SCALES[scale])


@pytest.mark.parametrize("scale", SCALES)
def test_sound_model_breaks_no_promise_anywhere(scale):
    explored = explored_at(scale)

    print(f"{scale}: {explored.states} states, {explored.steps} steps")  # noqa: T201 - pytest -s shows it
    assert explored.violation is None, explored.violation
    assert explored.states > 5_000


def test_model_takes_every_change_that_the_state_machine_knows():
    changes = explored_at("three attempts").changes

    assert {(before.value, after.value) for before, targets in TRANSITIONS.items() for after in targets} <= changes
    assert (COMPLETED, DELETED) in changes


@pytest.mark.parametrize(("variant", "promise"), VARIANTS.items(), ids=[one.__name__ for one in VARIANTS])
def test_broken_variant_breaks_its_promise(variant, promise):
    violation = explore(variant()).violation

    assert violation is not None, f"{variant.__name__} passes every check"
    print(f"{variant.__name__}\n{violation}")  # noqa: T201 - pytest -s shows the shortest way to what is broken
    assert violation.promise == promise
