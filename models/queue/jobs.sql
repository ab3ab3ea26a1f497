-- The job tables as one, for people and tools, and for whoever knows ids. The hot path never reads it.

-- Refuse to go on with a job of a type that no job table has: whatever followed would be a guess.
CREATE OR REPLACE FUNCTION darkroom.unknown_type(job_type text) RETURNS text
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'no job table has jobs of type %', coalesce(quote_literal(left(job_type, 60)), 'NULL')
        USING ERRCODE = '22023';
END $$;

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

-- Those of some ids, whichever table they are of: by its primary key, also where that is no text. Inlined, too.
CREATE OR REPLACE FUNCTION darkroom.jobs_of(ids text[])
RETURNS TABLE (id text, type text, "userId" text, tier text, "tokensCost" bigint, status text, "currentStage" text,
               "imageId" text, "sourceImageId" text, "pipelineId" text, url text, key text, width bigint, height bigint,
               "sizeBytes" bigint, "errorMessage" text, "retryCount" bigint, "geminiModel" text,
               "processingStartedAt" timestamp, "processingCompletedAt" timestamp, "createdAt" timestamp,
               "updatedAt" timestamp)
LANGUAGE sql STABLE AS $$
    --: each job table, UNION ALL between
    {{rows shown by id}}
    --: end
$$;

CREATE OR REPLACE VIEW darkroom.jobs AS SELECT j.* FROM darkroom.job_rows() j;
