"""Housekeeping: jobs that no live worker holds, and jobs that wait too long."""

import asyncio
from datetime import timedelta

import pytest

from models.queue.leases import forget_dead_workers, renew_lease, sign_off
from models.queue.lost import DEADLINE_GRACE_S
from models.queue.rescue import end_overdue_jobs, rescue_lost_claims
from models.queue.transitions import Checkpoint, Retried, record
from tests.support.builders import (
    all_rows,
    balance_of,
    claim_jobs,
    job_row,
    make_claim,
    make_generation,
    make_job,
    make_user,
    make_worker,
    queue_row,
)
from tests.support.patience import HANGS_AFTER_S, within

SOON = timedelta(seconds=3)


@pytest.fixture(params=["enhancements", "generations"])
def table(request):
    return request.param


async def rescue(database, *, within=SOON):
    now = await database.fetchval("SELECT clock_timestamp()")
    result = await rescue_lost_claims(database, now + within)
    return result.requeued, result.ended


async def let_lease_end(database):
    await database.fetch("UPDATE darkroom.workers SET lease_expires_at = now() - interval '1 ms'")


async def lose_worker_and_claim_again(database):
    await let_lease_end(database)
    assert await rescue(database) == (1, 0)
    (held,) = await claim_jobs(database)
    return held


async def test_claim_of_a_dead_worker_is_due_again_with_its_attempt_used(database, table):
    held = await make_claim(database, table)
    await let_lease_end(database)

    assert await rescue(database) == (1, 0)

    row = await queue_row(database, held.job_id)
    assert (row["status"], row["ready"], row["attempts"], row["lease_token"]) == ("pending", True, 1, None)
    assert (await job_row(database, held.job_id))["status"] == "PENDING"


async def test_claim_of_a_dead_worker_keeps_its_stage(database):
    held = await make_claim(database)
    await database.run(lambda connection: record(connection, held, Checkpoint("ANALYZING", "CROPPING", 60, 1)))

    again = await lose_worker_and_claim_again(database)

    assert (again.stage, again.attempt) == ("CROPPING", 2)
    assert (await job_row(database, held.job_id))["currentStage"] == "CROPPING"


async def test_rescue_counts_as_a_retry_and_stands_in_the_history(database):
    held = await make_claim(database)
    await let_lease_end(database)

    await rescue(database)

    assert (await job_row(database, held.job_id))["retryCount"] == 1
    row = await database.fetchrow("SELECT * FROM darkroom.stage_runs WHERE event = 'rescued'")
    assert (row["worker_id"], row["attempt"], row["error"]) == (held.worker_id, 1, "its worker died at ANALYZING")


async def test_claim_of_a_live_worker_is_left_alone(database, table):
    await make_claim(database, table)
    rows = await all_rows(database)

    assert await rescue(database) == (0, 0)

    assert await all_rows(database) == rows


async def test_claim_of_a_worker_that_renewed_in_time_is_left_alone(database):
    held = await make_claim(database)
    await let_lease_end(database)
    await database.run(
        lambda connection: renew_lease(
            connection, held.worker_id, host="here", pid=1, queues=["default"], lanes=1, lease_s=15
        )
    )

    assert await rescue(database) == (0, 0)


@pytest.mark.parametrize(("settled_s_ago", "requeued"), [(3, 0), (5, 1)])
async def test_worker_with_slow_connections_gets_the_time_of_two_after_postgresqls_return(
    database, settled_s_ago, requeued
):
    await make_claim(database)
    await let_lease_end(database)
    await database.fetch("UPDATE darkroom.workers SET connect_s = 2")
    now = await database.fetchval("SELECT clock_timestamp()")

    rescued = await rescue_lost_claims(database, now + SOON, now - timedelta(seconds=settled_s_ago))

    assert rescued.requeued == requeued


async def test_claim_of_a_worker_without_a_row_is_rescued(database):
    held = await make_claim(database)
    await database.run(lambda connection: sign_off(connection, held.worker_id))

    assert await rescue(database) == (1, 0)


async def test_claim_of_a_worker_forgotten_as_dead_is_rescued(database):
    await make_claim(database)
    await database.fetch("UPDATE darkroom.workers SET lease_expires_at = now() - interval '2 hours'")
    await database.run(forget_dead_workers)

    assert await database.fetchval("SELECT count(*) FROM darkroom.workers") == 0
    assert await rescue(database) == (1, 0)


@pytest.mark.parametrize(("over_s", "requeued"), [(DEADLINE_GRACE_S - 5, 0), (DEADLINE_GRACE_S + 1, 1)])
async def test_claim_past_its_deadline_is_taken_only_after_the_grace(database, over_s, requeued):
    await make_claim(database)
    await database.fetch("UPDATE darkroom.job_queue SET deadline_at = now() - make_interval(secs => $1)", float(over_s))

    assert await rescue(database) == (requeued, 0)


