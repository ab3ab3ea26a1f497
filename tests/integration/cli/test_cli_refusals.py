"""Commands that show jobs which the database refuses to start or to end, and commands that end them."""

from typing import Any

import pytest

from models.database import Database
from models.queue.refusals import claim_jobs
from tests.support.builders import balance_of, make_job, make_user, make_worker, queue_row
from tests.support.calling import Arrange, Darkroom
from tests.support.rules import refuse, run

DEADLINES = {"ANALYZING": 60}


@pytest.fixture(autouse=True)
def rules(arrange: Arrange) -> Any:
    """Leave no rule behind: these tests share their database."""
    yield
    arrange(
        lambda db: run(
            db,
            "DROP FUNCTION IF EXISTS public.app_rule() CASCADE; TRUNCATE darkroom.refused_ends; "
            "ALTER TABLE public.token_transactions DROP CONSTRAINT IF EXISTS app_check",
        )
    )


async def refused_start(database: Database) -> tuple[str, str]:
    user = await make_user(database)
    job = await make_job(database, user_id=user)
    await refuse(database, "raise", "NEW.status = 'PROCESSING'")
    assert (await claim_jobs(database, await make_worker(database), "default", 1, DEADLINES)).refused == 1
    return user, job


def check(darkroom: Darkroom, name: str) -> Any:
    ran = darkroom("doctor", "--json")
    (found,) = [one for one in ran.json["checks"] if one["name"] == name]
    assert (ran.code == 1) == any(one["status"] == "fail" for one in ran.json["checks"])
    return found


def test_refused_job_is_named_by_doctor_stats_and_explain(darkroom: Darkroom, arrange: Arrange) -> None:
    _, job = arrange(refused_start)

    found = check(darkroom, "refused jobs")
    stats = darkroom("queue", "stats", "--json").json
    (wait,) = [one for one in darkroom("jobs", "explain", job, "--json").json["waits"] if one["kind"] == "refused"]

    assert found["status"] == "fail"
    for text in (found["message"], wait["text"]):
        assert "not while the moon is full (SQLSTATE P0001)" in text
    assert job in found["message"]
    assert [row["status"] for row in stats["statuses"]] == ["refused"]


def test_refused_job_is_cancelled_by_command(darkroom: Darkroom, arrange: Arrange) -> None:
    user, job = arrange(refused_start)

    assert darkroom("jobs", "cancel", job).code == 0
    assert arrange(lambda db: balance_of(db, user)) == 100
    assert check(darkroom, "refused jobs")["status"] == "ok"


@pytest.mark.parametrize("kind", ["raise", "assert", "deferred", "missing table"])
def test_job_whose_row_refuses_everything_is_cancelled_without_its_label(
    darkroom: Darkroom, arrange: Arrange, kind: str
) -> None:
    async def prepare(database: Database) -> tuple[str, str]:
        user = await make_user(database)
        job = await make_job(database, user_id=user)
        await refuse(database, kind, f"NEW.id = '{job}'")
        return user, job

    user, job = arrange(prepare)

    ran = darkroom("jobs", "cancel", job)

    assert (ran.code, ran.err) == (0, "")
    assert f"job {job} is over, but the database refused the label CANCELLED" in ran.out
    assert arrange(lambda db: queue_row(db, job)) is None
    assert arrange(lambda db: balance_of(db, user)) == 100
    (wait,) = darkroom("jobs", "explain", job, "--json").json["waits"]
    assert (wait["kind"], "CANCELLED" in wait["text"], "it is refunded" in wait["text"]) == ("end_refused", True, True)
    assert job in check(darkroom, "refused ends")["message"]
    assert darkroom("tokens", "audit").code == 0
    assert darkroom("jobs", "cancel", job).code == 0


