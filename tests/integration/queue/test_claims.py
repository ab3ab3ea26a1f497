"""Claiming jobs, and what a worker may do with a claim."""

import asyncio
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import pytest

from models.queue.claims import claim, wake_due
from models.queue.leases import lease_now
from models.queue.looks import ask_for_wake_up, look_at_queue
from models.queue.rescue import adopt_jobs, release_claims
from models.queue.transitions import Completed, Failed, Released, Retried, Snoozed, record
from tests.support.builders import (
    balance_of,
    claim_jobs,
    job_row,
    make_claim,
    make_generation,
    make_image,
    make_job,
    make_user,
    make_worker,
    queue_row,
    set_status,
)
from tests.support.patience import HANGS_AFTER_S, within

SECOND = timedelta(seconds=1)


@pytest.fixture(params=["enhancements", "generations"])
def table(request):
    return request.param


async def do(database, held, transition):
    return await database.run(lambda connection: record(connection, held, transition))


async def arm(database):
    return await database.run(lambda connection: ask_for_wake_up(connection, ["default"]))


async def test_worker_whose_lease_is_over_takes_nothing(database):
    await make_job(database)
    dead, alive = await make_worker(database, lease_s=-1), await make_worker(database)

    assert await claim_jobs(database, dead) == []
    assert len(await claim_jobs(database, alive)) == 1


async def test_claim_is_what_its_queue_row_says(database, table):
    held = await make_claim(database, table)

    row = await queue_row(database, held.job_id)
    claimed = {**asdict(held), "attempts": held.attempt}
    del claimed["attempt"]
    assert claimed.pop("first_wait_s") == (row["claimed_at"] - row["created_at"]).total_seconds()
    assert claimed == {name: row[name] for name in claimed}


@pytest.mark.parametrize(
    ("columns", "is_found"),
    [
        ("status = 'pending'", True),
        ("status = 'pending', queue = 'other'", False),
        ("status = 'retrying', ready = false, scheduled_at = now() - interval '1 s'", True),
        ("status = 'retrying', ready = false, scheduled_at = now() + interval '1 h'", False),
        ("status = 'pending', ready = false, paused_by = 'tier:TIER_1K'", True),
    ],
)
async def test_idle_worker_sees_by_one_statement_whether_there_is_work(database, columns, is_found):
    async def look():
        return (await database.run(lambda connection: look_at_queue(connection, ["default"]))).has_work

    assert not await look()
    job = await make_job(database)
    await database.fetch(f"UPDATE darkroom.job_queue SET {columns} WHERE job_id = $1", job)

    assert await look() == is_found


async def test_look_for_work_tells_how_many_jobs_have_entered(database):
    before = await database.run(lambda connection: look_at_queue(connection, ["default"]))
    await make_job(database)
    await make_job(database)

    after = await database.run(lambda connection: look_at_queue(connection, ["default"]))
    assert (after.has_work, after.entered) == (True, before.entered + 2)


async def test_idle_worker_sees_the_claims_of_others_which_may_be_lost(database):
    await make_claim(database)

    assert (await database.run(lambda connection: look_at_queue(connection, ["default"]))).has_work


async def test_claim_takes_jobs_in_the_order_of_their_positions(database):
    jobs = [await make_job(database), await make_generation(database), await make_job(database)]

    claims = await claim_jobs(database, most=2)

    assert [claimed.job_id for claimed in claims] == jobs[:2]


async def test_claim_of_an_empty_queue_takes_nothing(database):
    assert await claim_jobs(database) == []


async def test_claim_of_another_queue_takes_nothing(database):
    await make_job(database)
    worker = await make_worker(database)

    assert await database.run(lambda connection: claim(connection, worker, "gpu", 5, {})) == []


async def test_claim_marks_the_job(database):
    (held,) = [await make_claim(database)]

    row = await database.fetchrow("SELECT * FROM public.image_enhancement_jobs")
    assert (row["status"], row["currentStage"]) == ("PROCESSING", "ANALYZING")
    assert row["workflowRunId"] == str(held.lease_token)
    assert abs(row["processingStartedAt"] - datetime.now(UTC).replace(tzinfo=None)) < timedelta(minutes=1)


async def test_claim_marks_its_queue_row(database, table):
    held = await make_claim(database, table)

    row = await queue_row(database, held.job_id)
    assert (row["status"], row["ready"], row["attempts"]) == ("processing", False, 1)
    assert (row["worker_id"], row["lease_token"]) == (held.worker_id, held.lease_token)
    assert row["deadline_at"] - row["started_at"] == timedelta(seconds=60)


