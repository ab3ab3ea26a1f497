"""Job tables of the application `pictures`: jobs that enhance or blend pictures, and jobs that follow a prompt."""

from collections.abc import Mapping
from typing import Any, Final

from config.pipeline_rules import CONFIGS
from models.job_state import JobStatus
from models.job_tables.inputs import JobInputs, Picture, Pipeline
from models.job_tables.table import Inputs, JobTable, StageColumn, Tokens

# The job's own pipeline comes before its album's. A pipeline with visibility LINK may be used by its owner and by
# users who showed its token when they submitted; on tables whose application checks share tokens itself, by everyone.
# Each row is looked up in a subquery, which OFFSET 0 keeps from being merged: a plan that is made while a table is
# empty would join it as a whole.
_ENHANCEMENT: Final = """
SELECT j.tier::text, j."analysisResult", j."analysisSource", j."wasCropped", j."cropDimensions", j."geminiPrompt",
       i.id AS image_id, i."originalR2Key" AS image_key, i."userId" = j."userId" OR i."isPublic" AS image_is_allowed,
       j."isBlend" AS is_blend,
       s.id AS source_id, s."originalR2Key" AS source_key, s."userId" = j."userId" OR s."isPublic" AS source_is_allowed,
       p.id AS pipeline_id, p."userId" AS pipeline_owner_id,
       p.visibility = 'PUBLIC' OR p."userId" IS NULL OR p."userId" = j."userId"
           OR p.visibility = 'LINK' AND (darkroom.link_pipelines() = 'trust' OR EXISTS (
               SELECT FROM darkroom.pipeline_links l WHERE l.job_id = j.id AND l.pipeline_id = p.id OFFSET 0))
           AS pipeline_is_allowed,
       p.visibility = 'LINK' AS pipeline_is_shared_by_link, j."pipelineId" IS NULL AS pipeline_is_albums,
       p."analysisConfig", p."autoCropConfig", p."promptConfig", p."generationConfig", q.payload ->> 'model' AS model,
       coalesce((q.payload ->> 'is_redone')::boolean, false) AS is_redone
FROM public.image_enhancement_jobs j
LEFT JOIN darkroom.job_queue q ON q.id = $2
CROSS JOIN LATERAL (SELECT i.* FROM public.enhanced_images i WHERE i.id = j."imageId" OFFSET 0) i
LEFT JOIN LATERAL (
    SELECT s.* FROM public.enhanced_images s WHERE j."isBlend" AND s.id = j."sourceImageId" OFFSET 0) s ON true
CROSS JOIN LATERAL (
    SELECT coalesce(j."pipelineId", (
        SELECT a.id FROM darkroom.album_pipelines(j."userId", j."imageId") a)) AS id OFFSET 0) used
LEFT JOIN LATERAL (SELECT p.* FROM public.enhancement_pipelines p WHERE p.id = used.id OFFSET 0) p ON true
WHERE j.id = $1
"""

_GENERATION: Final = """
SELECT j.tier::text, j.type = 'MODIFY' AS changes_input, j.prompt, j."inputImageR2Key", j."inputImageUrl",
       q.payload ->> 'aspect' AS aspect, q.payload ->> 'model' AS model,
       coalesce((q.payload ->> 'is_redone')::boolean, false) AS is_redone, k.fault AS api_key_fault
FROM public.mcp_generation_jobs j
CROSS JOIN LATERAL darkroom.api_key_fault(j."userId", j."apiKeyId") k
LEFT JOIN darkroom.job_queue q ON q.id = $2
WHERE j.id = $1
"""

_CHECKPOINTS: Final = {
    "ANALYZING": {"analysisResult": "result", "analysisSource": "source"},
    "CROPPING": {"cropDimensions": "box", "wasCropped": "was_cropped"},
    "PROMPTING": {"geminiPrompt": "text"},
}

_LOST_SOURCE: Final = "the blend's source is missing: its second picture is deleted"


def _load_enhancement(row: Mapping[str, Any]) -> JobInputs:
    pipeline = source = None
    if row["pipeline_id"] is not None:
        pipeline = Pipeline(
            row["pipeline_id"],
            row["pipeline_owner_id"],
            row["pipeline_is_allowed"],
            {name: row[name] for name in CONFIGS},
            is_shared_by_link=row["pipeline_is_shared_by_link"],
            is_albums=row["pipeline_is_albums"],
        )
    if row["source_id"] is not None:
        source = Picture(row["source_id"], row["source_key"], row["source_is_allowed"])
    return JobInputs(
        tier=row["tier"],
        picture=Picture(row["image_id"], row["image_key"], row["image_is_allowed"]),
        source=source,
        pipeline=pipeline,
        lost=_LOST_SOURCE if row["is_blend"] and source is None else None,
        checkpoints={name: row[name] for names in _CHECKPOINTS.values() for name in names},
        model=row["model"],
        is_redone=row["is_redone"],
    )


def _load_generation(row: Mapping[str, Any]) -> JobInputs:
    return JobInputs(
        tier=row["tier"],
        picture=None,
        source=None,
        pipeline=None,
        checkpoints={},
        prompt=row["prompt"],
        changes_input=row["changes_input"],
        input_key=row["inputImageR2Key"],
        input_url=row["inputImageUrl"],
        aspect=row["aspect"],
        model=row["model"],
        is_redone=row["is_redone"],
        api_key_fault=row["api_key_fault"],
    )


