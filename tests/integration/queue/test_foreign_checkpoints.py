"""Checkpoints that another program wrote: a run begins at the stage whose output can't be read, and never crashes."""

import json
from dataclasses import replace

import pytest

from models.history.artifacts import record_artifact
from models.queue.checkpoints import outputs_left
from models.queue.resuming import begin_at
from pipelines.errors import InvalidOptionsError, MissingObjectError
from pipelines.job import Crop
from pipelines.resumption import resume, split
from tests.support.builders import (
    claim_jobs,
    job_row,
    load_inputs,
    make_artifact,
    make_image,
    make_job,
    make_pipeline,
    make_user,
    queue_row,
)
from workers.running.job import RunningJob
from workers.running.preparation import Preparation
from workers.running.translation import build_job

DEEP = "[" * 3000 + "]" * 3000


async def adopted(database, **columns):
    """Insert a job past our triggers' knowledge, as a restored row stands there."""
    job = await make_job(database, **columns)
    (claim,) = await claim_jobs(database)
    await database.fetch(
        "UPDATE darkroom.job_queue SET stage = $2 WHERE job_id = $1", job, columns.get("currentStage", "ANALYZING")
    )
    return claim


async def resumed(database, claim, stage):
    inputs = await load_inputs(database, claim)
    return resume(*split(claim.job_type, stage), outputs_left(claim.job_type, inputs.checkpoints, {}))


@pytest.mark.parametrize("stage", ["CROPPING", "PROMPTING", "GENERATING"])
@pytest.mark.parametrize("value", ['{"foo": 1}', "[]", "7", DEEP, "1" * 5000], ids=range(5))
async def test_foreign_analysis_begins_the_run_anew(database, stage, value):
    claim = await adopted(database, currentStage=stage)
    await database.fetch("""UPDATE public.image_enhancement_jobs SET "analysisResult" = $1::text::jsonb""", value)

    found = await resumed(database, claim, stage)

    assert (found.stages[0].name, found.discarded) == ("ANALYZING", "ANALYZING")


async def test_claim_that_begins_again_says_so_in_both_rows(database):
    claim = await adopted(database, currentStage="GENERATING")

    await database.run(lambda connection: begin_at(connection, claim, "CROPPING", 60))

    assert (await job_row(database, claim.job_id))["currentStage"] == "CROPPING"
    assert (await queue_row(database, claim.job_id))["stage"] == "CROPPING"


@pytest.mark.parametrize(
    ("stage", "attempt", "begins_at"),
    [("GENERATING", 1, "ANALYZING"), ("UPSCALING", 1, "ANALYZING"), ("ANALYZING", 2, "ANALYZING")],
    ids=["another program's analysis", "a newer release's stage", "set back by an earlier attempt"],
)
async def test_run_that_begins_before_a_picture_that_is_stored_has_it_all_the_same(database, stage, attempt, begins_at):
    claim = replace(await adopted(database, currentStage="GENERATING"), stage=stage, attempt=attempt)
    await database.fetch("""UPDATE public.image_enhancement_jobs SET "analysisResult" = '{"foo": 1}'""")
    await database.run(lambda connection: record_artifact(connection, claim, make_artifact()))

    prepared = await Preparation(database, {}, check_job=None, models=None).prepare(RunningJob(claim))

    assert (prepared.stages[0].name, prepared.earlier) == (begins_at, make_artifact())
    assert (await queue_row(database, claim.job_id))["stage"] == (begins_at if stage != begins_at else "GENERATING")


async def test_inputs_that_are_deleted_are_told_by_the_description(database):
    user = await make_user(database)
    source = await make_image(database, user)
    blend = await make_job(database, user_id=user, isBlend=True, sourceImageId=source)
    alone = await make_job(database, user_id=user, sourceImageId=source)
    claims = {one.job_id: one for one in await claim_jobs(database, most=2)}
    loaded = [await load_inputs(database, claims[job]) for job in (blend, alone)]
    await database.fetch("DELETE FROM public.enhanced_images WHERE id = $1", source)
    after = [await load_inputs(database, claims[job]) for job in (blend, alone)]

    assert [(one.source is not None, one.lost) for one in loaded] == [(True, None), (False, None)]
    assert after[1].lost is None
    with pytest.raises(MissingObjectError, match="source is missing"):
        build_job(claims[blend], after[0])


@pytest.mark.parametrize("column", ["analysisConfig", "promptConfig", "generationConfig"])
@pytest.mark.parametrize("value", [DEEP, "1" * 5000], ids=["deep", "long"])
async def test_pipeline_json_that_cannot_be_read_is_named(database, column, value):
    user = await make_user(database)
    pipeline = await make_pipeline(database, user)
    await database.fetch(f"""UPDATE public.enhancement_pipelines SET "{column}" = $1::text::jsonb""", value)
    claim = await adopted(database, user_id=user, pipelineId=pipeline)

    inputs = await load_inputs(database, claim)
    with pytest.raises(InvalidOptionsError, match=column):
        build_job(claim, inputs)


async def test_row_of_ours_is_read_as_before(database):
    flags = ("isDark", "isBlurry", "hasNoise", "isLowResolution", "isOverexposed", "hasColorCast")
    analysis = {"defects": dict.fromkeys(flags, False)}
    claim = await adopted(database, currentStage="PROMPTING", wasCropped=True)
    await database.fetch(
        """UPDATE public.image_enhancement_jobs SET "analysisResult" = $1::text::jsonb,
               "cropDimensions" = '{"x": 1, "y": 2, "w": 3, "h": 4}'""",
        json.dumps(analysis),
    )

    found = await resumed(database, claim, "PROMPTING")

    assert (found.stages[0].name, found.discarded) == ("PROMPTING", None)
    assert [one.box.width for one in found.outputs if isinstance(one, Crop)] == [3]
