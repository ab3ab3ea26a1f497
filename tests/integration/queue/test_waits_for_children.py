"""Jobs that wait for a pixel child: neither their stage's deadline nor that in their claim's row ends the wait."""

import asyncio
from datetime import UTC, datetime

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
    running = []
    await pixels.run(tasks.pid)

    async def run_claim(*task, deadline_s=0.5):
        async def work(context):
            await context.pixels.run(*task)

        stages = (Stage("ANALYZING", work, output=object, deadline_s=deadline_s),)
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
