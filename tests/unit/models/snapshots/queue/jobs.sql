-- Both job tables as one, for people and tools. The hot path never reads it.

-- Those of some statuses, or all. Inlined into whatever asks, so that its conditions reach the indexes; a status is asked
-- for by the argument, because the column is text here. Whoever reads the tables' rows this way has the rights to do so.
CREATE OR REPLACE FUNCTION darkroom.job_rows(statuses text[] DEFAULT NULL)
RETURNS TABLE (id text, type text, "userId" text, tier text, "tokensCost" bigint, status text, "currentStage" text,
               "imageId" text, "sourceImageId" text, "pipelineId" text, url text, key text, width bigint, height bigint,
               "sizeBytes" bigint, "errorMessage" text, "retryCount" bigint, "geminiModel" text,
               "processingStartedAt" timestamp, "processingCompletedAt" timestamp, "createdAt" timestamp,
               "updatedAt" timestamp)
LANGUAGE sql STABLE AS $$
    SELECT j.id::text, CASE WHEN j."isBlend" THEN 'blend' ELSE 'enhance' END, j."userId"::text, j.tier::text,
           j."tokensCost"::bigint, j.status::text, j."currentStage"::text, j."imageId"::text,
           j."sourceImageId"::text, j."pipelineId"::text, j."enhancedUrl"::text, j."enhancedR2Key"::text,
           j."enhancedWidth"::bigint, j."enhancedHeight"::bigint, j."enhancedSizeBytes"::bigint,
           j."errorMessage"::text, j."retryCount"::bigint, j."geminiModel"::text,
           j."processingStartedAt"::timestamp, j."processingCompletedAt"::timestamp, j."createdAt"::timestamp,
           j."updatedAt"::timestamp
    FROM public.image_enhancement_jobs j
    WHERE statuses IS NULL OR j.status OPERATOR(pg_catalog.=) ANY (statuses::public."JobStatus"[])
    UNION ALL
    SELECT j.id::text, pg_catalog.lower(j.type::text), j."userId"::text, j.tier::text, j."tokensCost"::bigint,
           j.status::text, NULL, NULL, NULL, NULL, j."outputImageUrl"::text, j."outputImageR2Key"::text,
           j."outputWidth"::bigint, j."outputHeight"::bigint, j."outputSizeBytes"::bigint,
           j."errorMessage"::text, NULL, j."geminiModel"::text, j."processingStartedAt"::timestamp,
           j."processingCompletedAt"::timestamp, j."createdAt"::timestamp, j."updatedAt"::timestamp
    FROM public.mcp_generation_jobs j
    WHERE statuses IS NULL OR j.status OPERATOR(pg_catalog.=) ANY (statuses::public."JobStatus"[])
$$;

CREATE OR REPLACE VIEW darkroom.jobs AS SELECT j.* FROM darkroom.job_rows() j;
