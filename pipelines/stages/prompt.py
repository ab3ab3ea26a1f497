"""PROMPTING: say what is asked of the provider."""

from pipelines.job import Prompt
from pipelines.prompts import corrections, prompt_text
from pipelines.stage import StageContext


async def prompt(context: StageContext) -> Prompt:
    """Return the prompt that follows from analysis and pipeline."""
    job, analysis = context.job, context.outputs.analysis
    text = prompt_text(job.purpose, analysis, job.options, job.prompt)
    return Prompt.of_job(text, corrections(analysis, job.options.prompt), job)
