"""A write that the fence refused is in the job's history; a repeated write whose answer was lost isn't there twice."""

import asyncio

import pytest

from models.queue.claims import ClaimLostError
from models.queue.transitions import Checkpoint, Completed, Failed, log_fenced, record
from pipelines.errors import BadImageError
from tests.support.builders import claim_jobs, job_row, make_claim, make_generation, set_status
from tests.support.patience import HANGS_AFTER_S
from tests.support.running import make_runner
from tests.support.scripted_provider import ScriptedProvider
from tests.support.ungated import Ungated
from workers.running.job import RunningJob


async def history_of(database, job_id):
    rows = await database.fetch(
        "SELECT event, stage, attempt FROM darkroom.stage_runs WHERE job_id = $1 ORDER BY id", job_id
    )
    return [tuple(row) for row in rows]


async def test_runner_whose_write_comes_too_late_leaves_a_line_in_the_history(database, tmp_path):
    job_id = await make_generation(database)
    (held,) = await claim_jobs(database)

    async def lose(_call):
        await set_status(database, job_id, "CANCELLED")
        return BadImageError("too large")

    runner = make_runner(database, tmp_path, Ungated(ScriptedProvider(lose)))

    await asyncio.wait_for(runner.run_job(RunningJob(held)), HANGS_AFTER_S)

    assert await history_of(database, job_id) == [("claimed", "GENERATING", 1), ("fenced", "GENERATING", 1)]
    assert (await job_row(database, job_id))["status"] == "CANCELLED"


@pytest.mark.parametrize("end", [Completed("GENERATING", 1, {}), Failed("GENERATING", "no")], ids=["done", "failed"])
async def test_end_that_was_committed_and_is_written_again_is_no_late_write(database, end):
    claim = await make_claim(database)
    await database.run(lambda connection: record(connection, claim, end))
    with pytest.raises(ClaimLostError):
        await database.run(lambda connection: record(connection, claim, end))
    before = await history_of(database, claim.job_id)

    await database.run(lambda connection: log_fenced(connection, claim, "GENERATING"))

    assert await history_of(database, claim.job_id) == before


async def test_checkpoint_that_was_committed_and_is_written_again_finishes_its_stage_once(database):
    claim = await make_claim(database)
    checkpoint = Checkpoint("ANALYZING", "CROPPING", 60, 1)

    for _ in range(2):
        status = await database.run(lambda connection: record(connection, claim, checkpoint))

    assert status == "PROCESSING"
    assert await history_of(database, claim.job_id) == [("claimed", "ANALYZING", 1), ("finished", "ANALYZING", 1)]
    assert (await job_row(database, claim.job_id))["currentStage"] == "CROPPING"
