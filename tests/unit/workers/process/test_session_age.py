"""The session age: which process may rescue jobs, and from when on."""

from datetime import UTC, datetime, timedelta

import pytest

from workers.process.session_age import MOST_VALID_FOR, SETTLING, SessionAge

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def beaten(session_age, *seconds):
    for second in seconds:
        session_age.beat(NOON + timedelta(seconds=second))
    return session_age


def test_rescue_is_possible_some_seconds_after_a_session_began_and_long_before_a_lease():
    session_age = beaten(SessionAge(15), 0, 1, 2)
    assert session_age.rescue_not_after() is None

    beaten(session_age, SETTLING.total_seconds())

    assert session_age.rescue_not_after() == NOON + SETTLING + MOST_VALID_FOR
    assert session_age.settled_at() == NOON + SETTLING


def test_gap_begins_the_session_anew():
    session_age = beaten(SessionAge(15), *range(20), 30, 31, 32)

    assert session_age.rescue_not_after() is None
    assert beaten(session_age, 33).settled_at() == NOON + timedelta(seconds=33)


def test_lost_connection_begins_the_session_anew_however_short():
    session_age = beaten(SessionAge(15), *range(20))
    session_age.break_off()

    assert session_age.rescue_not_after() is None
    assert beaten(session_age, 20, 21, 22).rescue_not_after() is None
    assert beaten(session_age, 23).rescue_not_after() is not None


@pytest.mark.parametrize("lease_s", [3, 15, 60])
def test_no_pause_that_ends_leases_is_too_short_to_be_a_gap(lease_s):
    session_age = beaten(SessionAge(lease_s), *range(lease_s + 1))
    shortest_that_ends_a_lease_s = lease_s * 2 / 3  # renewed three times in its span

    beaten(session_age, lease_s + shortest_that_ends_a_lease_s)

    assert session_age.rescue_not_after() is None
