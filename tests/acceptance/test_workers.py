"""Worker processes that are killed, stopped, disconnected or told to end: no job is lost or paid twice."""

import asyncio
import os
import signal

import psutil
import redis

from tests.support.builders import balance_of, job_row, make_job, make_pipeline, money_violations
from tests.support.fleet import eventually
from tests.support.forked import ForkedSlowWorkers
from tests.support.patience import within
from tests.support.processes import is_alive


async def status_of(fleet, job_id):
    return (await job_row(fleet.database, job_id))["status"]


def has_status(fleet, job_id, *statuses):
    async def claim():
        return await status_of(fleet, job_id) in statuses

    return claim


def is_generating(fleet, job_id):
    async def claim():
        stage = await fleet.database.fetchval("SELECT stage FROM darkroom.job_queue WHERE job_id = $1", job_id)
        return stage == "GENERATING" and fleet.calls("generate") > 0 and await fleet.holder_pid(job_id)

    return claim


async def test_killed_worker_is_succeeded_at_the_same_stage(fleet):
    user, image = await fleet.stored_picture(balance=10)
    fleet.start(2, slow_s=4)
    job = await make_job(fleet.database, user_id=user, image_id=image)
    killed = await eventually(is_generating(fleet, job))

    os.kill(killed, signal.SIGKILL)

    async def is_held_by_another():
        return await fleet.holder_pid(job) not in {None, killed}

    await eventually(is_held_by_another, "taking over", within_s=20)
    await eventually(has_status(fleet, job, "COMPLETED"))
    assert fleet.calls("analyze") == 1
    calls = await fleet.database.fetch(
        "SELECT outcome, input_hash FROM darkroom.provider_calls WHERE purpose = 'generate' ORDER BY id"
    )
    assert [row["outcome"] for row in calls] == ["open", "answered"]
    assert calls[0]["input_hash"] == calls[1]["input_hash"] is not None
    assert await balance_of(fleet.database, user) == 8
    assert await money_violations(fleet.database) == []


async def test_stopped_worker_that_goes_on_writes_nothing(fleet):
    user, image = await fleet.stored_picture(balance=10)
    fleet.start(1, slow_s=3, lease_s=3)
    job = await make_job(fleet.database, user_id=user, image_id=image)
    zombie = await eventually(is_generating(fleet, job))
    os.kill(zombie, signal.SIGSTOP)
    try:
        fleet.start(1, slow_s=0, lease_s=3)
        await eventually(has_status(fleet, job, "COMPLETED"))
        finished = await job_row(fleet.database, job)
    finally:
        os.kill(zombie, signal.SIGCONT)

    async def zombie_has_had_its_answer():
        return fleet.calls("generated") == 2 or not await fleet.database.fetchval(
            "SELECT count(*) FROM darkroom.provider_calls WHERE outcome = 'open'"
        )

    await eventually(zombie_has_had_its_answer)
    assert await job_row(fleet.database, job) == finished
    assert await balance_of(fleet.database, user) == 8


async def test_cancel_by_sql_stops_a_hanging_call_within_two_seconds_and_refunds_once(fleet):
    user, image = await fleet.stored_picture(balance=10)
    fleet.start(1, kind=ForkedSlowWorkers, slow_s=60)
    job = await make_job(fleet.database, user_id=user, image_id=image)
    await eventually(is_generating(fleet, job))

    await fleet.database.fetch("UPDATE public.image_enhancement_jobs SET status = 'CANCELLED' WHERE id = $1", job)

    async def call_was_cut_off():
        return await fleet.database.fetchval("SELECT count(*) FROM darkroom.provider_calls WHERE outcome = 'cut_off'")

    await eventually(call_was_cut_off, "the end of the call", within_s=2)
    assert await balance_of(fleet.database, user) == 10
    assert await status_of(fleet, job) == "CANCELLED"
    assert await money_violations(fleet.database) == []


