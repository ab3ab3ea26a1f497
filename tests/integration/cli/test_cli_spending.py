"""What doctor and explain report about purchases without a limit, and about old transactions."""

import asyncio

import asyncpg
import pytest

from models.queue.transitions import Snoozed, record
from tests.support.builders import make_claim, make_user
from tests.support.calling import Arrange, Darkroom
from workers.operations.checks import database as database_checks


def found(darkroom: Darkroom, name: str) -> tuple[str, str]:
    (check,) = [check for check in darkroom("doctor", "--json").json["checks"] if check["name"] == name]
    return check["status"], check["message"]


@pytest.mark.parametrize(
    ("provider", "budgets", "status"),
    [
        ("local", "", "ok"),
        ("gemini", "", "warn"),
        ("openai,local", "anonymous_day_calls=5", "warn"),
        ("gemini", "free_user_day_calls=20", "ok"),
        ("gemini", "user_day_usd=1", "ok"),
    ],
)
def test_doctor_warns_when_nothing_limits_what_free_users_have_bought(
    darkroom: Darkroom, monkeypatch: pytest.MonkeyPatch, provider: str, budgets: str, status: str
) -> None:
    monkeypatch.setenv("PROVIDER", provider)
    monkeypatch.setenv("DARKROOM_BUDGETS", budgets)

    assert found(darkroom, "FREE jobs")[0] == status


def test_doctor_warns_of_anonymous_free_jobs_that_nothing_limits(
    darkroom: Darkroom, arrange: Arrange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROVIDER", "gemini")
    monkeypatch.setenv("DARKROOM_BUDGETS", "free_user_day_calls=20")
    arrange(
        lambda db: db.fetch(
            """INSERT INTO darkroom.provider_calls
                   (job_type, job_id, user_id, attempt, provider, purpose, may_be_paid, payer, is_free)
               VALUES ('enhance', 'j', 'guest', 1, 'gemini', 'generate', true, 'anonymous', true)"""
        )
    )
    unlimited = found(darkroom, "FREE jobs")
    monkeypatch.setenv("DARKROOM_BUDGETS", "free_user_day_calls=20,anonymous_day_calls=5")

    assert unlimited[0] == "warn"
    assert "1 calls for anonymous FREE jobs" in unlimited[1]
    assert found(darkroom, "FREE jobs")[0] == "ok"


def test_explain_says_that_the_maximum_wait_ends_before_the_next_day(
    darkroom: Darkroom, arrange: Arrange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DARKROOM_MAX_WAIT_S", "60")

    async def put_off(db):
        claim = await make_claim(db, user_id=await make_user(db), tier="FREE")
        delay = await db.fetchval("SELECT interval '2 hours'")
        await db.run(lambda connection: record(connection, claim, Snoozed(claim.stage, "the budget is spent", delay)))
        return claim.job_id

    job_id = arrange(put_off)
    waits = {wait["kind"]: wait["text"] for wait in darkroom("jobs", "explain", job_id, "--json").json["waits"]}

    assert waits["scheduled"].endswith("the budget is spent")
    assert "maximum wait of 1 min 0 s is over" in waits["max_wait"]


@pytest.mark.parametrize("begin", ["BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1", "BEGIN; SELECT txid_current()"])
def test_doctor_names_the_oldest_snapshot(
    darkroom: Darkroom, arrange: Arrange, monkeypatch: pytest.MonkeyPatch, database_url: str, begin: str
) -> None:
    monkeypatch.setattr(database_checks, "SNAPSHOT_WARN_S", 0.05)

    async def hold(db):
        other = await asyncpg.connect(database_url, server_settings={"application_name": "monthly report"})
        try:
            # a program that another test has left on this server, such as psql, may hold an older one
            await other.execute(
                """SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
                   WHERE datname <> current_database() AND backend_xmin IS NOT NULL"""
            )
            await other.execute(begin)
            await asyncio.sleep(0.1)
            check = await database_checks.check_snapshots(db)
            pid = await other.fetchval("SELECT pg_backend_pid()")
            return check, pid
        finally:
            await other.close()

    check, pid = arrange(hold)

    assert check.status == "warn"
    assert f"process {pid} (monthly report, role " in check.message
    assert "its query began at 20" in check.message
    monkeypatch.setattr(database_checks, "SNAPSHOT_WARN_S", 300.0)
    assert found(darkroom, "old snapshots")[0] == "ok"
