-- Nobody but the migrating role calls our functions unless it is told to (db upgrade --grant ROLE): what is made anew is
-- taken from PUBLIC, and given again to whoever had it (models/schema/migrations/grants.py).

-- Let a role submit, cancel, poll and refresh a balance. It gets no rights on our tables, and none on what moves money
-- by anyone's choice.
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

-- Let a role ask what has become of a job whose id it has, and nothing else.
CREATE OR REPLACE FUNCTION darkroom.grant_read_to(role_name text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA darkroom TO %I', role_name);
    EXECUTE format('GRANT EXECUTE ON FUNCTION darkroom.job_status(text) TO %I', role_name);
END $$;
