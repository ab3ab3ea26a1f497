"""A worker whose stages do nothing: what is left is the queue. An entry point for dramatiq, like workers.main."""

import pipelines.job_types as registry
from pipelines.job import Crop, Generated, Prompt
from pipelines.prompts import ALL_CORRECTIONS
from pipelines.stage import Stage, StageContext, StageName
from workers.process import worker

RESULT = Generated("bench/none", "https://example.test/none", 1, 1, 1, "0" * 64, "none")


async def nothing(_context: StageContext) -> None:
    return None


async def no_crop(_context: StageContext) -> Crop:
    return Crop(was_cropped=False)


async def a_prompt(_context: StageContext) -> Prompt:
    return Prompt("a prompt of the usual length, as it is written to the row" * 5, ALL_CORRECTIONS)


async def a_result(_context: StageContext) -> Generated:
    return RESULT


STAGES = (
    Stage(StageName.ANALYZING, nothing),
    Stage(StageName.CROPPING, no_crop),
    Stage(StageName.PROMPTING, a_prompt),
    Stage(StageName.GENERATING, a_result),
)


def main() -> None:
    for job_type in registry.JOB_TYPES.values():
        object.__setattr__(job_type, "stages", STAGES)
    worker.main()