async def test_job_that_lost_two_workers_at_one_stage_is_quarantined(database, table):
    held = await make_claim(database, table)
    await lose_worker_and_claim_again(database)
    await let_lease_end(database)

    assert await rescue(database) == (0, 1)

    row = await job_row(database, held.job_id)
    assert row["status"] == "REFUNDED"
    assert row["errorMessage"].startswith(f"quarantined: its worker died at {held.stage}, 2 times")
    assert await balance_of(database, held.user_id) == 100


async def test_job_that_lost_two_workers_at_two_stages_goes_on(database):
    await make_claim(database)
    held = await lose_worker_and_claim_again(database)
    await database.run(lambda connection: record(connection, held, Checkpoint("ANALYZING", "CROPPING", 60, 1)))
    await let_lease_end(database)

    assert await rescue(database) == (1, 0)


async def test_retries_between_two_losses_at_one_stage_do_not_hide_them(database):
    held = await make_claim(database, maxRetries=9)
    held = await lose_worker_and_claim_again(database)
    await database.run(lambda connection: record(connection, held, Retried("ANALYZING", "again", timedelta())))
    await claim_jobs(database)
    await let_lease_end(database)

    assert await rescue(database) == (0, 1)


async def test_dead_worker_on_the_last_attempt_ends_the_job_refunded(database):
    held = await make_claim(database, maxRetries=0)
    await let_lease_end(database)

    assert await rescue(database) == (0, 1)
    assert await rescue(database) == (0, 0)

    row = await job_row(database, held.job_id)
    assert (row["status"], row["errorMessage"]) == (
        "REFUNDED",
        "its worker died at ANALYZING, and all 1 attempts are used",
    )
    assert await balance_of(database, held.user_id) == 100


async def test_rescue_that_comes_too_late_takes_nothing(database):
    await make_claim(database)
    await let_lease_end(database)

    assert await rescue(database, within=timedelta(seconds=-1)) == (0, 0)


async def test_rescue_without_a_pulse_takes_only_what_was_signed_off(database):
    silent, gone = await make_claim(database), await make_claim(database)
    await let_lease_end(database)
    await database.run(lambda connection: sign_off(connection, gone.worker_id))

    assert (await rescue_lost_claims(database, None)).requeued == 1

    assert (await queue_row(database, silent.job_id))["status"] == "processing"


async def test_rescuers_at_once_take_each_claim_once(database):
    worker = await make_worker(database)
    user = await make_user(database, balance=1_000)
    jobs = [await make_job(database, user_id=user) for _ in range(15)]
    jobs += [await make_generation(database, user_id=user) for _ in range(15)]
    assert len(await claim_jobs(database, worker, most=30)) == 30
    await let_lease_end(database)

    counts = await asyncio.gather(*(rescue(database) for _ in range(10)))
    counts.append(await rescue(database))  # on a slow machine a pass's second may be over before its last claim

    assert sum(requeued for requeued, _ in counts) == 30
    assert await database.fetchval("SELECT count(*) FROM darkroom.stage_runs WHERE event = 'rescued'") == 30
    assert await database.fetchval("SELECT count(DISTINCT job_id) FROM darkroom.stage_runs") == len(jobs)


async def test_rescue_of_a_job_held_by_another_program_waits_for_nobody(database, foreign):
    held, other = await make_claim(database), await make_claim(database)
    await let_lease_end(database)
    async with foreign.transaction():
        await foreign.execute("SELECT FROM public.image_enhancement_jobs WHERE id = $1 FOR UPDATE", held.job_id)

        with within(0.7):  # less than a wait for a lock
            assert await rescue(database) == (1, 0)

        assert (await queue_row(database, other.job_id))["status"] == "pending"

    assert await rescue(database) == (1, 0)


async def test_refund_whose_balance_another_program_holds_keeps_no_other_job_waiting(database, foreign):
    held, other = await make_claim(database, maxRetries=0), await make_claim(database, maxRetries=0)
    await let_lease_end(database)
    async with foreign.transaction():
        await foreign.execute(
            'UPDATE public.user_token_balances SET "updatedAt" = now() WHERE "userId" = $1', held.user_id
        )

        with within(0.7):
            assert await rescue(database) == (0, 1)

        assert await balance_of(database, other.user_id) == 100

    assert await rescue(database) == (0, 1)
    assert await balance_of(database, held.user_id) == 100


async def test_rescue_does_not_take_a_claim_that_changed_hands_meanwhile(database, connect):
    held = await make_claim(database)
    await let_lease_end(database)
    other = await make_worker(database)
    taker = await connect()
    transaction = taker.transaction()
    await transaction.start()
    await taker.execute("UPDATE darkroom.job_queue SET worker_id = $1, lease_token = gen_random_uuid()", other)

    assert await rescue(database) == (0, 0)
    await transaction.commit()
    assert await rescue(database) == (0, 0)

    assert (await queue_row(database, held.job_id))["worker_id"] == other


