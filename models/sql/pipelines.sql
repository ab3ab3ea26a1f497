-- The rules of a pipeline's JSON for producers in SQL: those of pipelines/options.py; a test compares.

-- The first rule that a pipeline breaks, as "path: reason"; NULL if it breaks none. Null values mean the default.
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
        (18, 'promptConfig.referenceImages[].r2Key', 'string', 0, 512),
        (19, 'promptConfig.referenceImages[].description', 'string', 0, 500),
        (20, 'generationConfig', 'object', NULL, NULL),
        (21, 'generationConfig.model', 'string', 1, 200),
        (22, 'generationConfig.temperature', 'number', 0, 2),
        (23, 'generationConfig.retryAttempts', 'integer', 1, 10)
    ),
    -- every place that a rule's path names, step by step: an element of a list (x[]), a known defect (*), or a key
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
              AND d.key IN ('isDark', 'isBlurry', 'hasNoise', 'hasVHSArtifacts', 'isLowResolution', 'isOverexposed',
                            'hasColorCast')
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
