-- The rules of a pipeline's JSON for producers in SQL: those of pipelines/options.py; a test compares.

-- The first rule that a pipeline breaks, as "path: reason"; NULL if it breaks none. Null values mean the default.
CREATE FUNCTION darkroom.pipeline_fault(pipeline jsonb) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT path || ': ' || CASE
        WHEN NOT (found = kind
                  OR (kind = 'boolean or string' AND found IN ('boolean', 'string'))
                  OR (kind = 'integer' AND found = 'number' AND (value #>> '{}')::numeric % 1 = 0))
            THEN 'must be ' || kind || ', found ' || found
        WHEN found = 'number' THEN 'between ' || least || ' and ' || most || ', found ' || (value #>> '{}')
        ELSE 'between ' || least || ' and ' || most
             || CASE found WHEN 'array' THEN ' elements, found ' ELSE ' characters, found ' END || size
        END
    FROM (VALUES
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
    ) rule (nr, path, kind, least, most)
    CROSS JOIN LATERAL (
        SELECT v.value, jsonb_typeof(v.value) AS found
        FROM jsonb_path_query(pipeline, ('strict $.' || replace(path, '[]', '[*]'))::jsonpath, '{}', true) AS v (value)
        WHERE path <> 'promptConfig.defectOverrides.*'
        UNION ALL -- unknown defects are ignored, as unknown keys are
        SELECT d.value, jsonb_typeof(d.value)
        FROM jsonb_each(CASE WHEN jsonb_typeof(pipeline #> '{promptConfig,defectOverrides}') = 'object'
                             THEN pipeline #> '{promptConfig,defectOverrides}' END) d
        WHERE path = 'promptConfig.defectOverrides.*'
          AND d.key IN ('isDark', 'isBlurry', 'hasNoise', 'hasVHSArtifacts', 'isLowResolution', 'isOverexposed',
                        'hasColorCast')
    ) place
    CROSS JOIN LATERAL (
        SELECT CASE found WHEN 'string' THEN length(value #>> '{}') WHEN 'array' THEN jsonb_array_length(value)
                          WHEN 'number' THEN (value #>> '{}')::numeric END AS size
    ) measure
    WHERE found <> 'null'
      AND (NOT (found = kind
                OR (kind = 'boolean or string' AND found IN ('boolean', 'string'))
                OR (kind = 'integer' AND found = 'number' AND (value #>> '{}')::numeric % 1 = 0))
           OR (least IS NOT NULL AND size NOT BETWEEN least AND most))
    ORDER BY nr LIMIT 1
$$;