_ENTERING_ENHANCEMENTS: Final = """
IF settings -> 'models' ->> 'over_size' = 'refuse' THEN
    -- an operator who retries a job may name another model
    PERFORM darkroom.check_size(s.model, s.tier, false)
    FROM (SELECT DISTINCT n.tier::text AS tier, coalesce(nullif(current_setting('darkroom.model', true), ''),
                                                         p."generationConfig" ->> 'model') AS model
          FROM entering_rows n
          LEFT JOIN public.enhancement_pipelines p
              ON p.id = coalesce(n."pipelineId", darkroom.album_pipeline(n."userId", n."imageId"))
          WHERE n.status = 'PENDING') s;
END IF;
"""

_ENTERING_GENERATIONS: Final = """
PERFORM darkroom.check_size(current_setting('darkroom.model', true), s.tier, true)
FROM (SELECT DISTINCT n.tier::text AS tier FROM entering_rows n WHERE n.status = 'PENDING') s;
"""

# With the token of a pipeline with visibility LINK if the old job was allowed to use it
_ENHANCEMENT_AGAIN: Final = """
SELECT darkroom.submit_enhancement(j."userId", j."imageId", j.tier::text, j."pipelineId", j."sourceImageId", NULL, (
    SELECT to_jsonb(p) ->> 'shareToken' FROM public.enhancement_pipelines p
    WHERE p.id = j."pipelineId" AND p.visibility = 'LINK' AND (darkroom.link_pipelines() = 'trust' OR EXISTS (
        SELECT FROM darkroom.pipeline_links l WHERE l.job_id = j.id AND l.pipeline_id = p.id))))
FROM public.image_enhancement_jobs j WHERE j.id = $1
"""
_GENERATION_AGAIN: Final = """
SELECT darkroom.submit_generation(j."userId", j.type::text, j.tier::text, j.prompt, j."inputImageR2Key",
                                  j."inputImageUrl", j."apiKeyId")
FROM public.mcp_generation_jobs j WHERE j.id = $1
"""

_LABELS: Final = {status: status.value for status in JobStatus}

ENHANCEMENTS: Final = JobTable(
    name="public.image_enhancement_jobs",
    rows="enhancements",
    row="enhancement",
    job_types=("enhance", "blend"),
    user='r."userId"',
    job_type="""CASE WHEN r."isBlend" THEN 'blend' ELSE 'enhance' END""",
    tier="r.tier::text",
    cost='r."tokensCost"',
    max_attempts='darkroom.max_attempts(r."maxRetries")',
    created='r."createdAt"',
    first_stage="'ANALYZING'",
    labels=_LABELS,
    inputs=Inputs(_ENHANCEMENT, _load_enhancement),
    result={
        "enhancedUrl": "url",
        "enhancedR2Key": "key",
        "enhancedWidth": "width_px",
        "enhancedHeight": "height_px",
        "enhancedSizeBytes": "size_bytes",
        "geminiModel": "model",
        "geminiTemp": "temperature",
    },
    stage_column=StageColumn(
        '"currentStage"', 'public."PipelineStage"', ("ANALYZING", "CROPPING", "PROMPTING", "GENERATING")
    ),
    error_column='"errorMessage"',
    retries_column='"retryCount"',
    run_column='"workflowRunId"',
    started_column='"processingStartedAt"',
    completed_column='"processingCompletedAt"',
    updated_column='"updatedAt"',
    checkpoint_columns=_CHECKPOINTS,
    json_columns=frozenset({"analysisResult", "cropDimensions"}),
    pipeline_column='"pipelineId"',
    again=_ENHANCEMENT_AGAIN,
    kept_columns=('"isAnonymous"', '"maxRetries"'),
    frozen=("id", '"userId"', '"imageId"', "tier", '"tokensCost"', '"isBlend"'),
    names_refused_changes=False,
    ids_come_again=False,
    picture_ids=('"imageId"', '"sourceImageId"'),
    entering=_ENTERING_ENHANCEMENTS,
    fill_function="darkroom.fill_pipeline()",
    is_unpaid='r."isAnonymous"',
    money=Tokens("SPEND_ENHANCEMENT", "enhancement"),
    shown={"imageId": 'r."imageId"', "sourceImageId": 'r."sourceImageId"'},
    key_column='"enhancedR2Key"',
    object_columns=("enhancedUrl", "enhancedR2Key"),
)

GENERATIONS: Final = JobTable(
    name="public.mcp_generation_jobs",
    rows="generations",
    row="generation",
    job_types=("generate", "modify"),
    user='r."userId"',
    job_type="pg_catalog.lower(r.type::text)",
    tier="r.tier::text",
    cost='r."tokensCost"',
    max_attempts="darkroom.max_attempts(NULL)",
    created='r."createdAt"',
    first_stage="'GENERATING'",
    labels=_LABELS,
    inputs=Inputs(_GENERATION, _load_generation),
    result={
        "outputImageUrl": "url",
        "outputImageR2Key": "key",
        "outputWidth": "width_px",
        "outputHeight": "height_px",
        "outputSizeBytes": "size_bytes",
        "geminiModel": "model",
    },
    error_column='"errorMessage"',
    started_column='"processingStartedAt"',
    completed_column='"processingCompletedAt"',
    updated_column='"updatedAt"',
    frozen=("id", '"userId"', "type", "tier", '"tokensCost"'),
    names_refused_changes=False,
    ids_come_again=False,
    entering=_ENTERING_GENERATIONS,
    again=_GENERATION_AGAIN,
    money=Tokens("SPEND_MCP_GENERATION", "mcp_generation"),
    key_column='"outputImageR2Key"',
    object_columns=("inputImageUrl", "inputImageR2Key", "outputImageUrl", "outputImageR2Key"),
    input_columns=("inputImageUrl", "inputImageR2Key"),
)

TABLES: Final = (ENHANCEMENTS, GENERATIONS)
