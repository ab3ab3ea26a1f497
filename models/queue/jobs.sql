-- All job tables as one, for people, for tools, and for lookups by id. Claims and transitions don't use it.

-- Raise an error for a job of a type that no job table has.
CREATE OR REPLACE FUNCTION darkroom.unknown_type(job_type text) RETURNS text
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'no job table has jobs of type %', coalesce(quote_literal(left(job_type, 60)), 'NULL')
        USING ERRCODE = '22023';
END $$;

-- Return the jobs of all job tables: those with some statuses, or all. Inlined into the calling query, so that its
-- conditions reach the indexes; the status is a parameter, because the column is text here. A caller needs rights on
-- the job tables.
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

-- Return the jobs with given ids from all job tables, by their primary keys, even where those aren't text. Inlined too.
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

-- Every job of every job table, for people and tools. Times are UTC, without a zone.
CREATE OR REPLACE VIEW darkroom.jobs AS SELECT j.* FROM darkroom.job_rows() j;

-- Return what a program that polls may know of a job whose id or name it has: nothing about its user, its pictures, its
-- prompt or its pipeline, and nothing about other jobs. No row means that there is no such job. If the database refused to
-- write the job's end into its row, the job is shown with its real status, not with the row's old one. An id that stands in
-- two job tables is refused.
CREATE OR REPLACE FUNCTION darkroom.job_status(job_id text)
RETURNS TABLE (id text, type text, status text, stage text, tier text, charged integer, refunded integer, error text,
               key text, url text, width bigint, height bigint, size_bytes bigint, created_at timestamptz,
               started_at timestamptz, completed_at timestamptz, updated_at timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    of_type text;
    of_id text := job_status.job_id;
    number bigint;
BEGIN
    PERFORM darkroom.require_jobs_shown(); -- a hidden job must not be reported as unknown
    LOOP
        RETURN QUERY
        SELECT j.id, j.type, coalesce(e.label, j.status), CASE WHEN e.label IS NULL THEN j."currentStage" END, j.tier,
               coalesce(c.amount, 0), coalesce(p.amount, 0), j."errorMessage", j.key, j.url, j.width, j.height,
               j."sizeBytes", j."createdAt" AT TIME ZONE 'utc', j."processingStartedAt" AT TIME ZONE 'utc',
               j."processingCompletedAt" AT TIME ZONE 'utc', j."updatedAt" AT TIME ZONE 'utc'
        FROM darkroom.jobs_of(ARRAY[of_id]) j
        LEFT JOIN darkroom.refused_ends e ON e.job_type = j.type AND e.job_id = j.id
        LEFT JOIN darkroom.job_money c ON c.job_type = j.type AND c.job_id = j.id AND c.kind = 'charge'
        LEFT JOIN darkroom.job_money p ON p.job_type = j.type AND p.job_id = j.id AND p.kind = 'refund'
        WHERE of_type IS NULL OR j.type = of_type;
        GET DIAGNOSTICS number = ROW_COUNT;
        EXIT WHEN number = 1 OR of_type IS NOT NULL;
        -- no job has this id, so it may be a name; or several have it, which is an error
        SELECT n.type, n.id INTO of_type, of_id FROM darkroom.job_named(job_status.job_id) n;
        EXIT WHEN of_type IS NULL;
    END LOOP;
END $$;