async def test_rescue_does_not_judge_a_claim_that_moved_on_meanwhile(database):
    held = await make_claim(database)
    await let_lease_end(database)

    class MovesOn:
        """The database, in which the holder's checkpoint arrives between a rescuer's look and its write."""

        fetch = database.fetch

        async def commit(self, name, work, **patience):
            await database.run(lambda connection: record(connection, held, Checkpoint("ANALYZING", "CROPPING", 60, 1)))
            return await database.commit(name, work, **patience)

    now = await database.fetchval("SELECT clock_timestamp()")
    missed = await rescue_lost_claims(MovesOn(), now + SOON)

    assert (missed.requeued, missed.ended) == (0, 0)
    assert await rescue(database) == (1, 0)
    events = await database.fetch("SELECT event, stage FROM darkroom.stage_runs ORDER BY id")
    assert [tuple(row) for row in events][-1] == ("rescued", "CROPPING")


async def submitted_long_ago(database):
    await database.fetch("UPDATE darkroom.job_queue SET created_at = now() - interval '1 hour'")


async def test_job_that_waited_too_long_ends_refunded_and_says_for_what(database, table):
    held = await make_claim(database, table)
    await database.run(
        lambda connection: record(connection, held, Retried(held.stage, "the provider is down", timedelta(days=1)))
    )
    await submitted_long_ago(database)

    assert await end_overdue_jobs(database, 3_600) == 1

    row = await job_row(database, held.job_id)
    assert (row["status"], row["errorMessage"]) == (
        "REFUNDED",
        "not finished within 3600 s; it waited for: the provider is down",
    )
    assert await balance_of(database, held.user_id) == 100


async def test_job_that_was_never_claimed_waited_for_a_worker_and_failed_no_attempt(database):
    job = await make_job(database)
    await submitted_long_ago(database)

    await end_overdue_jobs(database, 3_600)

    row = await job_row(database, job)
    assert row["errorMessage"].endswith("it waited for: a free worker")
    assert row["retryCount"] == 0


async def test_running_job_that_takes_too_long_is_taken_from_its_worker(database):
    held = await make_claim(database)
    await submitted_long_ago(database)

    assert await end_overdue_jobs(database, 3_600) == 1

    row = await job_row(database, held.job_id)
    assert row["errorMessage"].endswith("it waited for: its stage to finish")
    assert row["retryCount"] == 1
    assert await queue_row(database, held.job_id) is None


async def test_job_within_its_wait_is_left_alone(database):
    await make_job(database)
    await submitted_long_ago(database)
    rows = await all_rows(database)

    assert await end_overdue_jobs(database, 3_700) == 0

    assert await all_rows(database) == rows


async def test_overdue_jobs_are_ended_once_by_many(database):
    user = await make_user(database)
    for _ in range(20):
        await make_job(database, user_id=user)
    await submitted_long_ago(database)

    ended = 0
    async with asyncio.timeout(HANGS_AFTER_S):
        while await database.fetchval(
            "SELECT count(*) FROM darkroom.job_queue"
        ):  # a pass leaves locked jobs to the next
            ended += sum(await asyncio.gather(*(end_overdue_jobs(database, 3_600) for _ in range(8))))

    assert ended == 20
    assert await balance_of(database, user) == 100
    history = await database.fetch("SELECT count(*) FROM darkroom.stage_runs WHERE event = 'failed' GROUP BY job_id")
    assert [row["count"] for row in history] == [1] * 20


async def test_rescue_in_a_session_of_another_zone_and_date_style_is_the_same(database):
    await database.fetch(
        """DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET TimeZone = ''Asia/Tokyo''', current_database());
           EXECUTE format('ALTER DATABASE %I SET DateStyle = ''German, DMY''', current_database()); END $$"""
    )
    await database.close()
    await database.open()
    live, dead = await make_claim(database), await make_claim(database)
    await database.fetch(
        "UPDATE darkroom.workers SET lease_expires_at = now() - interval '1 ms' WHERE id = $1", dead.worker_id
    )

    assert await rescue(database) == (1, 0)

    started = await database.fetch(
        """SELECT abs(extract(epoch FROM "processingStartedAt" - (now() AT TIME ZONE 'utc'))) < 60 AS is_utc,
                  abs(extract(epoch FROM "updatedAt" - (now() AT TIME ZONE 'utc'))) < 60 AS is_dated
           FROM public.image_enhancement_jobs"""
    )
    assert {tuple(row) for row in started} == {(True, True)}
    assert (await queue_row(database, live.job_id))["status"] == "processing"
