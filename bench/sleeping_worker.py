"""Entry point of a worker whose stages sleep for random times. It replaces workers.main."""

import asyncio
import random

import pipelines.job_types as registry
from bench.noop_worker import RESULT, a_prompt, no_crop
from pipelines.analysis import Analysis
from pipelines.job import Crop, Generated, PromptText
from pipelines.stage import Stage
from pipelines.stage_context import StageContext
from workers.process import worker

ANALYZE_S, GENERATE_S, DEVIATION = 0.3, 0.9, 0.4

_dice = random.Random()


async def analyze(_context: StageContext) -> None:
    await asyncio.sleep(ANALYZE_S * _dice.lognormvariate(-(DEVIATION**2) / 2, DEVIATION))


async def generate(context: StageContext) -> Generated:
    factor = 2 if context.job.tier == "TIER_4K" else 1
    await asyncio.sleep(factor * GENERATE_S * _dice.lognormvariate(-(DEVIATION**2) / 2, DEVIATION))
    return RESULT


STAGES = (
    Stage("ANALYZING", analyze, output=Analysis, deadline_s=120),
    Stage("CROPPING", no_crop, output=Crop, deadline_s=60),
    Stage("PROMPTING", a_prompt, output=PromptText, deadline_s=30),
    Stage("GENERATING", generate, output=Generated, deadline_s=420),
)


def main() -> None:
    for name, job_type in registry.JOB_TYPES.items():
        object.__setattr__(job_type, "stages", STAGES if name == "enhance" else STAGES[-1:])
    worker.main()
