-- Checks of the arguments of submit_enhancement and submit_generation, and the comparison of repeated submissions. The
-- limits are those of config, as for workers.

-- Return the SHA-256 of a text, in hex; NULL for NULL.
CREATE OR REPLACE FUNCTION darkroom.digest(value text) RETURNS text LANGUAGE sql IMMUTABLE
RETURN encode(sha256(convert_to(value, 'UTF8')), 'hex');

-- Return the time to begin as it is kept to compare a repeated submission: the time, or the duration from which the
-- library has computed it, since that gives another time in each transaction. `darkroom.run_after` has the duration in
-- seconds; it is set for the transaction, in which others may submit with times of their own.
CREATE OR REPLACE FUNCTION darkroom.time_argument(run_at timestamptz) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    after text := nullif(current_setting('darkroom.run_after', true), '');
BEGIN
    RETURN CASE WHEN run_at = now() + make_interval(secs => after::float8) THEN to_jsonb('+' || after)
                ELSE to_jsonb(extract(epoch FROM run_at)) END;
END $$;

-- Return the names of the arguments that differ from those of a key's first submission; NULL if none does. A submission
-- from before arguments were recorded is compared with its job's row as far as possible; if that row is deleted, it is
-- accepted.
CREATE OR REPLACE FUNCTION darkroom.differing_arguments(first darkroom.submissions, job_type text, arguments jsonb)
RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    known jsonb := first.arguments;
    differing text;
BEGIN
    IF known IS NULL THEN
        SELECT jsonb_strip_nulls(jsonb_build_object(
            'image_id', j."imageId", 'tier', j.tier, 'pipeline_id', j."pipelineId",
            'source_image_id', j."sourceImageId"))
        INTO known FROM public.image_enhancement_jobs j WHERE j.id = first.job_id;
        IF NOT FOUND THEN
            SELECT jsonb_strip_nulls(jsonb_build_object(
                'type', j.type, 'tier', j.tier, 'prompt', darkroom.digest(j.prompt), 'input_key', j."inputImageR2Key",
                'input_url', darkroom.digest(j."inputImageUrl"), 'api_key_id', j."apiKeyId"))
            INTO known FROM public.mcp_generation_jobs j WHERE j.id = first.job_id;
        END IF;
        SELECT string_agg(a.key, ', ' ORDER BY a.key) INTO differing
        FROM jsonb_each(jsonb_strip_nulls(arguments)) a WHERE known ? a.key AND known -> a.key <> a.value;
    ELSE
        SELECT string_agg(a.key, ', ' ORDER BY a.key) INTO differing
        FROM jsonb_each(arguments) a WHERE coalesce(known -> a.key, 'null') <> a.value
            AND (a.key <> 'run_at' OR known ? 'run_at');  -- an earlier release didn't keep it
    END IF;
    RETURN coalesce(differing, CASE WHEN first.job_type <> job_type THEN 'type' END);
END $$;

-- Raise an error for a tier that doesn't exist.
CREATE OR REPLACE FUNCTION darkroom.check_tier(tier text) RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    -- read from the catalog, because a cached plan that names the type would fail in this session after a change of the
    -- type
    tiers text[] := ARRAY(SELECT e.enumlabel::text FROM pg_enum e JOIN pg_attribute a ON a.atttypid = e.enumtypid
                          WHERE a.attrelid = to_regclass('public.image_enhancement_jobs') AND a.attname = 'tier'
                          ORDER BY e.enumsortorder);
BEGIN
    IF tier IS NULL OR tier <> ALL (tiers) THEN
        RAISE EXCEPTION 'there is no tier %: give %', coalesce(quote_literal(left(tier, 60)), 'NULL'),
            array_to_string(tiers, ', ') USING ERRCODE = '22023';
    END IF;
END $$;

-- Return the tier of a job that names none: its pipeline's, else the default of the user's album to which the picture
-- was added last, else TIER_1K. Rows are read as JSON, because another tool's tables may lack these two columns.
CREATE OR REPLACE FUNCTION darkroom.default_tier(user_id text, image_id text, pipeline_id text) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    tier text;
BEGIN
    IF pipeline_id IS NOT NULL THEN
        SELECT to_jsonb(p) ->> 'tier' INTO tier FROM public.enhancement_pipelines p WHERE p.id = pipeline_id;
    ELSE
        SELECT to_jsonb(a) ->> 'defaultTier' INTO tier
        FROM public.album_images m JOIN public.albums a ON a.id = m."albumId"
        WHERE m."imageId" = image_id AND a."userId" = user_id ORDER BY m."addedAt" DESC, a.id LIMIT 1;
    END IF;
    RETURN coalesce(tier, {{default tier}});