async def test_claim_stands_in_the_history(database, table):
    held = await make_claim(database, table)

    (row,) = await database.fetch("SELECT * FROM darkroom.stage_runs")
    assert (row["event"], row["job_id"], row["stage"], row["attempt"]) == ("claimed", held.job_id, held.stage, 1)


async def test_claim_is_what_the_worker_holds(database):
    held = await make_claim(database)

    assert (await database.run(lambda connection: lease_now(connection, held.worker_id))).tokens == {held.lease_token}


async def test_twenty_claimers_at_once_take_each_job_once(database):
    user = await make_user(database, balance=1_000)
    jobs = {await make_job(database, user_id=user) for _ in range(100)}
    workers = [await make_worker(database) for _ in range(20)]

    async def drain(worker):
        taken = []
        while claims := await claim_jobs(database, worker, most=3):
            taken += claims
        return taken

    taken = [held for claims in await asyncio.gather(*map(drain, workers)) for held in claims]

    assert len(taken) == 100
    assert {held.job_id for held in taken} == jobs
    assert len({held.lease_token for held in taken}) == 100


async def test_claim_skips_rows_that_are_not_ready(database):
    first, second = await make_job(database), await make_job(database)
    await database.fetch("UPDATE darkroom.job_queue SET ready = false WHERE job_id = $1", first)

    assert [held.job_id for held in await claim_jobs(database, most=5)] == [second]


async def test_job_locked_by_another_program_steps_aside(database, foreign):
    first, second = await make_job(database), await make_job(database)
    async with foreign.transaction():
        await foreign.execute("SELECT FROM public.image_enhancement_jobs WHERE id = $1 FOR UPDATE", first)

        assert [held.job_id for held in await claim_jobs(database)] == [second]


async def test_many_jobs_locked_by_another_program_keep_no_lane_from_those_behind(database, foreign):
    user = await make_user(database, balance=1_000)
    image = await make_image(database, user)
    locked = [await make_job(database, user_id=user, image_id=image) for _ in range(30)]
    behind = await make_job(database)
    async with foreign.transaction():
        await foreign.execute("SELECT FROM public.image_enhancement_jobs WHERE id = ANY ($1) FOR UPDATE", locked)

        assert [held.job_id for held in await claim_jobs(database, most=1)] == [behind]


async def test_job_that_stepped_aside_is_claimed_once_it_is_free(database, foreign, eventually):
    job = await make_job(database)
    transaction = foreign.transaction()
    await transaction.start()
    await foreign.execute("SELECT FROM public.image_enhancement_jobs WHERE id = $1 FOR UPDATE", job)
    assert await claim_jobs(database) == []
    await transaction.commit()

    async def woken():
        return await database.run(wake_due)

    await eventually(woken)

    (held,) = await claim_jobs(database)
    assert (held.job_id, held.attempt) == (job, 1)


async def test_finished_job_that_is_still_queued_is_not_claimed(database, foreign, damage):
    job = await make_job(database)
    await foreign.execute("SET session_replication_role = replica")  # as a restore does: no trigger fires
    await foreign.execute("UPDATE public.image_enhancement_jobs SET status = 'CANCELLED'")

    assert await claim_jobs(database) == []
    assert (await job_row(database, job))["status"] == "CANCELLED"


async def test_finished_job_that_is_still_queued_is_dropped(database, foreign, damage):
    job = await make_job(database)
    await foreign.execute("SET session_replication_role = replica")
    await foreign.execute("UPDATE public.image_enhancement_jobs SET status = 'CANCELLED'")

    assert await adopt_jobs(database) == (0, 1)
    assert await queue_row(database, job) is None


async def test_retry_keeps_the_time_of_the_first_claim(database, table):
    held = await make_claim(database, table)
    started = (await job_row(database, held.job_id))["processingStartedAt"]
    await do(database, held, Retried(held.stage, "again", timedelta()))

    (again,) = await claim_jobs(database)

    assert again.attempt == 2
    assert (await job_row(database, held.job_id))["processingStartedAt"] == started


async def test_retry_waits_for_its_time(database, table):
    held = await make_claim(database, table)

    await do(database, held, Retried(held.stage, "it rained", timedelta(hours=1)))

    assert await claim_jobs(database) == []
    assert await database.run(wake_due) == set()
    row = await queue_row(database, held.job_id)
    assert (row["status"], row["ready"], row["last_error"]) == ("retrying", False, "it rained")
    assert (await job_row(database, held.job_id))["errorMessage"] == "it rained"


