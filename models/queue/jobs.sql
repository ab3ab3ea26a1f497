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
    --: each job table, UNION ALL between
    {{shown row}}
    --: end
$$;

CREATE OR REPLACE VIEW darkroom.jobs AS SELECT j.* FROM darkroom.job_rows() j;
