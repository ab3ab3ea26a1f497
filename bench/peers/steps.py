"""The row updates of one job, and how to reach the database. Raw asyncpg and all peers run the same statements."""

import os

STEPS = (
    """SET status = 'PROCESSING', "currentStage" = 'ANALYZING', "processingStartedAt" = darkroom.utc_now()""",
    """SET "currentStage" = 'CROPPING', "analysisResult" = '{"a": 1}'""",
    """SET "currentStage" = 'PROMPTING', "cropDimensions" = '{"x": 1}'""",
    """SET "currentStage" = 'GENERATING', "geminiPrompt" = 'x'""",
    """SET "enhancedR2Key" = 'x', "enhancedUrl" = 'x'""",
    """SET status = 'COMPLETED', "currentStage" = NULL, "processingCompletedAt" = darkroom.utc_now()""",
)
"""A claim, three checkpoints, the result and the completion, as they are written to the job's row."""

WITHOUT_STATES = (*STEPS[1:4], STEPS[4] + ', "processingCompletedAt" = darkroom.utc_now()')
"""The same for a system that keeps the job's status itself: three checkpoints and the result."""

GENERATION_STEPS = (
    """SET status = 'PROCESSING', "processingStartedAt" = darkroom.utc_now()""",
    """SET "outputImageR2Key" = 'x', "outputImageUrl" = 'x'""",
    """SET status = 'COMPLETED', "processingCompletedAt" = darkroom.utc_now()""",
)
"""A claim, the result and the completion of a job with one stage."""

IS_WITHOUT_TRIGGERS = {"session_replication_role": "replica"}
"""The settings of a session in which Darkroom's triggers don't fire. Only raw asyncpg and the peers use them."""


def statement(step: str, parameter: str = "$1", table: str = "image_enhancement_jobs") -> str:
    """Return the UPDATE of one job's row; `parameter` is how the driver writes the id."""
    return f"UPDATE public.{table} {step} WHERE id = {parameter}"


def database_url() -> str:
    return os.environ["DATABASE_URL"]


def redis_url() -> str:
    return os.environ["REDIS_URL"]