async def test_retry_whose_time_has_come_is_woken_once(database):
    held = await make_claim(database)
    await do(database, held, Retried(held.stage, "it rained", timedelta(hours=1)))
    await database.fetch("UPDATE darkroom.job_queue SET scheduled_at = now()")

    assert await database.run(wake_due) == {"default"}
    assert await database.run(wake_due) == set()
    assert [one.job_id for one in await claim_jobs(database)] == [held.job_id]


async def test_retry_keeps_the_stage(database):
    held = await make_claim(database)
    await database.fetch("""UPDATE public.image_enhancement_jobs SET "currentStage" = 'CROPPING'""")

    await do(database, held, Retried("CROPPING", "again", SECOND))

    assert (await job_row(database, held.job_id))["currentStage"] == "CROPPING"


async def test_failed_attempts_are_counted_on_the_job(database):
    held = await make_claim(database)
    await do(database, held, Retried(held.stage, "again", timedelta()))
    (held,) = await claim_jobs(database)

    await do(database, held, Failed(held.stage, "no"))

    assert (await job_row(database, held.job_id))["retryCount"] == 2


@pytest.mark.parametrize(
    "let_go", [Released("ANALYZING"), Snoozed("ANALYZING", "busy", timedelta())], ids=["released", "snoozed"]
)
async def test_job_let_go_of_gets_its_attempt_back(database, table, let_go):
    held = await make_claim(database, table)

    await do(database, held, let_go)

    (again,) = await claim_jobs(database)
    assert (again.attempt, again.lease_token != held.lease_token) == (1, True)
    assert not (await job_row(database, held.job_id))["retryCount"]


async def test_release_of_claims_that_their_worker_does_not_know_gives_them_back(database):
    held, other = await make_claim(database), await make_claim(database)

    await release_claims(database, [held.lease_token])

    assert (await queue_row(database, held.job_id))["attempts"] == 0
    assert (await queue_row(database, other.job_id))["status"] == "processing"


async def test_failure_of_a_charged_job_ends_refunded(database, table):
    held = await make_claim(database, table)

    assert await do(database, held, Failed(held.stage, "no")) == "REFUNDED"

    assert await balance_of(database, held.user_id) == 100
    assert await queue_row(database, held.job_id) is None


async def test_failure_of_a_free_job_ends_failed(database, table):
    held = await make_claim(database, table, tier="FREE")

    assert await do(database, held, Failed(held.stage, "no")) == "FAILED"

    assert await balance_of(database, held.user_id) == 100


async def test_end_names_its_reason_cut_to_what_a_row_keeps(database, table):
    held = await make_claim(database, table)

    await do(database, held, Failed(held.stage, "\0" + "x" * 5_000))

    assert (await job_row(database, held.job_id))["errorMessage"] == "x" * 2_000


async def test_completion_clears_stage_and_error(database):
    held = await make_claim(database)
    await do(database, held, Retried(held.stage, "again", timedelta()))
    (held,) = await claim_jobs(database)

    await do(database, held, Completed("GENERATING", 1, {"cropDimensions": {"x": 1}, "enhancedR2Key": "k"}))

    row = await database.fetchrow("SELECT * FROM public.image_enhancement_jobs")
    assert (row["status"], row["currentStage"], row["errorMessage"]) == ("COMPLETED", None, None)
    assert (row["cropDimensions"], row["enhancedR2Key"]) == ({"x": 1}, "k")
    assert row["processingCompletedAt"] is not None


async def test_null_in_a_json_column_is_no_json_null(database):
    held = await make_claim(database)

    await do(database, held, Completed("GENERATING", 1, {"cropDimensions": None}))

    assert await database.fetchval('SELECT "cropDimensions" IS NULL FROM public.image_enhancement_jobs')


async def test_cancel_of_a_running_job_removes_its_queue_row(database, table):
    held = await make_claim(database, table)

    await set_status(database, held.job_id, "CANCELLED")

    assert await queue_row(database, held.job_id) is None
    assert (await database.run(lambda connection: lease_now(connection, held.worker_id))).tokens == set()


async def test_foreign_reset_of_a_running_job_makes_it_due_with_its_attempt_used(database, table):
    held = await make_claim(database, table)

    await set_status(database, held.job_id, "PENDING")

    (again,) = await claim_jobs(database)
    assert (again.job_id, again.attempt) == (held.job_id, 2)


async def test_foreign_start_of_a_waiting_job_leaves_it_to_be_claimed(database, table):
    job = await (make_job if table == "enhancements" else make_generation)(database)

    await set_status(database, job, "PROCESSING")

    assert [held.job_id for held in await claim_jobs(database)] == [job]


