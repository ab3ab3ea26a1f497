"""Where a run begins: whatever stands in a row's own columns may be another program's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.tiers import Tier
from models.queue.inputs import JobInputs, Picture
from pipelines.job import Job
from pipelines.options import resolve
from workers.running.translation import resume

STAGES = ["ANALYZING", "CROPPING", "PROMPTING", "GENERATING"]
FLAGS = ("isDark", "isBlurry", "hasNoise", "isLowResolution", "isOverexposed", "hasColorCast")
ANALYSIS = {"defects": dict.fromkeys(FLAGS, False)}
BOX = {"x": 1, "y": 2, "w": 30, "h": 40}
GOOD = {
    "analysisResult": ANALYSIS,
    "analysisSource": "local",
    "wasCropped": True,
    "cropDimensions": BOX,
    "geminiPrompt": "Enhance.",
}


def resumed(stage, job_type="enhance", **columns):
    job = Job("j", job_type, "u", Tier("TIER_1K"), "k", "i", None, resolve({}))
    inputs = JobInputs("TIER_1K", Picture("i", "k", is_allowed=True), None, None, GOOD | columns)
    return resume(job, inputs, stage)


@pytest.mark.parametrize("stage", STAGES)
def test_row_of_ours_begins_where_it_stopped(stage):
    found = resumed(stage)

    assert [one.name for one in found.stages] == STAGES[STAGES.index(stage) :]
    assert found.discarded == ()
    done = [found.outputs.analysis, found.outputs.crop, found.outputs.prompt]
    assert [output is not None for output in done] == [STAGES.index(stage) > number for number in range(3)]


FOREIGN_ANALYSES = [
    {"foo": 1},
    [],
    7,
    "text",
    True,
    {},
    {"defects": None},
    {"defects": {"isDark": "yes"}},
    "[" * 3000,
]


@pytest.mark.parametrize("stage", STAGES[1:])
@pytest.mark.parametrize("value", FOREIGN_ANALYSES, ids=range(len(FOREIGN_ANALYSES)))
def test_analysis_that_cannot_be_read_begins_anew(stage, value):
    found = resumed(stage, analysisResult=value)

    assert ([one.name for one in found.stages], found.discarded) == (STAGES, ("analysisResult",))
    assert (found.outputs.analysis, found.outputs.crop, found.outputs.prompt) == (None, None, None)


@pytest.mark.parametrize(
    "value",
    [
        {},
        [1, 2, 3, 4],
        "all",
        {"x": "1", "y": 2, "w": 3, "h": 4},
        {"x": 1.5, "y": 2, "w": 3, "h": 4},
        {"x": True, "y": 2, "w": 3, "h": 4},
        {"x": -1, "y": 2, "w": 3, "h": 4},
        {"x": 1, "y": 2, "w": 0, "h": 4},
        {"left": 1, "top": 2, "width": 3, "height": 4},
    ],
)
def test_crop_that_cannot_be_read_is_decided_anew_and_the_analysis_kept(value):
    found = resumed("GENERATING", cropDimensions=value)

    assert (found.stages[0].name, found.discarded) == ("CROPPING", ("cropDimensions",))
    assert found.outputs.analysis is not None
    assert found.outputs.prompt is None


def test_columns_of_stages_that_are_still_to_come_are_not_read():
    found = resumed("ANALYZING", analysisResult={"foo": 1}, cropDimensions=[], geminiPrompt="x")

    assert found.discarded == ()
    assert [one.name for one in found.stages] == STAGES


@pytest.mark.parametrize(("job_type", "stage"), [("generate", "ANALYZING"), ("enhance", "UPSCALING"), ("blend", "")])
def test_stage_that_the_job_type_does_not_have_begins_at_the_first(job_type, stage):
    found = resumed(stage, job_type)

    assert found.stages[0].name == ("GENERATING" if job_type == "generate" else "ANALYZING")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@given(stage=st.sampled_from(STAGES), analysis=VALUES, crop=VALUES, prompt=st.none() | st.text(max_size=20))
def test_no_json_in_a_row_crashes(stage, analysis, crop, prompt):
    columns = {"analysisResult": analysis, "cropDimensions": crop, "geminiPrompt": prompt}

    found = resumed(stage, **columns, analysisSource=None)

    assert STAGES.index(found.stages[0].name) <= STAGES.index(stage)
