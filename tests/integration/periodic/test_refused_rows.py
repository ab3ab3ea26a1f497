"""A row that the database refuses doesn't keep a periodic task from other rows, and is logged."""

from datetime import UTC, datetime, timedelta

import pytest
import structlog

from models.history.error_logs import FailedAttempt, log_failed_attempts
from tests.support.builders import balance_of, make_job, make_user
from tests.support.periodic_rows import make_subscription, set_last
from tests.support.rules import STATEMENTS, refuse, run
from workers.operations.checks.rows import ROW_CHECKS, count_rows

START = datetime(2028, 1, 15, 12, tzinfo=UTC)
LATER = START + timedelta(days=40)


@pytest.mark.parametrize("kind", [*STATEMENTS, "deferred", "40001"])
async def test_user_who_is_refused_keeps_no_other_from_regeneration(database, make_engine, kind):
    users = sorted([await make_user(database, balance=5) for _ in range(4)])
    for user in users:
        await set_last(database, user, START)
    await refuse(database, kind, f"NEW.\"userId\" = '{users[1]}'", table="user_token_balances")
    engine = make_engine(regeneration="monthly")

    counts = await engine.run_extra("regenerate-tokens", LATER)

    assert [await balance_of(database, user) for user in users] == [15, 5, 15, 15]
    assert (counts["users"], counts["refused"]) == (3, 1)


@pytest.mark.parametrize("kind", ["raise", "assert", "deferred"])
async def test_user_who_is_refused_keeps_no_other_from_the_next_period(database, make_engine, kind):
    users = sorted([await make_user(database, balance=5) for _ in range(3)])
    for user in users:
        await make_subscription(database, user, START, START + timedelta(days=31))
    await refuse(database, kind, f"NEW.\"userId\" = '{users[0]}'", table="subscriptions")

    counts = await make_engine(subscriptions=True).run_extra("renew-subscriptions", LATER)

    before, *after = [await balance_of(database, user) for user in users]
    assert before == 5
    assert all(balance > before for balance in after)
    assert (counts["renewed"], counts["refused"]) == (2, 1)


async def refused_rows(database, make_engine, name, at=LATER, **settings):
    """Run a task; return its counts, and what the log says of rows that were refused."""
    with structlog.testing.capture_logs() as lines:
        counts = await make_engine(**settings).run_extra(name, at)
    return counts, [line for line in lines if line["event"] == "periodic_row_refused"]


@pytest.mark.parametrize(("kind", "count"), [("deferred", 4), ("40001", 120)])
async def test_voucher_that_is_refused_keeps_no_other_from_its_end(database, make_engine, kind, count):
    await database.fetch(
        """INSERT INTO public.vouchers (id, code, type, value, "expiresAt", "updatedAt")
           SELECT 'v' || n, 'v' || n, 'FIXED_TOKENS', 5, '2020-01-01', now() FROM generate_series(1, $1) n""",
        count,
    )
    await refuse(database, kind, "NEW.id = 'v2'", table="vouchers")

    counts, lines = await refused_rows(database, make_engine, "expire-vouchers")

    left = await database.fetch("SELECT id FROM public.vouchers WHERE status = 'ACTIVE'")
    assert [row["id"] for row in left] == ["v2"]
    assert (counts["expired"], counts["refused"]) == (count - 1, 1)
    assert [(line["task"], line["row"], "SQLSTATE" in line["error"]) for line in lines] == [
        ("expire-vouchers", "v2", True)
    ]
    check = await count_rows(database, next(one for one in ROW_CHECKS if one.name == "rows of periodic tasks"))
    assert (check.status, "expire-vouchers: 1" in check.message) == ("warn", True)


@pytest.mark.parametrize(("kind", "count"), [("assert", 4), ("57014", 1_203), ("no row", 1_203)])
async def test_record_that_is_refused_keeps_no_other_from_its_deletion(database, make_engine, kind, count):
    await database.fetch(
        """INSERT INTO public.error_logs (id, "timestamp", message, environment)
           SELECT 'e' || n, '2027-01-01'::timestamp + n / 100 * interval '1 s', 'x', 'BACKEND'
           FROM generate_series(1, $1) n""",
        count,
    )
    await refuse(database, kind, "OLD.id = 'e2'", table="error_logs", events="DELETE")

    counts, lines = await refused_rows(database, make_engine, "prune-error_logs")

    rows = await database.fetch("SELECT id FROM public.error_logs")
    assert [row["id"] for row in rows] == ["e2"]
    assert counts["deleted"] == count - 1
    assert ["public.error_logs" in line["row"] for line in lines] == [True] * (kind != "no row")


async def test_finding_that_is_refused_keeps_no_other_from_the_audits_log(database, make_engine, damage):
    users = [await make_user(database, balance=10) for _ in range(3)]
    await database.fetch("UPDATE public.user_token_balances SET balance = 11")
    await refuse(database, "25006", f"NEW.\"userId\" = '{users[1]}'", table="error_logs", events="INSERT")

    counts, lines = await refused_rows(database, make_engine, "audit-ledger")

    rows = await database.fetch("""SELECT "userId" FROM public.error_logs WHERE "errorType" = 'LedgerViolation'""")
    assert {row["userId"] for row in rows} == {users[0], users[2]}
    assert counts == {"violations": 3, "refused": 1}
    assert [users[1] in line["row"] for line in lines] == [True]


async def test_warning_that_is_refused_keeps_no_other_from_theirs_and_the_usage_from_its_sum(database, make_engine):
    users = [await make_user(database) for _ in range(3)]
    for user in users:
        await make_job(database, user_id=user)
    now = await database.fetchval("SELECT clock_timestamp()")
    await refuse(database, "40P01", f"NEW.\"userId\" = '{users[1]}'", table="error_logs", events="INSERT")

    counts, lines = await refused_rows(database, make_engine, "roll-up-usage", now, usage_limits={"jobs": 1})

    rows = await database.fetch("""SELECT DISTINCT "userId" FROM public.error_logs""")
    assert {row["userId"] for row in rows} == {users[0], users[2]}
    assert (counts["users"], counts["warnings"], counts["refused"]) == (3, 4, 1)
    assert [line["row"] for line in lines] == [users[1]]


async def test_error_that_cannot_be_logged_keeps_no_other_from_its_row(database):
    user = await make_user(database)
    await run(database, "ALTER TABLE public.error_logs ADD CHECK (message <> 'rude')")
    await refuse(database, "53400", "NEW.message = 'odd'", table="error_logs", events="INSERT")
    failures = [
        FailedAttempt("enhance", f"j{number}", user, "ANALYZING", 1, message, type="T", code="C")
        for number, message in enumerate(["one", "rude", "odd", "two"])
    ]

    await log_failed_attempts(database, failures)

    rows = await database.fetch("SELECT message FROM public.error_logs ORDER BY 1")
    assert [row["message"] for row in rows] == ["one", "two"]
