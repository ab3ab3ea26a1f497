-- The rules of a pipeline's JSON for producers that use SQL: those of config/pipeline_rules.py, checked as in
-- pipelines/options.py.

-- Return the first rule that a pipeline breaks, as "path: reason"; NULL if it breaks none. Null values mean the
-- default.
CREATE OR REPLACE FUNCTION darkroom.pipeline_fault(pipeline jsonb) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE rules (nr, path, kind, least, most) AS (VALUES
        (1, 'analysisConfig', 'object', NULL::numeric, NULL::numeric),
        (2, 'analysisConfig.enabled', 'boolean', NULL, NULL),
        (3, 'analysisConfig.model', 'string', 1, 200),
        (4, 'analysisConfig.temperature', 'number', 0, 2),
        (5, 'autoCropConfig', 'object', NULL, NULL),
        (6, 'autoCropConfig.enabled', 'boolean', NULL, NULL),
        (7, 'autoCropConfig.minCropRatio', 'number', 0, 1),
        (8, 'autoCropConfig.allowBlackBarRemoval', 'boolean', NULL, NULL),
        (9, 'autoCropConfig.allowUIElementCrop', 'boolean', NULL, NULL),
        (10, 'promptConfig', 'object', NULL, NULL),
        (11, 'promptConfig.defectOverrides', 'object', NULL, NULL),
        (12, 'promptConfig.defectOverrides.*', 'boolean or string', 0, 500),
        (13, 'promptConfig.customInstructions', 'string', 0, 2000),
        (14, 'promptConfig.skipCorrections', 'boolean', NULL, NULL),
        (15, 'promptConfig.referenceImages', 'array', 0, 3),
        (16, 'promptConfig.referenceImages[]', 'object', NULL, NULL),
        (17, 'promptConfig.referenceImages[].url', 'string', 0, 2048),
        (18, 'promptConfig.referenceImages[].r2Key', 'string', 0, 1024),
        (19, 'promptConfig.referenceImages[].description', 'string', 0, 500),
        (20, 'generationConfig', 'object', NULL, NULL),
        (21, 'generationConfig.model', 'string', 1, 200),
        (22, 'generationConfig.temperature', 'number', 0, 2),
        (23, 'generationConfig.retryAttempts', 'integer', 1, 10)
    ),
    -- every value to which a rule's path leads, step by step: an element of an array (x[]), a known defect (*), or a
    -- key
    walk (nr, steps, path, value, place) AS (
        SELECT nr, string_to_array(path, '.'), '', pipeline, '{}'::bigint[] FROM rules
        UNION ALL
        SELECT w.nr, w.steps[2:], ltrim(w.path || '.' || step.name, '.'), step.value, w.place || step.place
        FROM walk w
        CROSS JOIN LATERAL (
            SELECT w.steps[1] AS name, w.value -> w.steps[1] AS value, 0::bigint AS place
            WHERE w.steps[1] <> '*' AND w.steps[1] NOT LIKE '%[]'
            UNION ALL
            SELECT format('%s[%s]', rtrim(w.steps[1], '[]'), e.place - 1), e.value, e.place
            FROM jsonb_array_elements(CASE jsonb_typeof(w.value -> rtrim(w.steps[1], '[]'))
                                      WHEN 'array' THEN w.value -> rtrim(w.steps[1], '[]') END)
                 WITH ORDINALITY AS e (value, place)
            WHERE w.steps[1] LIKE '%[]'
            UNION ALL -- unknown defects are ignored, as unknown keys are
            SELECT d.key, d.value, d.place
            FROM jsonb_each(CASE jsonb_typeof(w.value) WHEN 'object' THEN w.value END)
                 WITH ORDINALITY AS d (key, value, place)
            WHERE w.steps[1] = '*'
              AND d.key IN ('isDark', 'isBlurry', 'hasNoise', 'hasVHSArtifacts', 'isLowResolution', 'isOverexposed', 'hasColorCast')
        ) step
        WHERE cardinality(w.steps) > 0 AND step.value IS NOT NULL)
    SELECT w.path || ': ' || CASE
        WHEN NOT (found = kind
                  OR (kind = 'boolean or string' AND found IN ('boolean', 'string'))
                  OR (kind = 'integer' AND found = 'number' AND (value #>> '{}')::numeric % 1 = 0))
            THEN 'must be ' || kind || ', found ' || found
        WHEN found = 'number' THEN 'between ' || least || ' and ' || most || ', found ' || (value #>> '{}')
        ELSE 'between ' || least || ' and ' || most
             || CASE found WHEN 'array' THEN ' elements, found ' ELSE ' characters, found ' END || size
        END
    FROM walk w
    JOIN rules r ON r.nr = w.nr
    CROSS JOIN LATERAL (SELECT jsonb_typeof(w.value) AS found) type
    CROSS JOIN LATERAL (
        SELECT CASE found WHEN 'string' THEN length(w.value #>> '{}') WHEN 'array' THEN jsonb_array_length(w.value)
                          WHEN 'number' THEN (w.value #>> '{}')::numeric END AS size
    ) measure
    WHERE cardinality(w.steps) = 0 AND found <> 'null'
      AND (NOT (found = kind
                OR (kind = 'boolean or string' AND found IN ('boolean', 'string'))
                OR (kind = 'integer' AND found = 'number' AND (value #>> '{}')::numeric % 1 = 0))
           OR (least IS NOT NULL AND size NOT BETWEEN least AND most))
    ORDER BY w.nr, w.place LIMIT 1
$$;

-- Return the provider of a model by the model's name; NULL if the name doesn't tell it.
CREATE OR REPLACE FUNCTION darkroom.model_owner(terms jsonb, model text) RETURNS text LANGUAGE sql IMMUTABLE
RETURN coalesce(terms -> 'names' ->> model, (
    SELECT p.value FROM jsonb_each_text(terms -> 'prefixes') p WHERE starts_with(model, p.key) LIMIT 1));

-- Return why a model can't be asked; NULL if it can, if this installation buys nothing, or if no terms are recorded.
-- `use` is analyze or generate. pipelines/providers/catalogue.py has the same rule; a test compares them.
CREATE OR REPLACE FUNCTION darkroom.model_fault(terms jsonb, use text, model text) RETURNS text
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    owner text := darkroom.model_owner(terms, model);
    buyers text[] := ARRAY(SELECT jsonb_array_elements_text(terms -> 'paid'));
BEGIN
    IF model IS NULL OR cardinality(buyers) = 0 THEN
        RETURN NULL;
    ELSIF owner IS NOT NULL AND NOT terms -> 'providers' ? owner THEN
        RETURN format('%s is a model of %s, which isn''t configured (PROVIDER=%s)', model, owner,
                      (SELECT string_agg(p, ',') FROM jsonb_array_elements_text(terms -> 'providers') p));
    ELSIF owner IS NOT NULL AND owner <> ALL (buyers) THEN
        RETURN NULL;
    END IF;
    buyers := CASE WHEN owner IS NULL THEN buyers ELSE ARRAY[owner] END;
    IF use = 'analyze' AND NOT terms -> 'analyzers' ?| buyers THEN
        RETURN format('%s can''t analyze: %s makes pictures only', model, array_to_string(buyers, ', '));
    ELSIF terms -> use ? model THEN
        RETURN NULL;
    ELSIF model !~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$' THEN
        RETURN format('%s is no model''s name', model);
    ELSIF terms -> 'unknown_usd' <> 'null' THEN
        RETURN NULL;
    END IF;
    RETURN format('model %s has no price for %s; name one in DARKROOM_MODEL_PRICES or set DARKROOM_UNKNOWN_MODEL_USD, '
                  'then run `darkroom db upgrade`',
                  model, CASE use WHEN 'analyze' THEN 'an analysis' ELSE 'a picture' END);
END $$;

-- Return the first model of a pipeline that can't be asked, as "path: reason"; NULL if all can. When an operator
-- retries a job with another model, the setting darkroom.model of the transaction names it.
CREATE OR REPLACE FUNCTION darkroom.pipeline_model_fault(analysis jsonb, generation jsonb) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(
        'analysisConfig.model: ' || CASE WHEN coalesce(analysis ->> 'enabled', 'true') <> 'false'
                                         THEN darkroom.model_fault(t.terms, 'analyze', analysis ->> 'model') END,
        'generationConfig.model: ' || darkroom.model_fault(
            t.terms, 'generate', coalesce(nullif(current_setting('darkroom.model', true), ''), generation ->> 'model')))
    FROM (SELECT darkroom.setting('models')) t (terms)
$$;

-- Return why every provider would have to enlarge its pictures for a tier, if that is to be refused; NULL if one
-- needn't. `wished` is the model that a pipeline names; the local engine makes no pictures from words.
-- pipelines/providers/catalogue.py has the same rule; a test compares them.
CREATE OR REPLACE FUNCTION darkroom.size_fault(terms jsonb, wished text, tier text, is_of_words boolean) RETURNS text
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    long_side_px integer := CASE tier WHEN 'FREE' THEN 1024 WHEN 'TIER_1K' THEN 1024 WHEN 'TIER_2K' THEN 2048 WHEN 'TIER_4K' THEN 4096 ELSE 1024 END;
    buyer text := CASE WHEN wished <> '' THEN coalesce(darkroom.model_owner(terms, wished), terms -> 'paid' ->> 0) END;
    provider text;
    model text;
    made_px integer;
    reasons text[];
BEGIN
    IF coalesce(terms ->> 'over_size', 'enlarge') <> 'refuse' THEN
        RETURN NULL;
    END IF;
    FOR provider IN SELECT jsonb_array_elements_text(terms -> 'providers') LOOP
        IF terms -> 'drawn' ? provider THEN
            CONTINUE WHEN buyer <> provider;  -- a provider isn't asked for another provider's model
            model := coalesce(nullif(wished, ''), terms -> 'drawn' ->> provider);
            made_px := coalesce(terms -> 'sizes' -> provider ->> model, terms -> 'sizes' -> provider ->> '');
            IF made_px >= 0.9 * long_side_px THEN
                RETURN NULL;
            END IF;
            reasons := reasons || format(
                '%s makes pictures of at most %s pixels, and the tier has %s; choose a smaller tier or another model, '
                'or set DARKROOM_OVER_SIZE=enlarge', model, made_px, long_side_px);
        ELSIF NOT is_of_words THEN
            RETURN NULL;
        END IF;
    END LOOP;
    RETURN array_to_string(reasons, '; ');
END $$;

-- Raise an error for a job whose result would have to be enlarged, if DARKROOM_OVER_SIZE says so.
CREATE OR REPLACE FUNCTION darkroom.check_size(wished text, tier text, is_of_words boolean) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    fault text := darkroom.size_fault(darkroom.setting('models'), wished, tier, is_of_words);
BEGIN
    IF fault IS NOT NULL THEN
        RAISE EXCEPTION '%', fault USING ERRCODE = '22023';
    END IF;
END $$;
