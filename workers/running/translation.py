"""Between rows and stages: the job as stages see it, checked for whose it is, and outputs as columns."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from config.job_terms import MAX_PROMPT_CHARS
from config.tiers import Tier
from models.history.artifacts import Artifact
from models.job_tables.pictures import ENHANCEMENTS
from models.job_tables.registry import table_of
from models.queue.claims import Claim
from models.queue.inputs import JobInputs, Picture, Pipeline
from pipelines import keys
from pipelines.analysis import Analysis
from pipelines.errors import InvalidOptionsError, MissingObjectError, NotYoursError
from pipelines.job import Crop, Generated, Job, Outputs, Prompt
from pipelines.job_types import JOB_TYPES
from pipelines.options import resolve
from pipelines.stage import Stage, StageName


def build_job(claim: Claim, inputs: JobInputs) -> Job:
    """Build the job that stages see.

    Raises:
        NotYoursError: a picture, pipeline, reference key or API key isn't the user's to use.
        MissingObjectError: a blend's source picture is gone.
        InvalidOptionsError: the pipeline's JSON or the prompt breaks a rule.
    """
    if claim.job_type == "blend" and inputs.source is None:
        raise MissingObjectError("the blend's source picture is missing: its row was deleted")
    if inputs.api_key_fault is not None:
        raise NotYoursError(inputs.api_key_fault)
    pipeline = inputs.pipeline
    if pipeline is not None and not pipeline.is_allowed:
        kind = "shared by link, the job came without its token," if pipeline.is_shared_by_link else "private"
        raise NotYoursError(f"pipeline {pipeline.id} is {kind} and not yours")
    config: dict[str, Any] = {} if pipeline is None else dict(pipeline.config)
    if inputs.model is not None:  # of this one job, by an operator
        config["generationConfig"] = {**(config.get("generationConfig") or {}), "model": inputs.model}
    options = resolve(config)
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
        prompt=_prompt(inputs),
        aspect=aspect_of(inputs.aspect),
        input_url=inputs.input_url if claim.job_type == "modify" else None,
    )


def ids_that_share_keys(claim: Claim, inputs: JobInputs) -> list[str]:
    """Return ids of users to whom another program may have written a key that a job names as its owner's.

    Nearly always none: it takes a folder below the owner's, and it matters only if there is a user with such an id.
    """
    named = [(inputs.input_key, claim.user_id)] if claim.job_type == "modify" else []
    if inputs.pipeline is not None and inputs.pipeline.owner_id is not None:
        named += [(key, inputs.pipeline.owner_id) for _, key in _references(inputs.pipeline)]
    return sorted({one for key, owner_id in named if key is not None for one in keys.ids_below(key, owner_id)})


def require_unshared(user_ids: Sequence[str]) -> None:
    """Check that none of the ids that share a job's keys is a user's.

    Raises:
        NotYoursError: one is.
    """
    if user_ids:
        raise NotYoursError(f"a key of this job may be user {user_ids[0]}'s and not yours")


@dataclass(frozen=True, slots=True)
class Resumption:
    """Where a run begins: its stages, the outputs of those before, and the columns that couldn't be read."""

    stages: tuple[Stage, ...]
    outputs: Outputs
    discarded: tuple[str, ...] = ()


def resume(job: Job, inputs: JobInputs, stage: str) -> Resumption:
    """Rebuild the outputs of the stages before `stage` from the row's own columns.

    Whatever stands in these columns may be another program's. What can't be read is discarded, and the run begins at
    the stage that writes it; a stage that this type of job doesn't have means the first.
    """
    stages = JOB_TYPES[job.job_type].stages
    names = [one.name.value for one in stages]
    first = names.index(stage) if stage in names else 0
    row, outputs, discarded = inputs.checkpoints, Outputs(), None
    for number, name in enumerate(names[:first]):
        try:
            match name:
                case StageName.ANALYZING if (result := row.get("analysisResult")) is not None:
                    source = row["analysisSource"] or "unknown"
                    outputs = replace(outputs, analysis=Analysis.from_json(result, source=source))
                case StageName.CROPPING:
                    crop = Crop.from_json(row.get("cropDimensions"), was_cropped=bool(row.get("wasCropped")))
                    outputs = replace(outputs, crop=crop)
                case StageName.PROMPTING if (text := row.get("geminiPrompt")) is not None:
                    outputs = replace(outputs, prompt=Prompt.from_json(text, job=job, analysis=outputs.analysis))
        except (ValueError, TypeError, AttributeError):
            first, discarded = number, _COLUMNS[StageName(name)]
            break
    return Resumption(stages[first:], outputs, () if discarded is None else (discarded,))


