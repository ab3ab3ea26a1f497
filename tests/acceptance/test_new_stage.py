"""A stage whose output has no column: the output is kept when the process of the next stage dies."""

import asyncio

import pytest

from pipelines.settings import Settings
from tests.support.builders import job_row, make_generation, make_job, money_violations
from tests.support.fleet import SlowWorkers, eventually
from workers.operations.explaining import explain_job
from workers.presentation.wording import event_words
from workers.process.compose import open_runtime


class StagedWorkers(SlowWorkers):
    ENTRY_POINT = "tests.support.staged_worker:main"


async def make_of_type(fleet, job_type):
    if job_type == "generate":
        return await make_generation(fleet.database)
    user, image = await fleet.stored_picture()
    return await make_job(fleet.database, user_id=user, image_id=image)


@pytest.mark.parametrize("job_type", ["generate", "enhance"])
async def test_output_without_a_column_survives_a_kill_in_the_next_stage_and_is_explained(fleet, job_type):
    job = await make_of_type(fleet, job_type)
    workers = fleet.start(1, kind=StagedWorkers, lease_s=3)

    async def is_completed():
        return (await job_row(fleet.database, job))["status"] == "COMPLETED"

    await eventually(is_completed, "the end of the job")

    assert [fleet.calls(what) for what in ("checked", "killed", f"given:{job_type}_is_sound")] == [1, 1, 1]
    assert fleet.calls("analyze") == (job_type == "enhance")  # what was finished before isn't bought again
    kept = await fleet.database.fetch("SELECT job_type, job_id, stage, output FROM darkroom.checkpoints")
    assert [tuple(row) for row in kept] == [(job_type, job, "CHECKING", {"words": f"{job_type} is sound"})]
    assert await money_violations(fleet.database) == []
    await asyncio.to_thread(workers.stop, timeout_s=10)
    async with open_runtime(Settings(home=fleet.folder), fleet.services, wait_for_migration=False) as runtime:
        explanation = await explain_job(runtime, job)
    left = [event_words(event, job) for event in explanation.timeline if event.event == "left"]
    assert left == [f'CHECKING left {{"words": "{job_type} is sound"}}']
