"""Outputs of stages: kept in columns of the job's row if it has some, else in darkroom.checkpoints, under the fence."""

import pytest

from models.queue.checkpoints import carry, checkpoint, completed, resumable_stages
from models.queue.claims import FencedError
from models.queue.transitions import Completed, Released, record
from tests.support.builders import claim_jobs, job_row, load_rows, make_claim, make_job, queue_row

BOX = {"x": 1, "y": 2, "w": 3, "h": 4}


def leaving(stage, output, following, job_type="enhance"):
    return checkpoint(job_type, stage, output, following=following, deadline_s=60, duration_ms=1)


async def kept(database):
    rows = await database.fetch("SELECT job_id, stage, output FROM darkroom.checkpoints ORDER BY stage")
    return [tuple(row) for row in rows]


async def full_row(database, job_id):
    return await database.fetchrow("SELECT * FROM public.image_enhancement_jobs WHERE id = $1", job_id)


async def write(database, claim, transition):
    await database.run(lambda connection: record(connection, claim, transition))


@pytest.mark.parametrize("output", [{"score": 0.5, "words": ["ä", None]}, {}, None], ids=["some", "empty", "nothing"])
@pytest.mark.parametrize("table", ["enhancements", "generations"])
async def test_output_without_a_column_is_kept_and_read_back(database, table, output):
    claim = await make_claim(database, table)
    before = await job_row(database, claim.job_id)

    await write(database, claim, leaving("CHECKING", output, "GENERATING", claim.job_type))

    assert await kept(database) == [(claim.job_id, "CHECKING", output)]
    assert (await load_rows(database, claim)).kept["CHECKING"] == output
    assert (await queue_row(database, claim.job_id))["stage"] == "GENERATING"
    changed = {"updatedAt", "currentStage"}
    after = await job_row(database, claim.job_id)
    assert {name: value for name, value in after.items() if name not in changed} == {
        name: value for name, value in before.items() if name not in changed
    }


async def test_stage_that_the_column_has_no_label_for_leaves_it_as_it_is(database):
    claim = await make_claim(database)

    await write(database, claim, leaving("ANALYZING", None, "CHECKING"))
    shown = (await job_row(database, claim.job_id))["currentStage"]
    await write(database, claim, leaving("CHECKING", {"a": 1}, "CROPPING"))

    assert shown == "ANALYZING"
    assert (await job_row(database, claim.job_id))["currentStage"] == "CROPPING"
    await write(database, claim, Released("CROPPING"))
    await database.fetch("UPDATE darkroom.job_queue SET stage = 'CHECKING'")
    (again,) = await claim_jobs(database)
    assert (again.stage, (await job_row(database, claim.job_id))["currentStage"]) == ("CHECKING", "CROPPING")


async def test_checkpoint_of_a_lost_claim_keeps_nothing(database):
    claim = await make_claim(database)
    await database.fetch("UPDATE darkroom.job_queue SET lease_token = gen_random_uuid()")

    with pytest.raises(FencedError):
        await write(database, claim, leaving("CHECKING", {"a": 1}, "CROPPING"))

    assert await kept(database) == []


async def test_checkpoint_that_is_written_again_keeps_the_newest_output_once(database):
    claim = await make_claim(database)

    for number in range(2):
        await write(database, claim, leaving("CHECKING", {"a": number}, "CROPPING"))

    assert await kept(database) == [(claim.job_id, "CHECKING", {"a": 1})]


async def test_columns_take_what_they_have_and_the_history_what_they_have_not(database):
    claim = await make_claim(database)
    analysis = {"result": {"defects": {}}, "source": "local", "measures": {"noise": 2.5}}

    await write(database, claim, leaving("ANALYZING", analysis, "CROPPING"))
    await write(database, claim, leaving("CROPPING", {"was_cropped": True, "box": BOX}, "PROMPTING"))

    row = await full_row(database, claim.job_id)
    columns = [row[name] for name in ("analysisResult", "analysisSource", "wasCropped", "cropDimensions")]
    assert columns == [{"defects": {}}, "local", True, BOX]
    history = await database.fetch("SELECT output FROM darkroom.stage_runs WHERE event = 'finished' ORDER BY id")
    assert [one["output"] for one in history] == [{"measures": {"noise": 2.5}}, None]
    assert await kept(database) == []


async def test_result_of_an_earlier_stage_is_what_completes_the_job(database):
    claim = await make_claim(database)
    facts = ("key", "url", "width_px", "height_px", "size_bytes", "model", "temperature")
    result = dict(zip(facts, ("k", "u", 1, 2, 3, "m", 0.5), strict=True))

    end = completed("enhance", "NOTIFYING", {"sent": 1}, result, duration_ms=1, pipeline_id=None)
    await write(database, claim, end)

    row = await full_row(database, claim.job_id)
    assert isinstance(end, Completed)
    assert (row["status"], row["enhancedR2Key"], row["enhancedHeight"], row["geminiTemp"]) == ("COMPLETED", "k", 2, 0.5)


async def test_new_job_is_given_what_the_stages_before_its_first_one_left(database):
    claim, new = await make_claim(database), await make_job(database)
    for transition in (
        leaving("ANALYZING", {"result": {"a": 1}, "source": "m", "measures": {}}, "CHECKING"),
        leaving("CHECKING", {"b": 2}, "CROPPING"),
        leaving("CROPPING", {"was_cropped": True, "box": BOX}, "SHARPENING"),
        leaving("SHARPENING", {"c": 3}, "PROMPTING"),
    ):
        await write(database, claim, transition)
    stages = ("ANALYZING", "CHECKING", "CROPPING", "SHARPENING", "PROMPTING", "GENERATING")
    row = dict(await full_row(database, claim.job_id))

    finished = await database.run(lambda connection: resumable_stages(connection, "enhance", claim.job_id, row, stages))
    await database.run(lambda connection: carry(connection, "enhance", claim.job_id, new, stages[:3], "SHARPENING"))

    assert finished == set(stages[:4])
    carried = await full_row(database, new)
    assert (carried["analysisResult"], carried["cropDimensions"], carried["currentStage"]) == ({"a": 1}, BOX, None)
    assert await database.fetch("SELECT stage, output FROM darkroom.checkpoints WHERE job_id = $1", new) == [
        ("CHECKING", {"b": 2})
    ]


async def test_stage_whose_kept_output_is_gone_is_not_finished(database):
    claim = await make_claim(database)
    await write(database, claim, leaving("CHECKING", {"b": 2}, "ANALYZING"))
    await database.fetch("DELETE FROM darkroom.checkpoints")
    row = dict(await full_row(database, claim.job_id))

    finished = await database.run(
        lambda connection: resumable_stages(connection, "enhance", claim.job_id, row, ("CHECKING", "ANALYZING"))
    )

    assert finished == set()