async def test_sigterm_without_grace_gives_the_attempt_back_and_exits_0(fleet):
    user, image = await fleet.stored_picture()
    workers = fleet.start(1, slow_s=60, shutdown_grace_s=0)
    job = await make_job(fleet.database, user_id=user, image_id=image)
    await eventually(is_generating(fleet, job))

    with within(8):
        code = await asyncio.to_thread(workers.stop)

    assert code == 0
    row = await fleet.database.fetchrow("SELECT * FROM darkroom.job_queue WHERE job_id = $1", job)
    assert (row["status"], row["attempts"], row["stage"]) == ("pending", 0, "GENERATING")
    assert await fleet.database.fetchval("SELECT count(*) FROM darkroom.workers") == 0


async def test_sigterm_with_grace_lets_a_call_in_flight_finish(fleet):
    user, image = await fleet.stored_picture()
    workers = fleet.start(1, slow_s=2, shutdown_grace_s=15)
    job = await make_job(fleet.database, user_id=user, image_id=image)
    await eventually(is_generating(fleet, job))

    await asyncio.to_thread(workers.stop)

    assert await status_of(fleet, job) == "COMPLETED"
    assert fleet.calls("generate") == 1


async def test_flushall_in_the_middle_loses_no_job(fleet):
    user, image = await fleet.stored_picture(balance=100)
    fleet.start(1, slow_s=0.2)
    jobs = [await make_job(fleet.database, user_id=user, image_id=image) for _ in range(6)]

    redis.Redis.from_url(fleet.services.redis_url).flushall()

    for job in jobs:
        await eventually(has_status(fleet, job, "COMPLETED"))


async def test_jobs_complete_while_redis_is_stopped(fleet, services):
    user, image = await fleet.stored_picture(balance=100)
    fleet.start(1, slow_s=0)
    services.redis.stop(immediately=True)
    try:
        job = await make_job(fleet.database, user_id=user, image_id=image)
        await eventually(has_status(fleet, job, "COMPLETED"))
    finally:
        services.redis.start()


async def test_deleted_image_stops_its_job_and_refunds(fleet):
    user, image = await fleet.stored_picture(balance=10)
    fleet.start(1, kind=ForkedSlowWorkers, slow_s=60)
    job = await make_job(fleet.database, user_id=user, image_id=image)
    await eventually(is_generating(fleet, job))

    await fleet.database.fetch("DELETE FROM public.enhanced_images WHERE id = $1", image)

    async def call_was_cut_off():
        return await fleet.database.fetchval("SELECT count(*) FROM darkroom.provider_calls WHERE outcome = 'cut_off'")

    await eventually(call_was_cut_off, "the end of the call", within_s=2)
    assert await job_row(fleet.database, job) is None
    assert await balance_of(fleet.database, user) == 10


async def test_second_sigterm_leaves_no_headless_process(fleet):
    user, image = await fleet.stored_picture()
    workers = fleet.start(1, slow_s=60, shutdown_grace_s=20)
    job = await make_job(fleet.database, user_id=user, image_id=image)
    worker = psutil.Process(await eventually(is_generating(fleet, job)))
    master = psutil.Process(workers.pids[0])

    async def impatience_has_ended_both():
        living = [process for process in (master, worker) if is_alive(process)]
        if master in living:
            master.terminate()
        return not living

    await eventually(impatience_has_ended_both, "the end of both processes", within_s=15)


async def test_sigterm_and_its_echoes_leave_a_call_its_grace(fleet):
    user, image = await fleet.stored_picture()
    workers = fleet.start(1, slow_s=2, shutdown_grace_s=20)
    job = await make_job(fleet.database, user_id=user, image_id=image)
    await eventually(is_generating(fleet, job))

    for _ in range(3):  # as the kernel does for each thread of a supervisor that is killed
        psutil.Process(workers.pids[0]).terminate()
        await asyncio.sleep(0.05)

    await eventually(has_status(fleet, job, "COMPLETED"))
    assert fleet.calls("generate") == 1


