"""Deadlines of stages: their defaults, and the settings that replace them."""

from dataclasses import replace

import pytest

from config.settings import SettingsError
from pipelines import job_types
from pipelines.job_types import (
    GENERATE,
    JOB_TYPES,
    JobType,
    is_job_type,
    job_type_of,
    require_known_stages,
    stage_deadlines,
    stage_names,
)
from pipelines.settings import Settings


def test_stage_that_no_setting_names_keeps_its_own_deadline():
    deadlines_s = stage_deadlines(Settings(stage_deadlines={"GENERATING": 600}))

    own = {stage.name: stage.deadline_s for job_type in JOB_TYPES.values() for stage in job_type.stages}
    assert deadlines_s == {**own, "GENERATING": 600}
    assert deadlines_s.items() >= {"ANALYZING": 120, "CROPPING": 60, "PROMPTING": 30}.items()


def test_stage_of_a_new_job_type_has_its_deadline_and_may_be_named(monkeypatch):
    drawn = replace(GENERATE, name="DRAWING", deadline_s=7.5)
    monkeypatch.setattr(job_types, "JOB_TYPES", {**JOB_TYPES, "draw": JobType("draw", (drawn,))})

    require_known_stages(Settings(stage_deadlines={"DRAWING": 9}))

    assert stage_names()[-1] == "DRAWING"
    assert stage_deadlines(Settings())["DRAWING"] == 7.5


@pytest.mark.parametrize(
    ("name", "found"), [("modify", "modify"), ("studio.modify", "modify"), ("a.b.enhance", "enhance")]
)
def test_type_of_another_application_is_found_by_what_follows_its_last_dot(name, found):
    assert job_type_of(name) is JOB_TYPES[found]
    assert is_job_type(name)


@pytest.mark.parametrize("name", ["studio.draw", "modify.studio", "", "modify."])
def test_type_that_no_application_has_is_unknown(name):
    assert not is_job_type(name)
    with pytest.raises(KeyError):
        job_type_of(name)


@pytest.mark.parametrize("name", ["GENERATIN", "generating", "DRAWING"])
def test_deadline_of_a_stage_that_nothing_has_is_refused_by_name(name):
    with pytest.raises(SettingsError, match=f"DARKROOM_STAGE_DEADLINES: '{name}' is unknown; known are ANALYZING"):
        require_known_stages(Settings(stage_deadlines={name: 9}))


def test_queue_of_a_stage_that_nothing_has_is_refused_by_name():
    with pytest.raises(SettingsError, match="DARKROOM_STAGE_QUEUES: 'DRAWING' is unknown; known are ANALYZING"):
        require_known_stages(Settings(stage_queues={"DRAWING": "gpu"}))
