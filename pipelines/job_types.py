"""The job types: a name and its stages in order. One line each; a test finds a stage on disk that is in none."""

from dataclasses import dataclass

from pipelines.stage import Stage, StageName
from pipelines.stages.analyze import analyze
from pipelines.stages.crop import crop
from pipelines.stages.generate import generate
from pipelines.stages.prompt import prompt


@dataclass(frozen=True, slots=True)
class JobType:
    """A kind of job."""

    name: str
    stages: tuple[Stage, ...]


ANALYZE = Stage(StageName.ANALYZING, analyze)
CROP = Stage(StageName.CROPPING, crop)
PROMPT = Stage(StageName.PROMPTING, prompt)
GENERATE = Stage(StageName.GENERATING, generate)

JOB_TYPES = {
    job_type.name: job_type
    for job_type in (
        JobType("enhance", (ANALYZE, CROP, PROMPT, GENERATE)),
        JobType("blend", (ANALYZE, CROP, PROMPT, GENERATE)),
        JobType("generate", (GENERATE,)),
        JobType("modify", (GENERATE,)),
    )
}
"""By name, as `job_queue.job_type` has it."""
