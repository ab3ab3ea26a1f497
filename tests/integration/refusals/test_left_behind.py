"""Unfinished jobs without a queue row: queued as a retry, or ended in limited time; refunded at most once."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from models.queue.rescue import adopt_jobs, end_overdue_jobs
from models.queue.transitions import Completed, record
from models.queue.unqueued import AdoptionTerms, adopt_unqueued_jobs, end_unqueued_jobs, take_over
from tests.support.builders import (
    balance_of,
    claim_jobs,
    job_row,
    ledger_of,
    make_claim,
    make_generation,
    make_job,
    make_user,
    money_violations,
    queue_row,
    set_mode,
)
from tests.support.rules import STATEMENTS, refuse

TERMS = AdoptionTerms(max_wait_s=3_600, silence_s=60)
TABLES = ("image_enhancement_jobs", "mcp_generation_jobs")


async def leave_behind(database, foreign, *, minutes=5, created_minutes=None, status="PROCESSING", forgets_money=False):
    """Let another worker have left every job so many minutes ago, with no queue row and, maybe, none of our books."""
    async with foreign.transaction():
        await foreign.execute("SET LOCAL session_replication_role = replica")
        for table in TABLES:
            await foreign.execute(
                f"""UPDATE public.{table} SET status = '{status}',
                        "processingStartedAt" = darkroom.utc_now() - $1::interval,
                        "updatedAt" = darkroom.utc_now() - $1::interval,
                        "createdAt" = darkroom.utc_now() - $2::interval""",
                timedelta(minutes=minutes),
                timedelta(minutes=created_minutes or minutes),
            )
        await foreign.execute("TRUNCATE darkroom.job_queue")
        if forgets_money:
            await foreign.execute("TRUNCATE darkroom.job_money")


async def of_another_tool(database):
    await database.fetch(
        """INSERT INTO darkroom.settings (key, value) VALUES ('is_adopted', 'true')
           ON CONFLICT (key) DO UPDATE SET value = excluded.value"""
    )


@pytest.mark.parametrize("make", [make_job, make_generation])
async def test_silent_row_is_taken_in_as_a_retry_and_completed_on_its_one_charge(database, foreign, make):
    user = await make_user(database)
    job = await make(database, user_id=user)
    await leave_behind(database, foreign, forgets_money=True)

    assert await adopt_unqueued_jobs(database, TERMS) == (1, 0)

    assert (await job_row(database, job))["status"] == "PENDING"
    (claim,) = await claim_jobs(database)
    await database.run(lambda c: record(c, claim, Completed("GENERATING", 1, {})))
    assert (await job_row(database, job))["status"] == "COMPLETED"
    assert await balance_of(database, user) == 98
    assert await database.fetchval("SELECT amount FROM darkroom.job_money WHERE job_id = $1", job) == 2


async def test_row_that_a_worker_may_still_hold_is_left_alone(database, foreign):
    job = await make_job(database)
    await leave_behind(database, foreign, minutes=0.5)

    assert await adopt_unqueued_jobs(database, TERMS) == (0, 0)
    assert await end_unqueued_jobs(database, TERMS) == 0
    assert (await job_row(database, job))["status"] == "PROCESSING"


async def test_old_submission_that_a_worker_has_just_begun_is_left_alone(database, foreign):
    await make_job(database)
    await leave_behind(database, foreign, minutes=0.5, created_minutes=600)

    assert (await adopt_unqueued_jobs(database, TERMS))[0] + await end_unqueued_jobs(database, TERMS) == 0


@pytest.mark.parametrize("forgets_money", [True, False])
@pytest.mark.parametrize("make", [make_job, make_generation])
async def test_row_older_than_the_maximum_wait_ends_refunded_once(database, foreign, make, forgets_money):
    user = await make_user(database)
    job = await make(database, user_id=user)
    await leave_behind(database, foreign, minutes=61, forgets_money=forgets_money)

    assert await adopt_unqueued_jobs(database, TERMS) == (0, 0)
    assert await end_unqueued_jobs(database, TERMS) == 1
    assert await end_unqueued_jobs(database, TERMS) == 0

    row = await job_row(database, job)
    assert (row["status"], "left by another worker" in row["errorMessage"]) == ("REFUNDED", True)
    assert await balance_of(database, user) == 100
    assert [one["amount"] for one in await ledger_of(database, user)] == [-2, 2]
    assert await money_violations(database) == []


async def test_row_that_was_never_charged_ends_failed_without_a_refund(database, foreign):
    user = await make_user(database, balance=0)
    job = await make_job(database, user_id=user, tier="FREE")
    await leave_behind(database, foreign, minutes=61)

    await end_unqueued_jobs(database, TERMS)

    assert (await job_row(database, job))["status"] == "FAILED"
    assert await ledger_of(database, user) == []


async def test_charge_of_another_shape_is_the_applications_own(database, foreign):
    user = await make_user(database)
    job = await make_job(database, user_id=user)
    async with foreign.transaction():
        await foreign.execute("SET LOCAL session_replication_role = replica")
        await foreign.execute("UPDATE public.token_transactions SET source = 'app:enhance'")
    await leave_behind(database, foreign, minutes=61, forgets_money=True)

    await end_unqueued_jobs(database, TERMS)

    assert (await job_row(database, job))["status"] == "FAILED"
    assert await balance_of(database, user) == 98


async def refunded_before(database, foreign, **left):
    user = await make_user(database)
    job = await make_job(database, user_id=user)
    await foreign.execute("UPDATE public.image_enhancement_jobs SET status = 'CANCELLED'")
    await leave_behind(database, foreign, forgets_money=True, **left)
    return user, job


@pytest.mark.parametrize("status", ["PENDING", "PROCESSING"])
async def test_job_that_the_ledger_has_refunded_is_not_run_and_not_refunded_again(database, foreign, status):
    user, job = await refunded_before(database, foreign, status=status)

    assert await adopt_unqueued_jobs(database, TERMS) == (0, 0)
    assert await end_unqueued_jobs(database, TERMS) == 1

    assert (await job_row(database, job))["status"] == "REFUNDED"
    assert await balance_of(database, user) == 100
    assert await money_violations(database) == []


async def test_producer_mode_ends_without_a_refund(database, foreign):
    await set_mode(database, "producer")
    user = await make_user(database)
    job = await make_job(database, user_id=user)
    await leave_behind(database, foreign, minutes=61)

    await end_unqueued_jobs(database, TERMS)

    assert (await job_row(database, job))["status"] == "FAILED"
    assert await balance_of(database, user) == 100


async def test_waiting_row_older_than_the_maximum_wait_is_ended_and_not_bought(database, foreign):
    user = await make_user(database)
    job = await make_job(database, user_id=user)
    await leave_behind(database, foreign, minutes=61, status="PENDING")

    assert await adopt_unqueued_jobs(database, TERMS) == (0, 0)
    assert await end_unqueued_jobs(database, TERMS) == 1
    assert (await job_row(database, job))["status"] == "REFUNDED"


async def test_pause_is_not_counted_for_what_is_taken_in(database, foreign):
    job = await make_job(database)
    await leave_behind(database, foreign, minutes=90)
    await database.fetch(
        """INSERT INTO darkroom.past_pauses
           VALUES ('type:enhance', now() - interval '80 minutes', now() - interval '40 minutes')"""
    )

    assert await end_unqueued_jobs(database, TERMS) == 0
    assert await adopt_unqueued_jobs(database, TERMS) == (1, 0)
    assert await queue_row(database, job)


async def test_maximum_wait_of_what_is_taken_in_runs_from_its_creation(database, foreign):
    user = await make_user(database)
    job = await make_job(database, user_id=user)
    await leave_behind(database, foreign, minutes=50)
    await adopt_unqueued_jobs(database, TERMS)
    await database.fetch("UPDATE darkroom.job_queue SET created_at = created_at - interval '11 minutes'")

    assert await end_overdue_jobs(database, TERMS.max_wait_s) == 1
    assert (await job_row(database, job))["status"] == "REFUNDED"
    assert await balance_of(database, user) == 100


@pytest.mark.parametrize("kind", [*STATEMENTS, "deferred"])
async def test_row_that_refuses_every_change_keeps_no_other_from_being_taken_in_or_ended(database, foreign, kind):
    young = [await make_job(database) for _ in range(3)]
    await leave_behind(database, foreign)
    await refuse(database, kind, f"NEW.id = '{young[1]}'")

    assert await adopt_unqueued_jobs(database, TERMS) == (3, 0)
    assert [(await job_row(database, job))["status"] for job in young] == ["PENDING", "PROCESSING", "PENDING"]

    await leave_behind_again(database, foreign)
    assert await end_unqueued_jobs(database, TERMS) == 3
    assert [(await job_row(database, job))["status"] for job in young] == ["REFUNDED", "PROCESSING", "REFUNDED"]
    assert await database.fetchval("SELECT label FROM darkroom.refused_ends WHERE job_id = $1", young[1]) == "REFUNDED"
    assert await end_unqueued_jobs(database, TERMS) == 0
    assert await money_violations(database) == []


async def leave_behind_again(database, foreign):
    await foreign.execute("SET session_replication_role = replica")
    await foreign.execute(
        """UPDATE public.image_enhancement_jobs SET "createdAt" = "createdAt" - interval '1 day',
               "updatedAt" = "updatedAt" - interval '1 day'"""
    )
    await foreign.execute("DELETE FROM darkroom.job_queue")


async def test_many_schedulers_take_in_and_end_each_job_once(database, foreign):
    user = await make_user(database)
    jobs = [await make_job(database, user_id=user) for _ in range(6)]
    await leave_behind(database, foreign, minutes=5)
    await foreign.execute("SET session_replication_role = replica")
    await foreign.execute(
        """UPDATE public.image_enhancement_jobs SET "createdAt" = "createdAt" - interval '1 day' WHERE id = ANY ($1)""",
        jobs[:3],
    )

    await asyncio.gather(*(do(database, TERMS) for do in (adopt_unqueued_jobs, end_unqueued_jobs) for _ in range(4)))
    await end_unqueued_jobs(database, TERMS)

    assert await balance_of(database, user) == 94
    assert await database.fetchval("SELECT count(*) FROM darkroom.job_queue") == 3
    assert await money_violations(database) == []


@pytest.mark.parametrize("status", ["PENDING", "PROCESSING"])
async def test_tables_of_another_tool_are_left_alone_until_they_are_taken_over(database, foreign, status):
    await of_another_tool(database)
    young = await make_job(database)
    await leave_behind(database, foreign, status=status)
    old = await make_job(database)
    await foreign.execute("SET session_replication_role = replica")
    await foreign.execute(
        """UPDATE public.image_enhancement_jobs SET status = 'PROCESSING', "createdAt" = '2020-01-01',
               "updatedAt" = '2020-01-01' WHERE id = $1""",
        old,
    )
    await foreign.execute("DELETE FROM darkroom.job_queue")

    assert await adopt_unqueued_jobs(database, TERMS) == (0, 0)
    assert await end_unqueued_jobs(database, TERMS) == 0

    taken = await take_over(database, TERMS, actor="somebody")
    assert (taken.taken_in, taken.ended, taken.left) == (1, 1, 0)
    assert await queue_row(database, young)
    assert await database.fetchval("SELECT value ->> 'actor' FROM darkroom.settings WHERE key = 'take_over'")
    later = await make_job(database)
    await leave_behind(database, foreign)
    assert await adopt_unqueued_jobs(database, TERMS) == (2, 0)
    assert await queue_row(database, later)


async def test_queue_that_was_truncated_under_a_running_job_lets_it_go_on_once(database, foreign):
    claim = await make_claim(database)
    await foreign.execute("TRUNCATE darkroom.job_queue")
    await foreign.execute("""UPDATE public.image_enhancement_jobs SET "updatedAt" = '2020-01-01'""")
    await foreign.execute("""UPDATE public.image_enhancement_jobs SET "processingStartedAt" = now() - interval '1 h'""")

    assert await adopt_jobs(database, max_wait_s=86_400, silence_s=60) == (1, 0)

    (again,) = await claim_jobs(database)
    assert (again.job_id, again.stage) == (claim.job_id, "ANALYZING")


async def test_creation_in_the_future_is_taken_for_now(database, foreign):
    job = await make_job(database)
    await leave_behind(database, foreign, created_minutes=-600)

    await adopt_unqueued_jobs(database, TERMS)

    assert (await queue_row(database, job))["created_at"] <= datetime.now(UTC) + timedelta(seconds=5)
