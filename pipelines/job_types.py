"""The registry of stages and job types, one line each; a test finds stages that no job type uses."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from config.process_settings import ProcessSettings
from config.settings import SettingsError
from pipelines.analysis import Analysis
from pipelines.endpoint import EndpointAnswer
from pipelines.job import Crop, Generated, PromptText
from pipelines.prompts import Purpose
from pipelines.stage import Stage, StageFunction


@dataclass(frozen=True, slots=True)
class JobType:
    """A kind of job.

    Attributes:
        name: its name in rows of the queue, there with its application and a dot before it, but for `pictures`.
        stages: its stages in order, at least one.
        purpose: what its stages ask a provider to do, if one of them asks a provider.
    """

    name: str
    stages: tuple[Stage, ...]
    purpose: Purpose = Purpose.ENHANCE


ANALYZE: Final = Stage("ANALYZING", StageFunction("pipelines.stages.analyze:analyze"), output=Analysis, deadline_s=120)
CROP: Final = Stage("CROPPING", StageFunction("pipelines.stages.crop:crop"), output=Crop, deadline_s=60)
PROMPT: Final = Stage("PROMPTING", StageFunction("pipelines.stages.prompt:prompt"), output=PromptText, deadline_s=30)
GENERATE: Final = Stage(
    "GENERATING", StageFunction("pipelines.stages.generate:generate"), output=Generated, deadline_s=420
)
CALL: Final = Stage("CALLING", StageFunction("pipelines.stages.call:call"), output=EndpointAnswer, deadline_s=120)

JOB_TYPES = {
    job_type.name: job_type
    for job_type in (
        JobType("enhance", (ANALYZE, CROP, PROMPT, GENERATE)),
        JobType("blend", (ANALYZE, CROP, PROMPT, GENERATE), Purpose.BLEND),
        JobType("generate", (GENERATE,), Purpose.GENERATE),
        JobType("modify", (GENERATE,), Purpose.MODIFY),
        JobType("call", (CALL,)),
    )
}
"""The job types by name: of an application's type `APPLICATION.TYPE`, the part after the last dot."""


def job_type_of(name: str) -> JobType:
    """Return the job type of a name as in `job_queue.job_type`: `TYPE`, or `APPLICATION.TYPE`.

    Raises:
        KeyError: there is no such type.
    """
    return JOB_TYPES[name.rpartition(".")[2]]


def is_job_type(name: str) -> bool:
    """Return whether `job_type_of` knows a name."""
    return name.rpartition(".")[2] in JOB_TYPES


def import_stages() -> None:
    """Import the functions of all stages, so that the first job of a process doesn't wait for the imports."""
    for stage in (stage for job_type in JOB_TYPES.values() for stage in job_type.stages):
        if isinstance(stage.run, StageFunction):
            stage.run.imported()


def stage_names() -> tuple[str, ...]:
    """Return the names of all stages of all job types, each once."""
    return tuple(dict.fromkeys(stage.name for job_type in JOB_TYPES.values() for stage in job_type.stages))


def stage_deadlines(settings: ProcessSettings) -> Mapping[str, float]:
    """Return how long each stage may take, in seconds: as DARKROOM_STAGE_DEADLINES says, else the stage's default."""
    stages = [stage for job_type in JOB_TYPES.values() for stage in job_type.stages]
    return {stage.name: stage.deadline_of(settings.stage_deadlines) for stage in stages}


def require_known_stages(settings: ProcessSettings) -> None:
    """Check the names in DARKROOM_STAGE_DEADLINES and DARKROOM_STAGE_QUEUES: only this package knows the stages.

    Raises:
        SettingsError: a name isn't a stage's.
    """
    named = {"DARKROOM_STAGE_DEADLINES": settings.stage_deadlines, "DARKROOM_STAGE_QUEUES": settings.stage_queues or {}}
    for variable, by_name in named.items():
        for name in by_name:
            if name not in stage_names():
                known = ", ".join(stage_names())
                raise SettingsError(f"{variable}: {name[:60]!r} is unknown; known are {known}")