def test_refund_that_is_refused_is_owed_shown_and_paid_once_it_can_be(darkroom: Darkroom, arrange: Arrange) -> None:
    async def prepare(database: Database) -> tuple[str, str]:
        user = await make_user(database)
        job = await make_job(database, user_id=user)
        await database.fetch('UPDATE public.user_token_balances SET balance = 2147483647 WHERE "userId" = $1', user)
        await database.fetch("UPDATE darkroom.opening_balances SET balance = 2147483647 + 2::bigint")
        return user, job

    user, job = arrange(prepare)

    assert darkroom("jobs", "cancel", job).code == 0
    audit = darkroom("tokens", "audit", "--json")
    assert (audit.code, audit.json["violations"]) == (1, [])
    assert [(one["jobId"], one["owed"]) for one in audit.json["owed"]] == [(job, 2)]
    assert job in darkroom("tokens", "audit").out
    assert job in check(darkroom, "refunds owed")["message"]
    told = darkroom("jobs", "explain", job, "--json").json["timeline"]
    assert any(event["event"] == "refused" and "refund of 2 tokens is owed" in event["text"] for event in told)
    assert darkroom("tokens", "audit", "--repair", "--json").json["repaired"] == []

    arrange(
        lambda db: run(
            db,
            f"""UPDATE public.user_token_balances SET balance = 50 WHERE "userId" = '{user}';
                UPDATE darkroom.opening_balances SET balance = 52""",
        )
    )
    repaired = darkroom("tokens", "audit", "--repair", "--json")
    assert (repaired.code, repaired.json["owed"]) == (0, [])
    assert [(one["violation"], one["jobId"]) for one in repaired.json["repaired"]] == [("refund_owed", job)]
    assert arrange(lambda db: balance_of(db, user)) == 52
    assert darkroom("tokens", "audit", "--repair", "--json").json["repaired"] == []
    assert check(darkroom, "refunds owed")["status"] == "ok"


async def left_by_another_worker(database: Database, *, is_adopted: bool) -> str:
    job = await make_job(database)
    await run(
        database,
        f"""SET session_replication_role = replica;
            UPDATE public.image_enhancement_jobs SET status = 'PROCESSING', "updatedAt" = '2026-01-01';
            DELETE FROM darkroom.job_queue;
            INSERT INTO darkroom.settings (key, value) VALUES ('is_adopted', '{str(is_adopted).lower()}')
            ON CONFLICT (key) DO UPDATE SET value = excluded.value;
            SET session_replication_role = origin""",
    )
    return job


def test_jobs_left_by_another_worker_are_counted_and_explained(darkroom: Darkroom, arrange: Arrange) -> None:
    job = arrange(lambda db: left_by_another_worker(db, is_adopted=False))

    found = check(darkroom, "jobs outside the queue")
    (wait,) = darkroom("jobs", "explain", job, "--json").json["waits"]

    assert (found["status"], "1 PROCESSING" in found["message"]) == ("warn", True)
    assert (wait["kind"], "a scheduler takes it in within 10 s" in wait["text"]) == ("unqueued", True)


def test_jobs_on_tables_of_another_tool_fail_doctor_until_they_are_taken_over(
    darkroom: Darkroom, arrange: Arrange
) -> None:
    job = arrange(lambda db: left_by_another_worker(db, is_adopted=True))

    found = check(darkroom, "jobs outside the queue")
    (wait,) = darkroom("jobs", "explain", job, "--json").json["waits"]

    assert (found["status"], "--take-over" in found["advice"]) == ("fail", True)
    assert "--take-over" in wait["text"]

    ran = darkroom("db", "upgrade", "--take-over", "--json")
    assert ran.json["taken_over"] == {"taken_in": 1, "ended": 0, "left": 0}
    assert check(darkroom, "jobs outside the queue")["status"] == "ok"
    (action,) = arrange(lambda db: db.fetch("SELECT * FROM darkroom.operator_actions"))
    assert (action["action"], action["after"]["takenIn"]) == ("db_take_over", 1)
