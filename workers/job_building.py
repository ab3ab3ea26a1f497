"""From rows to what stages see: the job, checked for whose it is, and the outputs of its finished stages."""

from typing import Any

from models.claims import Claim
from models.job_inputs import JobInputs, Picture, Pipeline
from pipelines import keys
from pipelines.analysis import Analysis
from pipelines.errors import InvalidOptionsError, MissingObjectError, NotYoursError
from pipelines.job import Crop, Job, Outputs, Prompt
from pipelines.options import resolve
from pipelines.tiers import Tier

MAX_PROMPT_CHARS = 8_000


def build_job(claim: Claim, inputs: JobInputs) -> Job:
    """Build the job that stages see.

    Raises:
        NotYoursError: a picture, pipeline or reference key isn't the user's to use.
        MissingObjectError: a blend's source picture is gone.
        InvalidOptionsError: the pipeline's JSON or the prompt breaks a rule.
    """
    if claim.job_type == "blend" and inputs.source is None:
        raise MissingObjectError("the blend's source picture is missing: its row was deleted")
    pipeline = inputs.pipeline
    if pipeline is not None and not pipeline.is_allowed:
        raise NotYoursError(f"pipeline {pipeline.id} is private and not yours")
    options = resolve(None if pipeline is None else pipeline.config)
    if pipeline is not None:
        _check_references(pipeline)
    return Job(
        id=claim.job_id,
        job_type=claim.job_type,
        user_id=claim.user_id,
        tier=Tier(inputs.tier),
        input_key=_key_of(inputs.picture) if inputs.picture else _generation_key(claim, inputs),
        image_id=inputs.picture.id if inputs.picture else None,
        source_key=_key_of(inputs.source) if inputs.source and claim.job_type == "blend" else None,
        options=options,
        prompt=_prompt(claim, inputs),
    )


def build_outputs(job: Job, inputs: JobInputs) -> Outputs:
    """Rebuild the outputs of finished stages from the row's own columns."""
    row = inputs.checkpoints
    analysis = None
    if row.get("analysisResult") is not None:
        analysis = Analysis.from_json(row["analysisResult"], source=row["analysisSource"] or "unknown")
    crop = Crop.from_json(row.get("cropDimensions"), was_cropped=bool(row.get("wasCropped")))
    prompt = None
    if row.get("geminiPrompt") is not None:
        prompt = Prompt.from_json(row["geminiPrompt"], job=job, analysis=analysis)
    return Outputs(analysis=analysis, crop=crop, prompt=prompt)


def _key_of(picture: Picture) -> str:
    if not picture.is_allowed:
        raise NotYoursError(f"picture {picture.id} is not yours and not public")
    return picture.key


def _generation_key(claim: Claim, inputs: JobInputs) -> str | None:
    if claim.job_type != "modify":
        return None
    if inputs.input_key is None and inputs.input_url is None:
        raise InvalidOptionsError(
            "a MODIFY job needs an input picture: neither inputImageR2Key nor inputImageUrl is set"
        )
    if inputs.input_key is not None and not keys.is_users(inputs.input_key, claim.user_id):
        raise NotYoursError(f"input key {inputs.input_key} is not yours")
    return inputs.input_key


def _prompt(claim: Claim, inputs: JobInputs) -> str | None:
    if inputs.prompt is None:
        return None
    if not inputs.prompt.strip():
        raise InvalidOptionsError("the prompt is empty")
    if len(inputs.prompt) > MAX_PROMPT_CHARS:
        raise InvalidOptionsError(
            f"the prompt has {len(inputs.prompt):,} characters; the limit is {MAX_PROMPT_CHARS:,}"
        )
    return inputs.prompt


def _check_references(pipeline: Pipeline) -> None:
    prompt_config: Any = pipeline.config.get("promptConfig") or {}
    for number, reference in enumerate(prompt_config.get("referenceImages") or []):
        key = (reference or {}).get("r2Key")
        if key is None:
            continue
        if pipeline.owner_id is None or not keys.is_users(key, pipeline.owner_id):
            raise NotYoursError(
                f"promptConfig.referenceImages[{number}].r2Key: {key} is not under its pipeline owner's prefix"
            )
