"""Doing a finished job once more: what of it a new job takes over."""

from collections.abc import Mapping
from typing import Any, Final

from models.connections import Connection
from models.job_tables.pictures import ENHANCEMENTS
from models.job_tables.registry import table_of
from models.job_tables.rendering import locked_row
from models.queue.job_rows import Job
from models.queue.submission import Enhancement, Generation, submit_enhancement, submit_generation

# what a producer said of the job beside what submitting takes: whose budget it is, and how often it is tried
_KEEP: Final = """
WITH kept AS (
    UPDATE public.image_enhancement_jobs n SET "isAnonymous" = o."isAnonymous", "maxRetries" = o."maxRetries"
    FROM public.image_enhancement_jobs o WHERE n.id = $1 AND o.id = $2 RETURNING n.id, n."maxRetries")
UPDATE darkroom.job_queue q SET max_attempts = darkroom.max_attempts(kept."maxRetries")
FROM kept WHERE q.job_id = kept.id
"""
# the token of a pipeline shared by link, where the old job was allowed to use it
_SHARED_BY: Final = """
SELECT to_jsonb(p) ->> 'shareToken' FROM public.enhancement_pipelines p
WHERE p.id = $2 AND p.visibility = 'LINK' AND (darkroom.link_pipelines() = 'trust' OR EXISTS (
    SELECT FROM darkroom.pipeline_links l WHERE l.job_id = $1 AND l.pipeline_id = p.id))
"""
_SET_MODEL: Final = "SELECT set_config('darkroom.model', $1, true)"
_QUEUE: Final = """
UPDATE darkroom.job_queue q SET stage = coalesce($2, q.stage), payload = q.payload || $3::jsonb WHERE q.job_id = $1
"""


async def lock_job(connection: Connection, job: Job) -> None:
    """Lock a job's row until the caller's transaction ends, so that two operators don't retry it at the same time."""
    await connection.execute(locked_row(table_of(job.job_type)), job.id)


async def submit_again(connection: Connection, old: Job, model: str) -> str:
    """Submit a job like an old one, in the caller's transaction; return the new job's id.

    Args:
        connection: in a transaction.
        old: the job that is over.
        model: of the generation, empty for the pipeline's own: a pipeline whose model can't be asked any more is no
            reason to refuse a job that names another.

    Raises:
        asyncpg.PostgresError: as `workers.operations.errors` translates it.
    """
    await connection.execute(_SET_MODEL, model)
    columns = old.columns
    if table_of(old.job_type) is not ENHANCEMENTS:
        return await submit_generation(
            connection,
            Generation(
                user_id=columns["userId"],
                job_type=columns["type"],
                tier=columns["tier"],
                prompt=columns["prompt"],
                input_key=columns["inputImageR2Key"],
                input_url=columns["inputImageUrl"],
                api_key_id=columns["apiKeyId"],
            ),
        )
    new_id = await submit_enhancement(
        connection,
        Enhancement(
            user_id=columns["userId"],
            image_id=columns["imageId"],
            tier=columns["tier"],
            pipeline_id=columns["pipelineId"],
            source_image_id=columns["sourceImageId"],
            pipeline_token=await connection.fetchval(_SHARED_BY, old.id, columns["pipelineId"]),
        ),
    )
    await connection.execute(_KEEP, new_id, old.id)
    return new_id


async def begin_at(connection: Connection, new_id: str, stage: str | None, payload: Mapping[str, Any]) -> None:
    """Have a queued job begin at a stage, if one is named, and add to its payload."""
    await connection.execute(_QUEUE, new_id, stage, payload)
