-- Only the migrating role may call our functions unless another one is named (db upgrade --grant ROLE): new functions
-- are revoked from PUBLIC, and granted again to roles that had them (models/schema/migrations/grants.py).

-- Allow a role to submit, cancel, poll, refresh a balance, and read the entries of balances. It gets no other rights on
-- our tables, nor on functions that move tokens directly.
CREATE OR REPLACE FUNCTION darkroom.grant_to(role_name text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA darkroom TO %I', role_name);
    EXECUTE format('GRANT EXECUTE ON FUNCTION
        --: if a job table is of pictures
        darkroom.submit_enhancement(text, text, text, text, text, text, text, timestamptz),
        darkroom.submit_generation(text, text, text, text, text, text, text, text, timestamptz),
        darkroom.submit_album(text, text, text, text, boolean, text, timestamptz),
        darkroom.regenerate(text),
        darkroom.batch_progress(uuid),
        darkroom.cancel_batch(uuid),
        --: end
        darkroom.cancel_job(text),
        darkroom.job_status(text),
        darkroom.job_progress(text) TO %I', role_name);
    EXECUTE format('GRANT SELECT ON darkroom.token_entries TO %I', role_name);
END $$;

-- Allow a role to ask for the status and progress of a job or a batch whose id it has, and nothing else.
CREATE OR REPLACE FUNCTION darkroom.grant_read_to(role_name text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA darkroom TO %I', role_name);
    EXECUTE format('GRANT EXECUTE ON FUNCTION
        --: if a job table is of pictures
        darkroom.batch_progress(uuid),
        --: end
        darkroom.job_status(text), darkroom.job_progress(text) TO %I', role_name);
END $$;
