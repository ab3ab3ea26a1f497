"""Submission of jobs through the SQL functions that producers in any language call, and of the pictures they use."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from models.connections import Connection

_INSERT_PICTURE: Final = """
INSERT INTO public.enhanced_images
    (id, "userId", name, "originalUrl", "originalR2Key", "originalWidth", "originalHeight", "originalSizeBytes",
     "originalFormat", "createdAt", "updatedAt")
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, darkroom.utc_now(), darkroom.utc_now())
"""
_DELETE_PICTURE: Final = 'DELETE FROM public.enhanced_images i WHERE i.id = $1 RETURNING i."originalR2Key"'
_ORIGINAL_KEY: Final = 'SELECT i."originalR2Key" FROM public.enhanced_images i WHERE i.id = $1'
BEGINS: Final = """
WITH begins AS MATERIALIZED (
    SELECT coalesce({at}, now() + make_interval(secs => extract(epoch FROM {after}::interval)::float8)) AS at,
           set_config('darkroom.run_after', coalesce(extract(epoch FROM {after}::interval)::text, ''), true))
"""
"""The time to begin of a submission that follows in the same statement, of a time and a duration, one of which is NULL.

A submission with an idempotency key is repeated with the same duration, which gives another time then. So the duration
is compared with that of the first submission.
"""

_SUBMIT_ENHANCEMENT: Final = f"""
{BEGINS.format(at="$8::timestamptz", after="$9")}
SELECT darkroom.submit_enhancement($1, $2, $3, $4, $5, $6, $7, b.at) FROM begins b
"""
_SUBMIT_GENERATION: Final = f"""
{BEGINS.format(at="$9::timestamptz", after="$10")}
SELECT darkroom.submit_generation($1, $2, $3, $4, $5, $6, $7, $8, b.at) FROM begins b
"""
_SET_ASPECT: Final = """
UPDATE darkroom.job_queue q SET payload = q.payload || jsonb_build_object('aspect', $2::text)
WHERE q.job_id = $1 AND q.job_type = 'generate'
"""
# Only the transaction that inserted the submission's row writes the aspect; later submissions with the key read it.
_FIRST_ASPECT: Final = """
UPDATE darkroom.submissions s
SET arguments = CASE WHEN s.created_at = now() THEN s.arguments || jsonb_build_object('aspect', $3::text)
                     ELSE s.arguments END
WHERE s.user_id = $1 AND s.idempotency_key = $2 AND s.arguments IS NOT NULL
RETURNING coalesce(s.arguments ->> 'aspect', '')
"""


@dataclass(frozen=True, slots=True)
class PictureRow:
    """A picture whose object is stored, and whose row is to be inserted."""

    id: str
    user_id: str
    name: str
    url: str
    key: str
    width_px: int
    height_px: int
    size_bytes: int
    format: str


@dataclass(frozen=True, slots=True)
class Enhancement:
    """A job that enhances a stored picture.

    Attributes:
        user_id: the user who pays.
        image_id: the picture.
        tier: a label of `EnhancementTier`; None for the pipeline's, else the album's default, else TIER_1K.
        pipeline_id: the pipeline to use; None for that of the picture's album.
        source_image_id: a second picture to blend in.
        idempotency_key: submitting again with the same key returns the same job.
        pipeline_token: the share token of a pipeline with visibility LINK.
        run_at: the job doesn't begin before this time, or this duration after its submission; None for at once.
    """

    user_id: str
    image_id: str
    tier: str | None
    pipeline_id: str | None = None
    source_image_id: str | None = None
    idempotency_key: str | None = None
    pipeline_token: str | None = None
    run_at: datetime | timedelta | None = None


@dataclass(frozen=True, slots=True)
class Generation:
    """A job that makes or changes a picture according to a prompt.

    Attributes:
        user_id: the user who pays.
        job_type: GENERATE, or MODIFY with an input.
        tier: a label of `EnhancementTier`.
        prompt: what to make.
        input_key: key of the object to change.
        input_url: URL to fetch the picture from instead.
        api_key_id: the user's API key of the application, for the application's own accounting.
        idempotency_key: submitting again with the same key returns the same job.
        aspect: `W:H` of a picture made from words; the queue keeps it, because the job's row has no column for it.
        run_at: the job doesn't begin before this time, or this duration after its submission; None for at once.
    """

    user_id: str
    job_type: str
    tier: str
    prompt: str
    input_key: str | None = None
    input_url: str | None = None
    api_key_id: str | None = None
    idempotency_key: str | None = None
    aspect: str | None = None
    run_at: datetime | timedelta | None = None


async def insert_picture(connection: Connection, picture: PictureRow) -> None:
    """Insert the row of a picture whose object is stored.

    Raises:
        asyncpg.ForeignKeyViolationError: the user doesn't exist.
    """
    await connection.execute(
        _INSERT_PICTURE,
        *(picture.id, picture.user_id, picture.name, picture.url, picture.key),
        *(picture.width_px, picture.height_px, picture.size_bytes, picture.format),
    )


async def delete_picture(connection: Connection, image_id: str) -> str | None:
    """Delete a picture's row, and with it its jobs. Return its object's key; None if there was no such row."""
    key: str | None = await connection.fetchval(_DELETE_PICTURE, image_id)
    return key


async def original_key(connection: Connection, image_id: str) -> str | None:
    """Return the key of a picture's object; None if there is no such picture."""
    key: str | None = await connection.fetchval(_ORIGINAL_KEY, image_id)
    return key


async def submit_enhancement(connection: Connection, job: Enhancement) -> str:
    """Submit a job for a picture; return the job's id. A second call with the same idempotency key returns the same id.

    Raises:
        asyncpg.PostgresError: the submission is refused; `workers.operations.errors` translates it.
    """
    job_id: str = await connection.fetchval(
        _SUBMIT_ENHANCEMENT,
        *(job.user_id, job.image_id, job.tier, job.pipeline_id, job.source_image_id),
        *(job.idempotency_key, job.pipeline_token),
        *time_parameters(job.run_at),
    )
    return job_id


async def submit_generation(connection: Connection, job: Generation) -> str:
    """Submit a job that makes or changes a picture by a prompt; return its id. `set_aspect` stores its aspect.

    Raises:
        asyncpg.PostgresError: the submission is refused; `workers.operations.errors` translates it.
    """
    job_id: str = await connection.fetchval(
        _SUBMIT_GENERATION,
        *(job.user_id, job.job_type, job.tier, job.prompt, job.input_key, job.input_url, job.api_key_id),
        job.idempotency_key,
        *time_parameters(job.run_at),
    )
    return job_id


async def first_aspect(connection: Connection, job: Generation) -> str | None:
    """Return the aspect of the first submission with a job's idempotency key, which may be the caller's own submission.

    The result is empty if that submission named no aspect; None if the job has no key, or was submitted before aspects
    were recorded.
    """
    if job.idempotency_key is None:
        return None
    first: str | None = await connection.fetchval(_FIRST_ASPECT, job.user_id, job.idempotency_key, job.aspect)
    return first


async def set_aspect(connection: Connection, job_id: str, aspect: str) -> None:
    """Store the aspect of a picture made from words in the queue row, because the job's row has no column for it."""
    await connection.execute(_SET_ASPECT, job_id, aspect)


def time_parameters(run_at: datetime | timedelta | None) -> tuple[datetime | None, timedelta | None]:
    """Return the two parameters of BEGINS: a time, and a duration."""
    return (None, run_at) if isinstance(run_at, timedelta) else (run_at, None)