END $$;

-- Return the pipeline of a job that names none, as a row, or none: of the user's own albums that have a pipeline, the
-- album counts to which the picture was added last. PostgreSQL inlines this function.
CREATE OR REPLACE FUNCTION darkroom.album_pipelines(user_id text, image_id text) RETURNS TABLE (id text)
LANGUAGE sql STABLE AS $$
    SELECT a."pipelineId"::text FROM public.album_images m
    CROSS JOIN LATERAL (SELECT o.* FROM public.albums o WHERE o.id OPERATOR(pg_catalog.=) m."albumId" OFFSET 0) a
    WHERE m."imageId" OPERATOR(pg_catalog.=) image_id AND a."userId" OPERATOR(pg_catalog.=) user_id
      AND a."pipelineId" IS NOT NULL
    ORDER BY m."addedAt" DESC, a.id LIMIT 1
$$;

-- Return the same as a value, or NULL.
CREATE OR REPLACE FUNCTION darkroom.album_pipeline(user_id text, image_id text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT p.id FROM darkroom.album_pipelines(user_id, image_id) p
$$;

-- Raise an error for a pipeline with visibility LINK, unless the user is its owner or shows its share token.
CREATE OR REPLACE FUNCTION darkroom.check_link(user_id text, pipeline_id text, token text) RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    PERFORM 1 FROM public.enhancement_pipelines p
    WHERE p.id = pipeline_id AND p.visibility = 'LINK' AND p."userId" <> user_id
      AND (coalesce(token, '') = '' OR to_jsonb(p) ->> 'shareToken' IS DISTINCT FROM token);
    IF FOUND THEN
        RAISE EXCEPTION 'pipeline % is shared by link and not yours: its token is %', pipeline_id,
            CASE WHEN token IS NULL THEN 'missing, give pipeline_token' ELSE 'another one' END USING ERRCODE = '42501';
    END IF;
END $$;

-- Return 'owner' or 'trust': whether inserted jobs, which carry no share token, may use a pipeline with visibility
-- LINK.
CREATE OR REPLACE FUNCTION darkroom.link_pipelines() RETURNS text LANGUAGE sql STABLE
RETURN coalesce(darkroom.setting('link_pipelines') #>> '{}', 'owner');

-- Raise an error for a type, a prompt or an input that no worker would accept.
CREATE OR REPLACE FUNCTION darkroom.check_generation(type text, prompt text, input_key text, input_url text)
RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    fault text;
BEGIN
    fault := CASE
        WHEN type IS NULL OR type NOT IN ('GENERATE', 'MODIFY')
            THEN format('there is no type %L: give GENERATE or MODIFY', left(type, 60))
        -- whitespace as Python defines it, whatever the database's locale
        WHEN coalesce(btrim(prompt, E'\t\n\u000b\f\r\u001c\u001d\u001e\u001f \u0085\u00a0\u1680\u2000\u2001\u2002\u2003'
                '\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000'), '') = ''
            THEN 'the prompt is empty'
        WHEN length(prompt) > {{most prompt chars}}
            THEN format('the prompt has %s characters; the limit is {{most prompt chars in words}}', to_char(length(prompt), 'FM999,999,999'))
        WHEN type = 'MODIFY' AND input_key IS NULL AND input_url IS NULL
            THEN 'a MODIFY job needs an input picture: give input_key or input_url'
        WHEN type = 'MODIFY' THEN 'input_url ' || darkroom.url_fault(input_url)
    END;
    IF fault IS NOT NULL THEN
        RAISE EXCEPTION '%', fault USING ERRCODE = '22023';
    END IF;
END $$;

-- Raise an error for an input key that isn't valid, or lies outside the user's prefixes.
CREATE OR REPLACE FUNCTION darkroom.check_input_key(user_id text, input_key text) RETURNS void
LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    fault text := coalesce(darkroom.key_fault(input_key), CASE
        WHEN '/' || input_key || '/' LIKE '%//%' THEN 'it starts or ends with / or holds //' END);
BEGIN
    IF fault IS NOT NULL THEN
        RAISE EXCEPTION 'input_key is no key: %', fault USING ERRCODE = '22023';
    ELSIF darkroom.is_outside(user_id, input_key) THEN
        RAISE EXCEPTION 'input key % is not yours', input_key USING ERRCODE = '42501';
    END IF;
END $$;

-- Raise an error for a pipeline with reference pictures that its jobs can't use: they must be its owner's, whichever
-- user uses the pipeline, or at URLs that can be fetched. Called after the JSON is known to be valid.
CREATE OR REPLACE FUNCTION darkroom.check_references(pipeline_id text) RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    wrong record;
BEGIN
    SELECT r.place - 1 AS place, r.value ->> 'r2Key' AS key, u.fault INTO wrong
    FROM public.enhancement_pipelines p
    CROSS JOIN LATERAL jsonb_array_elements(CASE jsonb_typeof(p."promptConfig" -> 'referenceImages')
        WHEN 'array' THEN p."promptConfig" -> 'referenceImages' ELSE '[]' END) WITH ORDINALITY r (value, place)
    CROSS JOIN LATERAL (SELECT CASE WHEN r.value ->> 'r2Key' IS NULL AND r.value ->> 'url' <> ''
                                    THEN darkroom.url_fault(r.value ->> 'url') END AS fault) u
    WHERE p.id = pipeline_id
      AND (u.fault IS NOT NULL
           OR (r.value ->> 'r2Key' IS NOT NULL AND darkroom.is_outside(p."userId", r.value ->> 'r2Key')))
    ORDER BY r.place LIMIT 1;
    IF NOT FOUND THEN
        RETURN;
    ELSIF wrong.fault IS NOT NULL THEN
        RAISE EXCEPTION 'promptConfig.referenceImages[%].url %', wrong.place, wrong.fault USING ERRCODE = '22023';
    END IF;
    RAISE EXCEPTION 'promptConfig.referenceImages[%].r2Key: % is not under its pipeline owner''s prefix',
        wrong.place, wrong.key USING ERRCODE = '42501';
END $$;

-- Return what is wrong with the API key that a job names, and the SQLSTATE for it; NULLs if nothing is. Another tool's
-- tables may have no API keys at all, or none that can be deactivated.
CREATE OR REPLACE FUNCTION darkroom.api_key_fault(user_id text, api_key_id text, OUT fault text, OUT state text)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    api_key jsonb;
BEGIN
    IF api_key_id IS NULL OR to_regclass('public.api_keys') IS NULL THEN
        RETURN;
    END IF;
    SELECT to_jsonb(k) INTO api_key FROM public.api_keys k WHERE k.id = api_key_id;
    IF api_key IS NULL THEN
        fault := format('API key %s not found', api_key_id);
        state := 'P0002';
    ELSIF api_key ->> 'userId' <> user_id THEN
        fault := format('API key %s is not yours', api_key_id);
        state := '42501';
    ELSIF api_key ->> 'isActive' = 'false' THEN
        fault := format('API key %s is not active', api_key_id);
        state := '42501';
    END IF;
END $$;

-- Return the plan of a user: the plan of the subscribed price, else the plan named like the subscription's tier, and
-- without a subscription the one named like the balance's tier. NULL if none is known.
CREATE OR REPLACE FUNCTION darkroom.plan_of(user_id text) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    subscription jsonb;
    tier text;
BEGIN
    SELECT to_jsonb(s) INTO subscription FROM public.subscriptions s
    WHERE s."userId" = user_id AND s.status::text NOT IN ('CANCELED', 'UNPAID');
    tier := coalesce(subscription ->> 'tier', (SELECT b.tier::text FROM public.user_token_balances b
                                               WHERE b."userId" = user_id));
    RETURN (SELECT to_jsonb(p) FROM public.subscription_plans p
            WHERE p."stripePriceId" = subscription ->> 'stripePriceId' OR (p.active AND upper(p.name) = tier)
            ORDER BY p."stripePriceId" = subscription ->> 'stripePriceId' DESC NULLS LAST, p.name LIMIT 1);
END $$;

-- Raise an error for an API key that doesn't exist, isn't the user's, isn't active, or whose plan has no API access.
CREATE OR REPLACE FUNCTION darkroom.check_api_key(user_id text, api_key_id text) RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    refused record;
    plan jsonb;
BEGIN
    SELECT f.* INTO refused FROM darkroom.api_key_fault(user_id, api_key_id) f;
    IF refused.fault IS NOT NULL THEN
        RAISE EXCEPTION '%', refused.fault USING ERRCODE = refused.state;
    END IF;
    plan := darkroom.plan_of(user_id);
    IF plan ->> 'apiAccess' = 'false' THEN
        RAISE EXCEPTION 'plan % has no API access, so API key % can''t be used', plan ->> 'name', api_key_id
            USING ERRCODE = '42501';
    END IF;
END $$;
