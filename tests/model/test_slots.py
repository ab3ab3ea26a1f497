"""The model of users' slots: no reachable state exceeds a cap or strands a job, and each fault is found."""

import pytest

from tests.model.slots import VARIANTS, SlotsMachine, broken


@pytest.mark.parametrize(("jobs", "cap"), [(3, 1), (3, 2)])
def test_sound_slots_exceed_no_cap_and_strand_no_job(jobs, cap):
    assert broken(SlotsMachine(jobs, cap)) is None


@pytest.mark.parametrize(("variant", "promise"), VARIANTS.items(), ids=[one.__name__ for one in VARIANTS])
def test_broken_slots_are_found(variant, promise):
    found = broken(variant())

    assert found is not None, f"{variant.__name__} passes every check"
    assert found[0] == promise, found
