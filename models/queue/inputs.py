"""What a claimed job is to work on, and what its finished stages left: read from the application's rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.connections import Connection
from models.job_tables import ENHANCEMENTS, table_of
from models.queue.claims import Claim, FencedError


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture's row: its object's key, and whether the job's user may use it (theirs, or public)."""

    id: str
    key: str
    is_allowed: bool


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The pipeline that counts for a job.

    `config` has the four JSON columns by name. `is_albums` when the job's row
    names none and its album does.
    """

    id: str
    owner_id: str | None
    is_allowed: bool
    config: Mapping[str, Any]
    is_shared_by_link: bool = False
    is_albums: bool = False


@dataclass(frozen=True, slots=True)
class JobInputs:
    """The rows behind one job.

    `picture` is None for jobs without a picture row, `source` for those that
    blend nothing or whose source picture was deleted. `checkpoints` holds the
    job's own columns that finished stages, or another program, wrote; `aspect` (`W:H`), `model` and
    `is_redone` (a completed job once more) are what the queue keeps for a job beside its row.
    `api_key_fault` says why the API key that the row names can't be its user's to use.
    """

    tier: str
    picture: Picture | None
    source: Picture | None
    pipeline: Pipeline | None
    checkpoints: Mapping[str, Any]
    prompt: str | None = None
    input_key: str | None = None
    input_url: str | None = None
    aspect: str | None = None
    model: str | None = None
    is_redone: bool = False
    api_key_fault: str | None = None


# A job's own pipeline comes first, then its album's. One that is shared by link is its owner's, and whoever's showed
# its token at submit; on tables whose application checks tokens by itself, everyone's.
_ENHANCEMENT = """
SELECT j.tier::text, j."analysisResult", j."analysisSource", j."wasCropped", j."cropDimensions", j."geminiPrompt",
       i.id AS image_id, i."originalR2Key" AS image_key, i."userId" = j."userId" OR i."isPublic" AS image_is_allowed,
       s.id AS source_id, s."originalR2Key" AS source_key, s."userId" = j."userId" OR s."isPublic" AS source_is_allowed,
       p.id AS pipeline_id, p."userId" AS pipeline_owner_id,
       p.visibility = 'PUBLIC' OR p."userId" IS NULL OR p."userId" = j."userId"
           OR p.visibility = 'LINK' AND (darkroom.link_pipelines() = 'trust' OR EXISTS (
               SELECT FROM darkroom.pipeline_links l WHERE l.job_id = j.id AND l.pipeline_id = p.id))
           AS pipeline_is_allowed,
       p.visibility = 'LINK' AS pipeline_is_shared_by_link, j."pipelineId" IS NULL AS pipeline_is_albums,
       p."analysisConfig", p."autoCropConfig", p."promptConfig", p."generationConfig", q.payload ->> 'model' AS model,
       coalesce((q.payload ->> 'is_redone')::boolean, false) AS is_redone
FROM public.image_enhancement_jobs j
LEFT JOIN darkroom.job_queue q ON q.id = $2
JOIN public.enhanced_images i ON i.id = j."imageId"
LEFT JOIN public.enhanced_images s ON s.id = j."sourceImageId"
LEFT JOIN public.enhancement_pipelines p
    ON p.id = coalesce(j."pipelineId", darkroom.album_pipeline(j."userId", j."imageId"))
WHERE j.id = $1
"""

_GENERATION = """
SELECT j.tier::text, j.prompt, j."inputImageR2Key", j."inputImageUrl", q.payload ->> 'aspect' AS aspect,
       q.payload ->> 'model' AS model,
       coalesce((q.payload ->> 'is_redone')::boolean, false) AS is_redone, k.fault AS api_key_fault
FROM public.mcp_generation_jobs j
CROSS JOIN LATERAL darkroom.api_key_fault(j."userId", j."apiKeyId") k
LEFT JOIN darkroom.job_queue q ON q.id = $2
WHERE j.id = $1
"""

# locked as every write of a claim: the job's row, then its queue row, which is the fence
_RECORD_PIPELINE = """
WITH job AS MATERIALIZED (
        SELECT j.id FROM public.image_enhancement_jobs j WHERE j.id = $1 FOR NO KEY UPDATE),
    held AS MATERIALIZED (
        SELECT q.job_id FROM darkroom.job_queue q JOIN job ON job.id = q.job_id
        WHERE q.id = $2 AND q.lease_token = $3 FOR UPDATE OF q)
UPDATE public.image_enhancement_jobs j
SET "pipelineId" = coalesce(j."pipelineId", $4), "updatedAt" = darkroom.utc_now()
FROM held WHERE j.id = held.job_id RETURNING j.id
"""

_CONFIGS = ("analysisConfig", "autoCropConfig", "promptConfig", "generationConfig")
_CHECKPOINTS = ("analysisResult", "analysisSource", "wasCropped", "cropDimensions", "geminiPrompt")


USERS_OF = "SELECT u.id FROM public.users u WHERE u.id = ANY ($1::text[])"
"""Which of some ids are users'."""


async def load_inputs(connection: Connection, claim: Claim) -> JobInputs | None:
    """Read a job's inputs and checkpoints; None if its row is gone."""
    is_enhancement = table_of(claim.job_type) is ENHANCEMENTS
    row = await connection.fetchrow(_ENHANCEMENT if is_enhancement else _GENERATION, claim.job_id, claim.id)
    if row is None:
        return None
    if not is_enhancement:
        return JobInputs(
            tier=row["tier"],
            picture=None,
            source=None,
            pipeline=None,
            checkpoints={},
            prompt=row["prompt"],
            input_key=row["inputImageR2Key"],
            input_url=row["inputImageUrl"],
            aspect=row["aspect"],
            model=row["model"],
            is_redone=row["is_redone"],
            api_key_fault=row["api_key_fault"],
        )
    pipeline = None
    if row["pipeline_id"] is not None:
        config = {name: row[name] for name in _CONFIGS}
        pipeline = Pipeline(
            row["pipeline_id"],
            row["pipeline_owner_id"],
            row["pipeline_is_allowed"],
            config,
            is_shared_by_link=row["pipeline_is_shared_by_link"],
            is_albums=row["pipeline_is_albums"],
        )
    source = None
    if row["source_id"] is not None:
        source = Picture(row["source_id"], row["source_key"], row["source_is_allowed"])
    return JobInputs(
        tier=row["tier"],
        picture=Picture(row["image_id"], row["image_key"], row["image_is_allowed"]),
        source=source,
        pipeline=pipeline,
        checkpoints={name: row[name] for name in _CHECKPOINTS},
        model=row["model"],
        is_redone=row["is_redone"],
    )


async def record_pipeline(connection: Connection, claim: Claim, pipeline_id: str) -> None:
    """Write the pipeline that treats a job into its row, which named none: the album's may change. Repeatable.

    Raises:
        FencedError: another holds the job, or it is over; nothing was written.
    """
    row = await connection.fetchrow(_RECORD_PIPELINE, claim.job_id, claim.id, claim.lease_token, pipeline_id)
    if row is None:
        raise FencedError(f"{claim.job_type} job {claim.job_id} is no longer held by this claim")
