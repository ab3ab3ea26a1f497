"""The two job tables, as far as the queue has to know how they differ."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class JobTable:
    """One of the application's job tables.

    `stage_column` and `retries_column` are None where the table has no such
    column: `job_queue` holds both facts for every job.
    """

    name: str
    job_types: tuple[str, ...]
    stage_column: str | None
    retries_column: str | None


ENHANCEMENTS = JobTable(
    name="public.image_enhancement_jobs",
    job_types=("enhance", "blend"),
    stage_column='"currentStage"',
    retries_column='"retryCount"',
)
GENERATIONS = JobTable(
    name="public.mcp_generation_jobs",
    job_types=("generate", "modify"),
    stage_column=None,
    retries_column=None,
)
JOB_TABLES = (ENHANCEMENTS, GENERATIONS)

_BY_TYPE = {job_type: table for table in JOB_TABLES for job_type in table.job_types}


def table_of(job_type: str) -> JobTable:
    """Return the table that holds the jobs of a type.

    Raises:
        KeyError: no table holds such jobs.
    """
    return _BY_TYPE[job_type]
