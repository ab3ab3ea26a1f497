-- Row-level security: a row that is hidden from Darkroom's role looks like a deleted one, so functions check that all
-- rows are shown before they treat a row as missing.

-- Return those of some tables that hide rows from a role, or keep it from writing some: row-level security applies to
-- the role there, and no policy lets it read, insert, update and delete all rows. Only a policy whose expression is
-- `true` counts, because any other depends on the row or on the session, and our functions run in every session.
CREATE OR REPLACE FUNCTION darkroom.hidden_tables(reader oid, tables oid[]) RETURNS SETOF oid
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
SELECT c.oid FROM pg_class c JOIN pg_roles r ON r.oid = reader
WHERE c.oid = ANY (tables) AND c.relrowsecurity AND NOT r.rolsuper AND NOT r.rolbypassrls
  AND (c.relforcerowsecurity OR NOT pg_has_role(reader, c.relowner, 'USAGE'))
  AND (EXISTS (SELECT FROM unnest('{r,a,w,d}'::"char"[]) command
               WHERE NOT EXISTS (
                   SELECT FROM pg_policy p
                   WHERE p.polrelid = c.oid AND p.polpermissive AND p.polcmd IN ('*', command)
                     AND (0 = ANY (p.polroles)
                          OR EXISTS (SELECT FROM unnest(p.polroles) m WHERE pg_has_role(reader, m, 'USAGE')))
                     AND (command = 'a' OR pg_get_expr(p.polqual, p.polrelid) = 'true')
                     AND (command IN ('r', 'd')
                          OR coalesce(pg_get_expr(p.polwithcheck, p.polrelid), pg_get_expr(p.polqual, p.polrelid)) = 'true')))
       OR EXISTS (SELECT FROM pg_policy p
                  WHERE p.polrelid = c.oid AND NOT p.polpermissive
                    AND (0 = ANY (p.polroles)
                         OR EXISTS (SELECT FROM unnest(p.polroles) m WHERE pg_has_role(reader, m, 'USAGE')))
                    AND 'true' <> ANY (ARRAY[coalesce(pg_get_expr(p.polqual, p.polrelid), 'true'),
                                             coalesce(pg_get_expr(p.polwithcheck, p.polrelid), 'true')])));
END;

-- Raise an error if rows are hidden from the role with whose rights our functions run. Nearly always this only reads
-- each table's entry in the catalog, which PostgreSQL keeps in memory.
CREATE OR REPLACE FUNCTION darkroom.require_rows_shown(tables oid[]) RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    asked oid;
    hidden oid;
BEGIN
    FOREACH asked IN ARRAY tables LOOP
        IF row_security_active(asked) THEN
            SELECT h INTO hidden FROM darkroom.hidden_tables(current_user::regrole, tables) h LIMIT 1;
            EXIT WHEN NOT FOUND;
            RAISE EXCEPTION 'row-level security hides rows of % from role %', hidden::regclass, current_user
                USING ERRCODE = '42501',
                      HINT = 'give the role BYPASSRLS, or a policy FOR ALL USING (true) WITH CHECK (true)';
        END IF;
    END LOOP;
END $$;

-- Return whether row-level security applies to the role with whose rights our functions run on a table of jobs or of
-- money: charging, refunding, adopting and ending jobs depend on these tables. PostgreSQL inlines this expression, for
-- which each producer asks.
CREATE OR REPLACE FUNCTION darkroom.may_hide_jobs() RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT pg_catalog.row_security_active('darkroom.settings'::pg_catalog.regclass)
        --: each job table
        OR pg_catalog.row_security_active('{{table}}'::pg_catalog.regclass)
        --: end
        --: each job table with a balance of its own
        OR pg_catalog.row_security_active('{{balances}}'::pg_catalog.regclass)
        --: end
        --: if a job table is of pictures
        OR pg_catalog.row_security_active('public.users'::pg_catalog.regclass)
        OR pg_catalog.row_security_active('public.user_token_balances'::pg_catalog.regclass)
        OR pg_catalog.row_security_active('public.token_transactions'::pg_catalog.regclass)
        --: end
        OR pg_catalog.row_security_active('darkroom.job_queue'::pg_catalog.regclass)
        OR pg_catalog.row_security_active('darkroom.job_money'::pg_catalog.regclass)
        OR pg_catalog.row_security_active('darkroom.opening_balances'::pg_catalog.regclass)
$$;

-- Raise an error if rows of jobs or of money are hidden from the role with whose rights our functions run: charging,
-- refunding, adopting and ending jobs depend on these tables.
CREATE OR REPLACE FUNCTION darkroom.require_jobs_shown() RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM darkroom.require_rows_shown(ARRAY[
        --: if a job table is of pictures
        'public.users'::regclass, 'public.user_token_balances'::regclass, 'public.token_transactions'::regclass,
        --: end
        --: each job table with a balance of its own
        '{{balances}}'::regclass,
        --: end
        {{all tables}},
        'darkroom.settings'::regclass, 'darkroom.job_queue'::regclass, 'darkroom.job_money'::regclass,
        'darkroom.opening_balances'::regclass]::oid[]);
END $$;
