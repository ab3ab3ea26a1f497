"""Translation of rows into the job that stages see, and check that its user may use all that the job names."""

from collections.abc import Sequence
from typing import Any, Final

from config.tiers import Tier
from models.queue.claims import Claim
from models.queue.inputs import JobInputs
from pipelines.endpoint import EndpointRequest
from pipelines.errors import InvalidOptionsError, MissingObjectError, NotYoursError
from pipelines.job import Job
from pipelines.job_types import job_type_of
from pipelines.keys import result_folder
from pipelines.options import resolve
from pipelines.parameters import PARAMETERS, Parameters, read_parameters
from pipelines.prompts import Purpose
from pipelines.requests import aspect_of, check_input, check_own_references, check_prompt, check_references

MOST_PICTURES: Final = 4
"""The most pictures that a job makes, and the most that it works on."""

_OF_WORDS: Final = frozenset({Purpose.GENERATE, Purpose.MODIFY})
_NONE_CHOSEN: Final = Parameters()


def build_job(claim: Claim, inputs: JobInputs) -> Job:
    """Build the job that stages see.

    Raises:
        NotYoursError: a picture, pipeline, reference key or API key isn't the user's to use.
        MissingObjectError: an input of the job is deleted.
        InvalidOptionsError: the pipeline's JSON, the prompt, or another of the job's choices breaks a rule.
    """
    picture, source, pipeline = inputs.picture, inputs.source, inputs.pipeline
    if inputs.lost is not None:
        raise MissingObjectError(inputs.lost)
    if inputs.api_key_fault is not None:
        raise NotYoursError(inputs.api_key_fault)
    if inputs.fault is not None:
        raise InvalidOptionsError(inputs.fault)
    if pipeline is not None and not pipeline.is_allowed:
        kind = "shared by link, the job came without its token," if pipeline.is_shared_by_link else "private"
        raise NotYoursError(f"pipeline {pipeline.id} is {kind} and not yours")
    chosen = _NONE_CHOSEN if inputs.parameters is None else read_parameters(inputs.parameters)
    options = resolve(_config(claim, inputs, chosen))
    if pipeline is not None:
        check_references(pipeline.config, pipeline.owner_id)
    for used in (picture, source):
        if used is not None and not used.is_allowed:
            raise NotYoursError(f"picture {used.id} is not yours and not public")
    if inputs.changes_input:
        check_input(inputs.input_key, inputs.input_url, claim.user_id)
    check_prompt(inputs.prompt)
    if not 1 <= inputs.count <= MOST_PICTURES:
        raise InvalidOptionsError(f"a job makes 1 to {MOST_PICTURES} pictures, not {inputs.count}")
    pictures = _of_another_application(inputs.pictures)
    input_key = inputs.input_key if inputs.changes_input else None
    return Job(
        id=claim.job_id,
        job_type=claim.job_type,
        user_id=claim.user_id,
        tier=Tier(inputs.tier),
        input_key=picture.key if picture else pictures[0] if pictures else input_key,
        image_id=picture.id if picture else None,
        source_key=source.key if source else None,
        options=options,
        prompt=inputs.prompt,
        aspect=aspect_of(chosen.aspect or inputs.aspect),
        input_url=inputs.input_url if inputs.changes_input else None,
        call=None if inputs.call is None else EndpointRequest(inputs.call["url"] or "", inputs.call["body"]),
        more_keys=tuple(pictures[1:]),
        count=inputs.count,
        choices_path=PARAMETERS if chosen.model is not None and inputs.model is None else "generationConfig",
        purpose=_purpose(claim.job_type, has_pictures=bool(pictures) or inputs.changes_input),
    )


def _config(claim: Claim, inputs: JobInputs, chosen: Parameters) -> dict[str, Any]:
    """Return a job's choices as a pipeline's JSON columns have them: its pipeline's, and before these its own.

    Raises:
        NotYoursError: the row itself names a reference picture that isn't its user's.
    """
    config: dict[str, Any] = {} if inputs.pipeline is None else dict(inputs.pipeline.config)
    if inputs.config is not None:
        application = claim.job_type.rpartition(".")[0]
        check_own_references(inputs.config, result_folder(application, claim.user_id))
        config |= inputs.config
    model = inputs.model or chosen.model  # an operator chose the former for this one job
    if model is not None or chosen.temperature is not None:
        own = {"model": model, "temperature": chosen.temperature}
        given = {name: value for name, value in own.items() if value is not None}
        config["generationConfig"] = {**(config.get("generationConfig") or {}), **given}
    return config


def _of_another_application(pictures: Sequence[str | None]) -> list[str]:
    """Return the keys of the pictures that a job of another application works on.

    Raises:
        MissingObjectError: the row names none in one of its places.
        InvalidOptionsError: there are too many.
    """
    if len(pictures) > MOST_PICTURES:
        raise InvalidOptionsError(f"{len(pictures)} input pictures, at most {MOST_PICTURES}")
    keys = [key for key in pictures if key]
    if len(keys) < len(pictures):
        raise MissingObjectError("the job has no picture: its row names none where it should")
    return keys


def _purpose(job_type: str, *, has_pictures: bool) -> Purpose:
    """Return what a job asks of a provider.

    A job of another application that follows words changes its pictures, or else makes one: its row may get its
    pictures only after it has entered, as one type or the other.
    """
    purpose = job_type_of(job_type).purpose
    if "." not in job_type or purpose not in _OF_WORDS:
        return purpose
    return Purpose.MODIFY if has_pictures else Purpose.GENERATE
