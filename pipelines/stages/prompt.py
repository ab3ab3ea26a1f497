"""Stage PROMPTING: build the text for the provider."""

from pipelines.analysis import Analysis
from pipelines.job import PromptText
from pipelines.prompts import prompt_text
from pipelines.stage_context import StageContext


async def prompt(context: StageContext) -> PromptText:
    """Return the text that follows from the analysis and the pipeline."""
    job = context.job
    return PromptText(prompt_text(job.purpose, context.output(Analysis), job.options, job.prompt))
