"""Translation of rows into the job that stages see, and check that its user may use all that the job names."""

from typing import Any

from config.tiers import Tier
from models.queue.claims import Claim
from models.queue.inputs import JobInputs
from pipelines.errors import MissingObjectError, NotYoursError
from pipelines.job import Job
from pipelines.job_types import JOB_TYPES
from pipelines.options import resolve
from pipelines.requests import aspect_of, check_input, check_prompt, check_references


def build_job(claim: Claim, inputs: JobInputs) -> Job:
    """Build the job that stages see.

    Raises:
        NotYoursError: a picture, pipeline, reference key or API key isn't the user's to use.
        MissingObjectError: an input of the job is deleted.
        InvalidOptionsError: the pipeline's JSON or the prompt breaks a rule.
    """
    picture, source, pipeline = inputs.picture, inputs.source, inputs.pipeline
    if inputs.lost is not None:
        raise MissingObjectError(inputs.lost)
    if inputs.api_key_fault is not None:
        raise NotYoursError(inputs.api_key_fault)
    if pipeline is not None and not pipeline.is_allowed:
        kind = "shared by link, the job came without its token," if pipeline.is_shared_by_link else "private"
        raise NotYoursError(f"pipeline {pipeline.id} is {kind} and not yours")
    config: dict[str, Any] = {} if pipeline is None else dict(pipeline.config)
    if inputs.model is not None:  # an operator chose it for this one job
        config["generationConfig"] = {**(config.get("generationConfig") or {}), "model": inputs.model}
    options = resolve(config)
    if pipeline is not None:
        check_references(pipeline.config, pipeline.owner_id)
    for used in (picture, source):
        if used is not None and not used.is_allowed:
            raise NotYoursError(f"picture {used.id} is not yours and not public")
    if inputs.changes_input:
        check_input(inputs.input_key, inputs.input_url, claim.user_id)
    check_prompt(inputs.prompt)
    return Job(
        id=claim.job_id,
        job_type=claim.job_type,
        user_id=claim.user_id,
        tier=Tier(inputs.tier),
        input_key=picture.key if picture else inputs.input_key if inputs.changes_input else None,
        image_id=picture.id if picture else None,
        source_key=source.key if source else None,
        options=options,
        prompt=inputs.prompt,
        aspect=aspect_of(inputs.aspect),
        input_url=inputs.input_url if inputs.changes_input else None,
        purpose=JOB_TYPES[claim.job_type].purpose,
    )
