-- Both job tables as one, for people and tools. The hot path never reads it.

CREATE OR REPLACE VIEW darkroom.jobs AS
SELECT j.id, CASE WHEN j."isBlend" THEN 'blend' ELSE 'enhance' END AS type, j."userId", j.tier, j."tokensCost",
       j.status, j."currentStage"::text AS "currentStage", j."imageId", j."sourceImageId", j."pipelineId",
       j."enhancedUrl" AS url, j."enhancedR2Key" AS key, j."enhancedWidth" AS width, j."enhancedHeight" AS height,
       j."enhancedSizeBytes" AS "sizeBytes", j."errorMessage", j."retryCount", j."geminiModel",
       j."processingStartedAt", j."processingCompletedAt", j."createdAt", j."updatedAt"
FROM public.image_enhancement_jobs j
UNION ALL
SELECT j.id, lower(j.type::text), j."userId", j.tier, j."tokensCost",
       j.status, NULL, NULL, NULL, NULL,
       j."outputImageUrl", j."outputImageR2Key", j."outputWidth", j."outputHeight",
       j."outputSizeBytes", j."errorMessage", NULL, j."geminiModel",
       j."processingStartedAt", j."processingCompletedAt", j."createdAt", j."updatedAt"
FROM public.mcp_generation_jobs j;
