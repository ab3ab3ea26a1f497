-- The rules of studio's generations, which its triggers ask (models/applications/studio/job_table.py), and what goes with
-- a deleted generation.

-- Raise an error for the first of some rows whose parameters say no size or number of pictures, or that has another price
-- than theirs. Other keys are checked by the worker that claims the job. A JSON number may be written 2.0 or 2.
CREATE OR REPLACE FUNCTION darkroom.studio_check_parameters(parameters jsonb[], tokens integer[], settings jsonb)
RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    is_charged boolean := coalesce(settings ->> 'mode', 'managed') = 'managed';
    prices jsonb := coalesce(settings -> 'prices', {{prices}});
    size jsonb;
    number jsonb;
    price integer;
    wrong record;
BEGIN
    SELECT r.parameters, r.tokens INTO wrong
    FROM unnest(parameters, tokens) WITH ORDINALITY r (parameters, tokens, place)
    WHERE CASE
        WHEN jsonb_typeof(r.parameters) <> 'object' THEN true
        WHEN coalesce(r.parameters -> 'size', '"1K"') NOT IN ('"1K"', '"2K"', '"4K"') THEN true
        WHEN coalesce(r.parameters -> 'count', '1') NOT IN ('1', '2', '3', '4') THEN true
        WHEN NOT is_charged THEN false
        ELSE r.tokens IS DISTINCT FROM coalesce(r.parameters ->> 'count', '1')::numeric::integer
            * (prices ->> ('TIER_' || coalesce(r.parameters ->> 'size', '1K')))::integer END
    ORDER BY r.place LIMIT 1;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    size := coalesce(wrong.parameters -> 'size', '"1K"');
    number := coalesce(wrong.parameters -> 'count', '1');
    IF jsonb_typeof(wrong.parameters) <> 'object' THEN
        RAISE EXCEPTION 'parameters: % is no object', left(wrong.parameters::text, 60) USING ERRCODE = '22023';
    ELSIF size NOT IN ('"1K"', '"2K"', '"4K"') THEN
        RAISE EXCEPTION 'parameters.size: % is none of 1K, 2K, 4K', left(size::text, 60) USING ERRCODE = '22023';
    ELSIF number NOT IN ('1', '2', '3', '4') THEN
        RAISE EXCEPTION 'parameters.count: % is not between 1 and 4', left(number::text, 60) USING ERRCODE = '22023';
    END IF;
    price := (number #>> '{}')::numeric::integer * (prices ->> ('TIER_' || (size #>> '{}')))::integer;
    RAISE EXCEPTION 'wrong price: given %, expected %', wrong.tokens, price USING ERRCODE = 'P0001';
END $$;

-- Raise an error for results that a producer names.
CREATE OR REPLACE FUNCTION darkroom.studio_check_results(results text[]) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'resultImageFiles: % files are named already, must be empty', cardinality(results)
        USING ERRCODE = '22023';
END $$;

-- Raise an error for a prompt, or for a number of input files, that a job can't have.
CREATE OR REPLACE FUNCTION darkroom.studio_check_prompt(prompt text, named integer) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF prompt !~ '\S' THEN
        RAISE EXCEPTION 'prompt: must not be empty' USING ERRCODE = '22023';
    ELSIF length(prompt) > {{most prompt chars}} THEN
        RAISE EXCEPTION 'prompt: % characters, at most {{most prompt chars}}', length(prompt) USING ERRCODE = '22023';
    ELSIF named > 4 THEN
        RAISE EXCEPTION '% input files, at most 4', named USING ERRCODE = '22023';
    END IF;
END $$;

-- Raise an error for the first of some rows' input files that its job can't have; `lists` are the columns that name them.
-- The files' rows are locked in the order of their ids, so that none is deleted before the jobs are there.
CREATE OR REPLACE FUNCTION darkroom.studio_check_inputs(owners text[], ids text[], lists text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off AS $$
DECLARE
    wrong record;
BEGIN
    IF ids IS NULL THEN
        RETURN;
    END IF;
    PERFORM 1 FROM {schema}.files f WHERE f._id = ANY (ids) ORDER BY f._id FOR KEY SHARE;
    SELECT i.id, i.list, i.owner AS of_user, f._id IS NOT NULL AS is_there, f."userId" AS owner, f.category INTO wrong
    FROM unnest(owners, ids, lists) WITH ORDINALITY i (owner, id, list, place)
    LEFT JOIN {schema}.files f ON f._id = i.id
    WHERE f._id IS NULL OR f."userId" <> i.owner
       OR f.category <> CASE i.list WHEN 'productImageFiles' THEN 'product_image' ELSE 'model_image' END
    ORDER BY i.place LIMIT 1;
    IF NOT FOUND THEN
        RETURN;
    ELSIF NOT wrong.is_there THEN
        RAISE EXCEPTION 'file %: not found', coalesce(left(wrong.id, 200), 'NULL') USING ERRCODE = 'P0002';
    ELSIF wrong.owner <> wrong.of_user THEN
        RAISE EXCEPTION 'file %: not yours', wrong.id USING ERRCODE = '42501';
    END IF;
    RAISE EXCEPTION 'file %: category % doesn''t fit %', wrong.id, wrong.category, wrong.list USING ERRCODE = '22023';
END $$;

-- Write the lines of `usage` about one statement's generations; none for users who are gone. Where a migration of the
-- application dropped or renamed a column that this needs, its own statements go on, with a warning.
CREATE OR REPLACE FUNCTION darkroom.studio_record_usage(action text, owners text[], lines jsonb[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET jit = off AS $$
BEGIN
    INSERT INTO {schema}.usage ("userId", action, metadata)
    SELECT l.owner, studio_record_usage.action, l.line FROM unnest(owners, lines) WITH ORDINALITY l (owner, line, place)
    WHERE EXISTS (SELECT FROM {schema}.users u WHERE u._id = l.owner OFFSET 0) ORDER BY l.place;
EXCEPTION WHEN syntax_error_or_access_rule_violation THEN
    RAISE WARNING 'nothing is written into usage: %', SQLERRM
        USING HINT = 'darkroom db check says what is missing and what to do';
END $$;

-- Delete the files' rows of deleted generations' results: those that Darkroom wrote for them, that no other generation
-- works on, and to which no row refers by a foreign key. Whatever is in the way of that, the row stays, and the
-- generations are deleted all the same. `jobs` and `owners` are those of each file in `results`. Of users who are gone,
-- whose files go with them, nothing is looked for.
CREATE OR REPLACE FUNCTION darkroom.studio_drop_results(jobs text[], owners text[], results text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
    users text[];
    ours text[];
    used text[];
    one text;
BEGIN
    IF results IS NULL THEN
        RETURN;
    END IF;
    users := ARRAY(SELECT u._id FROM {schema}.users u WHERE u._id = ANY (owners));
    IF users = '{}' THEN
        RETURN;
    END IF;
    ours := ARRAY(SELECT f._id
                  FROM unnest(jobs, owners, results) r (job, owner, id)
                  JOIN {schema}.files f ON f._id = r.id AND f."userId" = r.owner
                  JOIN darkroom.objects o ON o.key = f."storageId" AND o.job_id = r.job
                   AND o.job_type IN ('studio.modify', 'studio.generate')
                  WHERE r.owner = ANY (users));
    IF ours = '{}' THEN
        RETURN;
    END IF;
    used := ARRAY(SELECT i.id FROM {schema}.generations g
                  CROSS JOIN LATERAL unnest(g."productImageFiles" || g."modelImageFiles") i (id)
                  WHERE g."userId" = ANY (users) AND i.id = ANY (ours));
    ours := ARRAY(SELECT f._id FROM {schema}.files f WHERE f._id = ANY (ours) AND f._id <> ALL (used)
                  ORDER BY f._id FOR UPDATE SKIP LOCKED);
    BEGIN
        DELETE FROM {schema}.files f
        WHERE f._id = ANY (ours) AND NOT darkroom.is_referred_to('{schema}.files'::regclass, to_jsonb(f));
    EXCEPTION WHEN OTHERS THEN  -- one by one, so that only what is in the way stays
        FOREACH one IN ARRAY ours LOOP
            BEGIN
                DELETE FROM {schema}.files f
                WHERE f._id = one AND NOT darkroom.is_referred_to('{schema}.files'::regclass, to_jsonb(f));
            EXCEPTION WHEN OTHERS THEN
                RAISE DEBUG 'file % stays: %', one, SQLERRM;
            END;
        END LOOP;
    END;
EXCEPTION WHEN lock_not_available OR deadlock_detected OR syntax_error_or_access_rule_violation THEN
    NULL;  -- the last: a migration of the application dropped or renamed a column
END $$;
