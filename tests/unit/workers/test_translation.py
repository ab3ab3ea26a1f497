"""Jobs of other applications, as their rows become jobs that stages see."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from models.job_tables.inputs import JobInputs
from models.queue.claims import Claim
from pipelines.errors import BadImageError, InvalidOptionsError, MissingObjectError, NotYoursError
from pipelines.prompts import Purpose
from workers.running.naming import name_pictures
from workers.running.translation import build_job

INPUTS = JobInputs("TIER_1K", None, None, None, {}, prompt="at a market")


def job_of(job_type="studio.modify", **inputs):
    claim = Claim(1, job_type, "j", "u", "default", "GENERATING", 1, 3, uuid4(), uuid4(), datetime.now(UTC))
    return build_job(claim, replace(INPUTS, **inputs))


def test_first_picture_is_worked_on_and_the_others_go_with_it():
    job = job_of(pictures=("uploads/a.png", "b", "c"), count=3)

    assert (job.input_key, job.more_keys, job.image_id, job.count) == ("uploads/a.png", ("b", "c"), None, 3)
    assert (job.application, job.purpose) == ("studio", Purpose.MODIFY)


@pytest.mark.parametrize(
    ("job_type", "pictures", "purpose"),
    [
        ("studio.modify", (), Purpose.GENERATE),
        ("studio.generate", ("a",), Purpose.MODIFY),
        ("studio.generate", (), Purpose.GENERATE),
        ("frames.enhance", ("a",), Purpose.ENHANCE),
        ("frames.enhance", (), Purpose.ENHANCE),
        ("generate", (), Purpose.GENERATE),
        ("modify", (), Purpose.MODIFY),
    ],
)
def test_pictures_decide_what_is_asked_for_a_job_that_follows_words(job_type, pictures, purpose):
    assert job_of(job_type, pictures=pictures).purpose is purpose


def test_choices_of_the_row_come_before_nothing_and_an_operators_model_before_them():
    parameters = {"aspect": "2:1", "model": "m", "temperature": 0.5}

    job = job_of(parameters=parameters)
    again = job_of(parameters=parameters, model="n")

    assert (job.aspect, job.options.generation.model, job.options.generation.temperature) == (2.0, "m", 0.5)
    assert (job.choices_path, again.choices_path) == ("parameters", "generationConfig")
    assert again.options.generation.model == "n"


def test_config_of_the_row_is_resolved_as_a_pipelines_columns():
    config = {"generationConfig": {"model": "m", "retryAttempts": 5}, "promptConfig": None}

    options = job_of(config=config, parameters={"temperature": 1}).options

    assert (options.generation.model, options.generation.retry_attempts, options.generation.temperature) == ("m", 5, 1)
    with pytest.raises(InvalidOptionsError, match=r"generationConfig\.retryAttempts: between 1 and 10, found 11"):
        job_of(config={"generationConfig": {"retryAttempts": 11}})


def with_reference(key):
    return {"promptConfig": {"referenceImages": [{"r2Key": key}]}}


def test_reference_that_a_row_names_itself_may_be_a_result_of_its_user():
    job = job_of(config=with_reference("studio/u/g1-1-0.jpg"))

    assert job.options.prompt.reference_images[0].r2_key == "studio/u/g1-1-0.jpg"


@pytest.mark.parametrize("key", ["studio/u2/g1-1-0.jpg", "users/u/x.jpg", "studio/u/../u2/x.jpg", "other/u/x.jpg"])
def test_reference_that_a_row_names_itself_is_no_other_object(key):
    with pytest.raises(NotYoursError) as caught:
        job_of(config=with_reference(key))

    assert str(caught.value) == f"promptConfig.referenceImages[0].r2Key: {key} is not under studio/u/"


@pytest.mark.parametrize(
    ("inputs", "error", "words"),
    [
        ({"fault": "parameters.size: odd"}, InvalidOptionsError, "parameters.size: odd"),
        ({"parameters": {"x": 1}}, InvalidOptionsError, "parameters.x: unknown key"),
        ({"pictures": ("a", None)}, MissingObjectError, "the job has no picture"),
        ({"pictures": ("a",) * 5}, InvalidOptionsError, "5 input pictures, at most 4"),
        ({"count": 5}, InvalidOptionsError, "1 to 4 pictures, not 5"),
        ({"count": 0}, InvalidOptionsError, "1 to 4 pictures, not 0"),
    ],
)
def test_what_a_row_must_not_ask_is_refused_in_words(inputs, error, words):
    with pytest.raises(error) as caught:
        job_of(**inputs)

    assert words in str(caught.value)


def test_error_about_a_picture_names_the_keys_of_another_applications_job_once():
    job, error = job_of(pictures=("a.png", "b.png")), BadImageError("no picture", evidence="e")
    for _ in range(2):
        name_pictures(error, job)
    own = BadImageError("no picture")
    name_pictures(own, replace(job, job_type="modify"))

    assert (str(error), error.evidence, str(own)) == ("a.png or b.png: no picture", "e", "no picture")