async def test_restored_job_is_adopted_without_a_charge(database, foreign):
    user = await make_user(database, balance=0)
    await foreign.execute("SET session_replication_role = replica")
    await foreign.execute(
        """INSERT INTO public.mcp_generation_jobs (id, "userId", type, tier, "tokensCost", status, prompt, "updatedAt")
           VALUES ('old', $1, 'MODIFY', 'TIER_1K', 2, 'PENDING', 'x', now())""",
        user,
    )

    assert await adopt_jobs(database) == (1, 0)

    assert [held.job_type for held in await claim_jobs(database)] == ["modify"]
    assert await database.fetchval("SELECT count(*) FROM darkroom.job_money") == 0


async def test_restored_job_is_adopted_once_by_many(database, foreign):
    job = await make_job(database)
    await database.fetch("DELETE FROM darkroom.job_queue")

    adopted = await asyncio.gather(*(adopt_jobs(database) for _ in range(10)))

    assert sum(count for count, _ in adopted) == 1
    assert await queue_row(database, job)


async def test_restored_job_starts_at_the_stage_that_it_was_in(database):
    job = await make_job(database, currentStage="PROMPTING")
    await database.fetch("DELETE FROM darkroom.job_queue")

    await adopt_jobs(database)

    assert (await queue_row(database, job))["stage"] == "PROMPTING"


async def test_job_that_is_being_cancelled_is_not_adopted(database, foreign):
    job = await make_job(database)
    await database.fetch("DELETE FROM darkroom.job_queue")
    transaction = foreign.transaction()
    await transaction.start()
    await foreign.execute("UPDATE public.image_enhancement_jobs SET status = 'CANCELLED'")

    await adopt_jobs(database)
    await transaction.commit()
    await adopt_jobs(database)

    assert await queue_row(database, job) is None


async def test_jobs_of_a_truncated_table_end_at_once_and_those_that_went_past_the_triggers_are_dropped(database):
    for triggers, dropped in (("ENABLE", 0), ("DISABLE", 1)):
        await make_job(database)
        await database.fetch(f"ALTER TABLE public.image_enhancement_jobs {triggers} TRIGGER USER")
        await database.fetch("TRUNCATE public.image_enhancement_jobs")

        assert await claim_jobs(database) == []
        assert await adopt_jobs(database) == (0, dropped)


async def heard(connection, channel):
    messages = asyncio.Queue()
    await connection.add_listener(channel, lambda *message: messages.put_nowait(message[3]))
    return messages


async def test_insert_rings_once_when_the_bell_is_armed(database, foreign):
    messages = await heard(foreign, "darkroom_bells")
    assert await arm(database)

    for _ in range(3):
        await make_job(database)
    await database.fetch("SELECT pg_notify('darkroom_bells', 'end')")

    assert [await asyncio.wait_for(messages.get(), HANGS_AFTER_S) for _ in range(2)] == ["default", "end"]


async def test_insert_does_not_ring_when_the_bell_is_not_armed(database, foreign):
    messages = await heard(foreign, "darkroom_bells")

    await make_job(database)
    await database.fetch("SELECT pg_notify('darkroom_bells', 'end')")

    assert await asyncio.wait_for(messages.get(), HANGS_AFTER_S) == "end"


async def test_armed_bell_is_armed_no_second_time(database):
    assert await arm(database)
    assert not await arm(database)


async def test_producer_that_dawdles_with_the_bell_keeps_nobody_from_arming(database, foreign):
    user = await make_user(database)
    await make_image(database, user)
    await arm(database)
    async with foreign.transaction():
        await foreign.execute(
            """INSERT INTO public.mcp_generation_jobs
                   (id, "userId", type, tier, "tokensCost", status, prompt, "updatedAt")
               VALUES ('slow', $1, 'GENERATE', 'FREE', 0, 'PENDING', 'x', now())""",
            user,
        )

        with within(0.5):
            await arm(database)


async def test_changes_of_a_job_are_told_in_its_own_words(database, foreign):
    messages = await heard(foreign, "darkroom_jobs")
    held = await make_claim(database)
    await do(database, held, Failed(held.stage, "no"))

    told = [await asyncio.wait_for(messages.get(), HANGS_AFTER_S) for _ in range(2)]

    assert told == [
        f'{{"id" : "{held.job_id}", "type" : "enhance", "status" : "PROCESSING", "stage" : "ANALYZING"}}',
        f'{{"id" : "{held.job_id}", "type" : "enhance", "status" : "REFUNDED", "stage" : null}}',
    ]
