-- Only the migrating role may call our functions unless another one is named (db upgrade --grant ROLE): new functions
-- are revoked from PUBLIC, and granted again to roles that had them (models/schema/migrations/grants.py).

-- Allow a role to submit, cancel, poll and refresh a balance. It gets no rights on our tables, nor on functions that
-- move tokens directly.
CREATE OR REPLACE FUNCTION darkroom.grant_to(role_name text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA darkroom TO %I', role_name);
    EXECUTE format('GRANT EXECUTE ON FUNCTION
        darkroom.submit_enhancement(text, text, text, text, text, text, text, timestamptz),
        darkroom.submit_generation(text, text, text, text, text, text, text, text, timestamptz),
        darkroom.submit_album(text, text, text, text, boolean, text, timestamptz),
        darkroom.cancel_job(text),
        darkroom.cancel_batch(uuid),
        darkroom.job_status(text),
        darkroom.job_progress(text),
        darkroom.batch_progress(uuid),
        darkroom.regenerate(text) TO %I', role_name);
END $$;

-- Allow a role to ask for the status and progress of a job or a batch whose id it has, and nothing else.
CREATE OR REPLACE FUNCTION darkroom.grant_read_to(role_name text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA darkroom TO %I', role_name);
    EXECUTE format('GRANT EXECUTE ON FUNCTION
        darkroom.job_status(text), darkroom.job_progress(text), darkroom.batch_progress(uuid) TO %I', role_name);
END $$;
