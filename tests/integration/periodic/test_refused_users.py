"""One user whose balance the database refuses to change keeps no other from what a periodic task gives."""

from datetime import UTC, datetime, timedelta

import pytest

from models.error_logs import FailedAttempt, log_failed_attempts
from tests.builders import balance_of, make_user
from tests.integration.periodic.rows import make_subscription, set_last
from tests.integration.refusals.rules import STATEMENTS, refuse, run

START = datetime(2028, 1, 15, 12, tzinfo=UTC)
LATER = START + timedelta(days=40)


@pytest.mark.parametrize("kind", [*STATEMENTS, "deferred"])
async def test_user_who_is_refused_keeps_no_other_from_regeneration(database, make_clockwork, kind):
    users = sorted([await make_user(database, balance=5) for _ in range(4)])
    for user in users:
        await set_last(database, user, START)
    await refuse(database, kind, f"NEW.\"userId\" = '{users[1]}'", table="user_token_balances")
    clockwork = make_clockwork(regeneration="monthly")

    counts = await clockwork.run_extra("regenerate-tokens", LATER)

    assert [await balance_of(database, user) for user in users] == [15, 5, 15, 15]
    assert (counts["users"], counts["refused"]) == (3, 1)


@pytest.mark.parametrize("kind", ["raise", "assert", "deferred"])
async def test_user_who_is_refused_keeps_no_other_from_the_next_period(database, make_clockwork, kind):
    users = sorted([await make_user(database, balance=5) for _ in range(3)])
    for user in users:
        await make_subscription(database, user, START, START + timedelta(days=31))
    await refuse(database, kind, f"NEW.\"userId\" = '{users[0]}'", table="subscriptions")

    counts = await make_clockwork(subscriptions=True).run_extra("renew-subscriptions", LATER)

    before, *after = [await balance_of(database, user) for user in users]
    assert before == 5
    assert all(balance > before for balance in after)
    assert (counts["renewed"], counts["refused"]) == (2, 1)


async def test_error_that_cannot_be_logged_keeps_no_other_from_its_row(database):
    user = await make_user(database)
    await run(database, "ALTER TABLE public.error_logs ADD CHECK (message <> 'rude')")
    failures = [
        FailedAttempt("enhance", f"j{number}", user, "ANALYZING", 1, message, type="T", code="C")
        for number, message in enumerate(["one", "rude", "two"])
    ]

    await log_failed_attempts(database, failures)

    rows = await database.fetch("SELECT message FROM public.error_logs ORDER BY 1")
    assert [row["message"] for row in rows] == ["one", "two"]
