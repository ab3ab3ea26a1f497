-- Cancel an unfinished job, refund it, and return the status that it has now. A job whose row the database refuses to
-- change is cancelled nevertheless: its row keeps the old label until the database accepts the new one. An id that stands in
-- two job tables is refused; TABLE/ID names one of them.
CREATE OR REPLACE FUNCTION darkroom.cancel_job(job_id text) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off AS $$
#variable_conflict use_variable
DECLARE
    of_type text;
    of_id text := job_id;
    number bigint;
    status_now text;
BEGIN
    SELECT count(*), min(j.type) INTO number, of_type FROM darkroom.jobs_of(ARRAY[job_id]) j;
    IF number <> 1 THEN  -- it may be a name, or it is an error
        SELECT n.type, n.id INTO of_type, of_id FROM darkroom.job_named(job_id) n;
    END IF;
    IF of_type IS NULL THEN
        RAISE EXCEPTION 'job % not found', job_id USING ERRCODE = 'P0002';
    END IF;
    BEGIN
        IF of_type IN ('enhance', 'blend') THEN
            UPDATE public.image_enhancement_jobs j SET status = 'CANCELLED'
            WHERE j.id = of_id
            RETURNING j.status::text INTO status_now;
        END IF;
        IF of_type IN ('generate', 'modify') THEN
            UPDATE public.mcp_generation_jobs j SET status = 'CANCELLED'
            WHERE j.id = of_id
            RETURNING j.status::text INTO status_now;
        END IF;
        IF status_now IS NULL AND NOT EXISTS (SELECT FROM darkroom.jobs_of(ARRAY[of_id]) j WHERE j.type = of_type) THEN
            RAISE EXCEPTION 'job % not found', job_id USING ERRCODE = 'P0002';
        ELSIF coalesce(status_now IN ('PENDING', 'PROCESSING'), true) THEN
            PERFORM darkroom.refuse_change(of_id, 'CANCELLED');
        END IF;
        RETURN status_now;
    EXCEPTION WHEN OTHERS OR assert_failure THEN
        -- the next function meets the lock of the other transaction too, and waits for it as this one did
        IF darkroom.is_contention(SQLSTATE) AND current_setting('transaction_isolation') <> 'read committed'
                OR NOT EXISTS (SELECT FROM darkroom.jobs_of(ARRAY[of_id]) j WHERE j.type = of_type) THEN
            RAISE;
        END IF;
        RETURN darkroom.cancel_refused(of_type, of_id, format('%s (SQLSTATE %s)', SQLERRM, SQLSTATE));
    END;
END $$;

-- Cancel a job whose row the database refuses to change.
CREATE OR REPLACE FUNCTION darkroom.cancel_refused(of_type text, of_id text, refusal text) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    job record;
    label text;
BEGIN
    -- the job's row is locked before its queue row, as everywhere
    IF of_type IN ('enhance', 'blend') THEN
        PERFORM 1 FROM public.image_enhancement_jobs j WHERE j.id = of_id FOR NO KEY UPDATE;
    END IF;
    IF of_type IN ('generate', 'modify') THEN
        PERFORM 1 FROM public.mcp_generation_jobs j WHERE j.id = of_id FOR NO KEY UPDATE;
    END IF;
    SELECT j.type, j."userId" AS user_id, j.status INTO job FROM darkroom.jobs_of(ARRAY[of_id]) j WHERE j.type = of_type;
    PERFORM 1 FROM darkroom.job_queue q WHERE q.job_type = of_type AND q.job_id = of_id FOR UPDATE;
    SELECT r.label INTO label FROM darkroom.refused_ends r WHERE r.job_type = of_type AND r.job_id = of_id;
    IF label IS NOT NULL OR job.status NOT IN ('PENDING', 'PROCESSING') THEN
        RETURN coalesce(label, job.status);  -- the job is over
    END IF;
    RETURN darkroom.end_refused(ROW(of_type, of_id, job.user_id, 'CANCELLED', NULL, 'cancelled')::darkroom.change,
                                'CANCELLED', refusal, true);
END $$;
