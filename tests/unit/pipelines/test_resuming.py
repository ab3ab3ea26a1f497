"""The stage at which a run begins: the columns of a job's row may have been written by another program."""

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.queue.checkpoints import outputs_left
from pipelines.analysis import Analysis
from pipelines.job import Crop, PromptText
from pipelines.job_types import JOB_TYPES
from pipelines.resumption import resume, split
from pipelines.stage import Stage

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
    return resume(*split(job_type, stage), outputs_left(job_type, GOOD | columns, {}))


def outputs_of(found):
    """Return analysis, crop and prompt of what was read back, None for one that wasn't."""
    kinds = (Analysis, Crop, PromptText)
    return [next((one for one in found.outputs if isinstance(one, kind)), None) for kind in kinds]


@pytest.mark.parametrize("stage", STAGES)
def test_row_of_ours_begins_where_it_stopped(stage):
    found = resumed(stage)

    assert [one.name for one in found.stages] == STAGES[STAGES.index(stage) :]
    assert found.discarded is None
    assert [output is not None for output in outputs_of(found)] == [STAGES.index(stage) > number for number in range(3)]


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

    assert ([one.name for one in found.stages], found.discarded) == (STAGES, "ANALYZING")
    assert outputs_of(found) == [None, None, None]


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

    assert (found.stages[0].name, found.discarded) == ("CROPPING", "CROPPING")
    analysis, _, prompt = outputs_of(found)
    assert analysis is not None
    assert prompt is None


def test_columns_of_stages_that_are_still_to_come_are_not_read():
    found = resumed("ANALYZING", analysisResult={"foo": 1}, cropDimensions=[], geminiPrompt="x")

    assert found.discarded is None
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


@dataclass(frozen=True)
class Check:
    """The output of a stage that rows have no column for."""

    score: float

    @classmethod
    def from_json(cls, value):
        return cls(float(value["score"]))


@pytest.fixture
def checked(monkeypatch):
    """Give enhancements a stage CHECKING behind CROPPING, and resume one of them."""
    check = Stage("CHECKING", None, output=Check, deadline_s=30)
    stages = JOB_TYPES["enhance"].stages
    changed = replace(JOB_TYPES["enhance"], stages=(*stages[:2], check, *stages[2:]))
    monkeypatch.setitem(JOB_TYPES, "enhance", changed)
    return lambda stage, kept: resume(*split("enhance", stage), outputs_left("enhance", GOOD, kept))


def test_output_that_is_kept_beside_the_row_is_read_back(checked):
    found = checked("GENERATING", {"CHECKING": {"score": 0.5}})

    assert [one.name for one in found.stages] == ["GENERATING"]
    assert [one.score for one in found.outputs if isinstance(one, Check)] == [0.5]


def test_stage_that_was_switched_off_is_not_run_again(checked):
    assert [one.name for one in checked("GENERATING", {"CHECKING": None}).stages] == ["GENERATING"]


@pytest.mark.parametrize("kept", [{}, {"CHECKING": {}}, {"CHECKING": {"score": "high"}}, {"CHECKING": "deep"}])
def test_stage_whose_output_is_not_kept_or_cannot_be_read_runs_again(checked, kept):
    found = checked("GENERATING", kept)

    assert ([one.name for one in found.stages], found.discarded) == (
        ["CHECKING", "PROMPTING", "GENERATING"],
        "CHECKING",
    )
    assert len(found.outputs) == 2


def test_what_stands_in_a_column_is_not_taken_from_what_is_kept(checked):
    found = checked("CROPPING", {"ANALYZING": None})

    assert outputs_of(found)[0] is not None
