"""Who may rescue, and from when on."""

from datetime import UTC, datetime, timedelta

import pytest

from workers.process.pulse import MOST_VALID_FOR, SETTLING, Pulse

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def beaten(pulse, *seconds):
    for second in seconds:
        pulse.beat(NOON + timedelta(seconds=second))
    return pulse


def test_rescue_is_possible_some_seconds_after_a_session_began_and_long_before_a_lease():
    pulse = beaten(Pulse(15), 0, 1, 2)
    assert pulse.rescue_not_after() is None

    beaten(pulse, SETTLING.total_seconds())

    assert pulse.rescue_not_after() == NOON + SETTLING + MOST_VALID_FOR
    assert pulse.settled_at() == NOON + SETTLING


def test_gap_begins_the_session_anew():
    pulse = beaten(Pulse(15), *range(20), 30, 31, 32)

    assert pulse.rescue_not_after() is None
    assert beaten(pulse, 33).settled_at() == NOON + timedelta(seconds=33)


def test_lost_connection_begins_the_session_anew_however_short():
    pulse = beaten(Pulse(15), *range(20))
    pulse.break_off()

    assert pulse.rescue_not_after() is None
    assert beaten(pulse, 20, 21, 22).rescue_not_after() is None
    assert beaten(pulse, 23).rescue_not_after() is not None


@pytest.mark.parametrize("lease_s", [3, 15, 60])
def test_no_pause_that_ends_leases_is_too_short_to_be_a_gap(lease_s):
    pulse = beaten(Pulse(lease_s), *range(lease_s + 1))
    shortest_that_ends_a_lease_s = lease_s * 2 / 3  # renewed three times in its span

    beaten(pulse, lease_s + shortest_that_ends_a_lease_s)

    assert pulse.rescue_not_after() is None