async def test_supervisor_that_had_to_kill_a_worker_has_signed_it_off_when_it_ends(fleet):
    workers = fleet.start(1)
    (pid,) = [row["pid"] for row in await fleet.database.fetch("SELECT pid FROM darkroom.workers")]
    os.kill(pid, signal.SIGSTOP)

    assert await asyncio.to_thread(workers.stop, 0.2) == 1

    assert await fleet.database.fetch("SELECT * FROM darkroom.workers") == []


async def test_result_that_the_database_refuses_uses_attempts_and_ends_refunded(fleet):
    user, image = await fleet.stored_picture(balance=10)
    job = await make_job(fleet.database, user_id=user, image_id=image, maxRetries=1)
    async with fleet.database.connection() as connection:
        await connection.execute(
            """CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
               BEGIN RAISE EXCEPTION 'a rule of the application' USING ERRCODE = '23514'; END $$;
               CREATE TRIGGER refuse BEFORE UPDATE ON public.image_enhancement_jobs
               FOR EACH ROW WHEN (NEW.status = 'COMPLETED') EXECUTE FUNCTION public.refuse();"""
        )
    fleet.start(1, kind=ForkedSlowWorkers)

    await eventually(has_status(fleet, job, "REFUNDED"))

    assert fleet.calls("generate") == 1  # what is stored is offered again, not bought again
    assert await balance_of(fleet.database, user) == 10
    assert await fleet.database.fetchval("SELECT count(*) FROM public.error_logs") >= 2


async def test_completed_job_counts_its_pipeline_once_and_waits_for_nobody_who_holds_it(fleet):
    user, image = await fleet.stored_picture(balance=10)
    pipeline = await make_pipeline(fleet.database, user)
    fleet.start(1, kind=ForkedSlowWorkers)

    async with fleet.database.connection() as foreign, foreign.transaction():
        await foreign.execute("UPDATE public.enhancement_pipelines SET name = 'renamed' WHERE id = $1", pipeline)
        job = await make_job(fleet.database, user_id=user, image_id=image, pipelineId=pipeline)
        await eventually(has_status(fleet, job, "COMPLETED"))

    async def is_counted():
        return await fleet.database.fetchval('SELECT "usageCount" FROM public.enhancement_pipelines')

    assert await eventually(is_counted) == 1


async def test_pipeline_held_over_several_looks_for_lost_claims_is_counted_all_the_same(fleet):
    user, image = await fleet.stored_picture(balance=10)
    pipeline = await make_pipeline(fleet.database, user)
    fleet.start(1, kind=ForkedSlowWorkers)

    async with fleet.database.connection() as foreign, foreign.transaction():
        await foreign.execute("UPDATE public.enhancement_pipelines SET name = 'renamed' WHERE id = $1", pipeline)
        job = await make_job(fleet.database, user_id=user, image_id=image, pipelineId=pipeline)
        await eventually(has_status(fleet, job, "COMPLETED"))
        await foreign.execute("SELECT pg_sleep(2.5)")  # of which a process looks twice

    async def is_counted():
        return await fleet.database.fetchval('SELECT "usageCount" FROM public.enhancement_pipelines')

    assert await eventually(is_counted) == 1


async def test_pipeline_that_another_program_holds_keeps_no_lane_from_the_next_job(fleet):
    user, image = await fleet.stored_picture(balance=10)
    pipeline = await make_pipeline(fleet.database, user)
    fleet.start(1, kind=ForkedSlowWorkers, lanes=1)

    async with fleet.database.connection() as foreign, foreign.transaction():
        await foreign.execute("UPDATE public.enhancement_pipelines SET name = 'renamed' WHERE id = $1", pipeline)
        for _ in range(2):
            job = await make_job(fleet.database, user_id=user, image_id=image, pipelineId=pipeline)
            await eventually(has_status(fleet, job, "COMPLETED"))
