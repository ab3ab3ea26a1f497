"""Real workers on databases that refuse to write one job: the other jobs complete, and that job ends."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.builders import (
    balance_of,
    job_row,
    make_generation,
    make_job,
    make_user,
    money_violations,
    queue_row,
)
from tests.support.fleet import eventually
from tests.support.forked import ForkedSlowWorkers
from tests.support.rules import refuse, run

OVER = {"COMPLETED", "FAILED", "REFUNDED", "CANCELLED"}
BIGGEST = 2_147_483_647


@contextlib.contextmanager
def scheduler(fleet, **settings):
    """Run a real scheduler."""
    environment = os.environ | fleet.environment | {"LOG_LEVEL": "error"}
    environment |= {f"DARKROOM_{name.upper()}": str(value) for name, value in settings.items()}
    command = [str(Path(sys.executable).with_name("darkroom")), "scheduler"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"ready\n"
            yield
        finally:
            process.terminate()


async def ended(fleet, job):
    async def is_over():
        row = await job_row(fleet.database, job)
        return row if row["status"] in OVER else None

    return await eventually(is_over, f"the end of {job}")


async def test_jobs_behind_a_refused_row_start_within_two_seconds(fleet):
    fleet.start(1, kind=ForkedSlowWorkers)
    refused = await make_job(fleet.database, maxRetries=2)
    await run(
        fleet.database,
        """UPDATE public.image_enhancement_jobs SET status = 'PENDING';
           ALTER TABLE public.image_enhancement_jobs ADD CONSTRAINT few CHECK ("maxRetries" <> 2) NOT VALID""",
    )
    behind = [await make_generation(fleet.database) for _ in range(4)]

    async def all_started():
        rows = [await job_row(fleet.database, job) for job in behind]
        return all(row["processingStartedAt"] for row in rows)

    await eventually(all_started, "the start of the jobs behind", within_s=4)  # and two to make the jobs and to look

    row = await queue_row(fleet.database, refused)
    assert row is None or row["status"] == "retrying"


async def test_rows_of_foreign_json_are_completed_and_crash_nothing(fleet):
    jobs = []
    for stage in ("CROPPING", "PROMPTING", "GENERATING"):
        for value in ('{"foo": 1}', "[1]", '{"defects": 7}'):
            user, image = await fleet.stored_picture(size=(64, 48))
            job = await make_job(fleet.database, user_id=user, image_id=image, currentStage=stage)
            await fleet.database.fetch(
                """UPDATE public.image_enhancement_jobs SET "analysisResult" = $2::text::jsonb, "wasCropped" = true,
                       "cropDimensions" = '{"x": "1"}' WHERE id = $1""",
                job,
                value,
            )
            await fleet.database.fetch("UPDATE darkroom.job_queue SET stage = $2 WHERE job_id = $1", job, stage)
            jobs.append(job)
    user, image = await fleet.stored_picture(size=(64, 48))
    outside = await make_job(
        fleet.database, user_id=user, image_id=image, wasCropped=True, cropDimensions={"x": 60, "y": 0, "w": 9, "h": 9}
    )
    await fleet.database.fetch("UPDATE darkroom.job_queue SET stage = 'GENERATING' WHERE job_id = $1", outside)

    fleet.start(1, kind=ForkedSlowWorkers)

    assert {(await ended(fleet, job))["status"] for job in jobs} == {"COMPLETED"}
    row = await ended(fleet, outside)
    assert (row["status"], "cropDimensions" in row["errorMessage"]) == ("REFUNDED", True)
    assert await fleet.database.fetchval("""SELECT max("retryCount") FROM public.image_enhancement_jobs""") <= 1


@pytest.mark.parametrize("limit", ["balance", "retryCount"])
async def test_job_whose_picture_is_missing_ends_at_the_largest_integers(fleet, limit):
    user = await make_user(fleet.database)
    job = await make_job(fleet.database, user_id=user, retryCount=BIGGEST if limit == "retryCount" else 0)
    if limit == "balance":
        await run(
            fleet.database,
            f"""UPDATE public.user_token_balances SET balance = {BIGGEST};
                UPDATE darkroom.opening_balances SET balance = {BIGGEST} + 2::bigint""",
        )
    fleet.start(1, kind=ForkedSlowWorkers)

    assert (await ended(fleet, job))["status"] == "REFUNDED"
    owed = await fleet.database.fetch("SELECT owed FROM darkroom.refunds_owed")
    assert [row["owed"] for row in owed] == ([2] if limit == "balance" else [])
    assert await balance_of(fleet.database, user) == (BIGGEST if limit == "balance" else 100)
    assert await money_violations(fleet.database) == []


async def test_running_job_whose_row_begins_to_refuse_everything_is_over_and_refunded(fleet):
    fleet.start(1, kind=ForkedSlowWorkers, slow_s=1.5)
    user = await make_user(fleet.database)
    job = await make_generation(fleet.database, user_id=user)

    async def is_claimed():
        return (await job_row(fleet.database, job))["status"] == "PROCESSING"

    await eventually(is_claimed, "the claim")
    await refuse(fleet.database, "assert", "true", table="mcp_generation_jobs")
    with scheduler(fleet, max_wait_s=6):

        async def is_over():
            return await queue_row(fleet.database, job) is None

        await eventually(is_over, "the end without a label")

    assert await balance_of(fleet.database, user) == 100
    end = await fleet.database.fetchrow("SELECT * FROM darkroom.refused_ends")
    assert (end["job_id"], end["label"]) == (job, "REFUNDED")


async def test_jobs_of_a_truncated_queue_and_past_the_triggers_end_in_bounded_time(fleet):
    user = await make_user(fleet.database)
    jobs = [await make_job(fleet.database, user_id=user) for _ in range(2)]
    await run(
        fleet.database,
        """SET session_replication_role = replica;
           UPDATE public.image_enhancement_jobs SET status = 'PROCESSING';
           TRUNCATE darkroom.job_queue, darkroom.job_money;
           SET session_replication_role = origin""",
    )
    with scheduler(fleet, max_wait_s=5):
        for job in jobs:
            assert (await ended(fleet, job))["status"] == "REFUNDED"

    assert await balance_of(fleet.database, user) == 100
    assert await money_violations(fleet.database) == []
