"""Jobs that wait for a pixel child: neither their stage's deadline nor that in their claim's row ends the wait."""

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta

import pytest

from config.masking import SecretMask
from models.queue.groups import GroupWriter
from models.queue.rescue import rescue_lost_claims
from pipelines.job_types import JOB_TYPES, JobType
from pipelines.stage import Stage
from tests.support import imaging_tasks as tasks
from tests.support.builders import job_row, make_claim, queue_row, set_status
from tests.support.kept_pixels import kept_children, pixels
from tests.support.patience import within
from tests.support.running import make_stages
from workers.running import row_deadlines
from workers.running.job import RunningJob
from workers.running.record import Recorder
from workers.running.runner import Runner

__all__ = ["kept_children", "pixels"]

LATER = datetime(9999, 1, 1, tzinfo=UTC)


@pytest.fixture
async def run(database, pixels, tmp_path, monkeypatch):
    """Run a claim of one stage, which gives a child a task; return its running job."""
    monkeypatch.setattr(row_deadlines, "LOOK_S", 0.1)
    monkeypatch.setattr(row_deadlines, "BEHIND_S", 0.1)
    running = []
    await pixels.run(tasks.pid)

    async def run_claim(work, *arguments, deadline_s=0.5):
        """`work` is a stage, or the task of a child if it is one of `imaging_tasks`."""

        async def in_a_child(context):
            await context.pixels.run(work, *arguments)

        stage = in_a_child if work.__module__ == tasks.__name__ else work
        stages = (Stage("ANALYZING", stage, output=object, deadline_s=deadline_s),)
        monkeypatch.setitem(JOB_TYPES, "enhance", JobType("enhance", stages))
        writer, mask = GroupWriter(database), SecretMask([])
        stage_runner = make_stages(database, writer, tmp_path, None, mask)
        stage_runner._pixels = pixels
        job = RunningJob(await make_claim(database))
        job.task = asyncio.create_task(Runner(stage_runner, Recorder(database, writer, mask)).run_job(job))
        running.append(job.task)
        return job

    yield run_claim
    for one in running:
        one.cancel()
    await asyncio.gather(*running, return_exceptions=True)


@pytest.fixture
async def busy(pixels, tmp_path):
    """Keep the pool's only child busy; yield the function that frees it."""
    path = tmp_path / "over"
    task = asyncio.create_task(pixels.run(tasks.wait_for_file, str(path)))
    await asyncio.sleep(0.1)
    yield path.touch
    path.touch()
    await task


async def test_job_that_waits_for_a_child_is_not_rescued_and_completes(database, run, busy, eventually):
    job = await run(tasks.pid, deadline_s=1)
    await asyncio.sleep(2)
    await database.fetch("UPDATE darkroom.job_queue SET deadline_at = now() - interval '1 minute'")
    await eventually(lambda: database.fetchval("SELECT deadline_at > now() FROM darkroom.job_queue"))

    rescued = await rescue_lost_claims(database, LATER)
    busy()
    await job.task

    assert (rescued.requeued, rescued.ended) == (0, 0)
    assert (await job_row(database, job.claim.job_id))["status"] == "COMPLETED"


async def test_job_whose_child_hangs_ends_by_its_deadline_and_its_row_is_not_moved(database, run):
    job = await run(tasks.sleep, 60)
    before = (await queue_row(database, job.claim.job_id))["deadline_at"]
    await asyncio.sleep(0.3)
    after = (await queue_row(database, job.claim.job_id))["deadline_at"]
    await job.task

    assert before == after
    assert "wasn't done within its deadline" in (await queue_row(database, job.claim.job_id))["last_error"]


async def test_job_that_ignores_its_deadline_is_rescued(database, run, eventually):
    go_on = asyncio.Event()

    async def hang(_context):
        while not go_on.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await go_on.wait()

    job = await run(hang, deadline_s=0.2)
    await asyncio.sleep(0.5)  # the deadline has passed
    await database.fetch("UPDATE darkroom.job_queue SET deadline_at = now() - interval '1 hour'")
    await asyncio.sleep(0.5)  # several looks

    rescued = await rescue_lost_claims(database, LATER)
    go_on.set()
    await job.task

    assert (rescued.requeued, rescued.ended) == (1, 0)


async def test_row_that_another_session_held_is_moved_after_the_wait(database, run, busy, connect, eventually):
    job = await run(tasks.sleep, 3, deadline_s=5)
    before = await database.fetchval(
        "UPDATE darkroom.job_queue SET deadline_at = now() + interval '5 seconds' RETURNING deadline_at"
    )
    other = await connect()
    async with other.transaction():
        await other.execute("SELECT FROM darkroom.job_queue FOR UPDATE")
        await asyncio.sleep(1)
        busy()
        await asyncio.sleep(0.5)  # the child has begun

    async def is_moved():
        return (await queue_row(database, job.claim.job_id))["deadline_at"] > before + timedelta(seconds=0.5)

    await eventually(is_moved)


@pytest.mark.parametrize("end", ["stop", "lost claim", "cancelled"])
async def test_job_that_waits_for_a_child_ends_at_once(database, run, busy, end):
    job = await run(tasks.pid)
    await asyncio.sleep(0.3)
    with within(1):
        if end == "stop":
            job.shut_down(has_grace=True)
        else:
            if end == "cancelled":
                await set_status(database, job.claim.job_id, "CANCELLED")
            job.lose_claim()
        await job.task

    row = await job_row(database, job.claim.job_id)
    assert row["status"] == {"stop": "PENDING", "lost claim": "PROCESSING", "cancelled": "CANCELLED"}[end]