_COLUMNS = {
    StageName.ANALYZING: "analysisResult",
    StageName.CROPPING: "cropDimensions",
    StageName.PROMPTING: "geminiPrompt",
}


def artifact_of(picture: Generated) -> Artifact:
    """Return what is written down of a stored picture before its job is completed."""
    return Artifact(
        input_hash=picture.input_hash,
        key=picture.key,
        sha256=picture.sha256,
        size_bytes=picture.size_bytes,
        width_px=picture.width_px,
        height_px=picture.height_px,
        model=picture.model,
        temperature=picture.temperature,
        treatments=picture.treatments,
    )


def generated_of(artifact: Artifact, url: str) -> Generated:
    """Rebuild a stored picture from what was written down, and the URL that its key has now."""
    return Generated(
        key=artifact.key,
        url=url,
        width_px=artifact.width_px,
        height_px=artifact.height_px,
        size_bytes=artifact.size_bytes,
        sha256=artifact.sha256,
        model=artifact.model,
        temperature=artifact.temperature,
        treatments=tuple(artifact.treatments),
        input_hash=artifact.input_hash,
    )


def columns_of(job_type: str, output: object) -> dict[str, Any]:
    """Return the values that a stage's output gives its job's own row, by column name.

    A stage that was switched off gives None, and None gives nothing.
    """
    match output:
        case Analysis():
            return {"analysisResult": output.to_json(), "analysisSource": output.source}
        case Crop():
            return {"wasCropped": output.was_cropped, "cropDimensions": output.to_json()}
        case Prompt():
            return {"geminiPrompt": output.text}
        case Generated():
            prefix, image = ("enhanced", "") if table_of(job_type) is ENHANCEMENTS else ("output", "Image")
            columns: dict[str, Any] = {
                f"{prefix}{image}Url": output.url,
                f"{prefix}{image}R2Key": output.key,
                f"{prefix}Width": output.width_px,
                f"{prefix}Height": output.height_px,
                f"{prefix}SizeBytes": output.size_bytes,
                "geminiModel": output.model,
            }
            return columns | ({"geminiTemp": output.temperature} if table_of(job_type) is ENHANCEMENTS else {})
        case _:
            return {}


def summary_of(output: object) -> dict[str, Any] | None:
    """Return what the history of stages keeps of an output beside the row's own columns: what was measured and done."""
    match output:
        case Analysis():
            return {"measures": output.measures} if output.measures else None
        case Generated():
            return output.to_json()
        case _:
            return None


def with_output(outputs: Outputs, output: object) -> Outputs:
    """Return the outputs with one more."""
    match output:
        case Analysis():
            return replace(outputs, analysis=output)
        case Crop():
            return replace(outputs, crop=output)
        case Prompt():
            return replace(outputs, prompt=output)
        case _:
            return outputs


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


def _prompt(inputs: JobInputs) -> str | None:
    if inputs.prompt is None:
        return None
    if not inputs.prompt.strip():
        raise InvalidOptionsError("the prompt is empty")
    if len(inputs.prompt) > MAX_PROMPT_CHARS:
        raise InvalidOptionsError(
            f"the prompt has {len(inputs.prompt):,} characters; the limit is {MAX_PROMPT_CHARS:,}"
        )
    return inputs.prompt


def aspect_of(text: str | None) -> float | None:
    """Read `W:H`, as `submit_generation` keeps it; None leaves it to the provider.

    Raises:
        InvalidOptionsError: it is no such text.
    """
    if text is None:
        return None
    width, _, height = text.partition(":")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise InvalidOptionsError(f"aspect {text[:20]!r} is no W:H, such as 16:9")
    return int(width) / int(height)


def _references(pipeline: Pipeline) -> Iterator[tuple[int, str]]:
    """Give number and key of each reference picture that has a key; JSON of another shape has none."""
    prompt_config: Any = pipeline.config.get("promptConfig")
    references = prompt_config.get("referenceImages") if isinstance(prompt_config, dict) else None
    for number, reference in enumerate(references if isinstance(references, list) else []):
        key = reference.get("r2Key") if isinstance(reference, dict) else None
        if isinstance(key, str):
            yield number, key


def _check_references(pipeline: Pipeline) -> None:
    for number, key in _references(pipeline):
        if pipeline.owner_id is None or not keys.is_users(key, pipeline.owner_id):
            raise NotYoursError(
                f"promptConfig.referenceImages[{number}].r2Key: {key} is not under its pipeline owner's prefix"
            )
