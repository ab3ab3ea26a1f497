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
        darkroom.submit_enhancement(text, text, text, text, text, text, text),
        darkroom.submit_generation(text, text, text, text, text, text, text, text),
        darkroom.cancel_job(text),
        darkroom.job_status(text),
        darkroom.regenerate(text) TO %I', role_name);
END $$;

-- Allow a role to ask for the status of a job whose id it has, and nothing else.
CREATE OR REPLACE FUNCTION darkroom.grant_read_to(role_name text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA darkroom TO %I', role_name);
    EXECUTE format('GRANT EXECUTE ON FUNCTION darkroom.job_status(text) TO %I', role_name);
END $$;
