"""Entry point of a worker whose stages do nothing, so that only the queue is measured. It replaces workers.main."""

import pipelines.job_types as registry
from pipelines.analysis import Analysis
from pipelines.job import Crop, Generated, PromptText
from pipelines.stage import Stage
from pipelines.stage_context import StageContext
from workers.process import worker

RESULT = Generated("bench/none", "https://example.test/none", 1, 1, 1, "0" * 64, "none")


async def nothing(_context: StageContext) -> None:
    return None


async def no_crop(_context: StageContext) -> Crop:
    return Crop(was_cropped=False)


async def a_prompt(_context: StageContext) -> PromptText:
    return PromptText("a prompt of the usual length, as it is written to the row" * 5)


async def a_result(_context: StageContext) -> Generated:
    return RESULT


STAGES = (
    Stage("ANALYZING", nothing, output=Analysis, deadline_s=120),
    Stage("CROPPING", no_crop, output=Crop, deadline_s=60),
    Stage("PROMPTING", a_prompt, output=PromptText, deadline_s=30),
    Stage("GENERATING", a_result, output=Generated, deadline_s=420),
)


def main() -> None:
    for job_type in registry.JOB_TYPES.values():
        object.__setattr__(job_type, "stages", STAGES)
    worker.main()
