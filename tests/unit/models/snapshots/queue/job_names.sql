-- The names by which people and programs ask for a job. A name is the job's id; where the id stands in several job tables, it is
-- TABLE/ID, and SCHEMA.TABLE/ID where two tables have the same name in different schemas.

-- Return the type and the id of the job that a name stands for, by primary keys; NULL where there is no such job. A job whose
-- id is the whole name comes first, because ids may contain a slash. A name that stands for jobs of several tables is refused,
-- and the message gives a name for each of them.
CREATE OR REPLACE FUNCTION darkroom.job_named(name text, OUT type text, OUT id text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off AS $$
DECLARE
    types text[];
    ids text[];
    schemas text[];
    tables text[];
BEGIN
    SELECT array_agg(n.type), array_agg(n.id), array_agg(n.in_schema), array_agg(n.in_table)
    INTO types, ids, schemas, tables FROM (
        SELECT CASE WHEN j."isBlend" THEN 'blend' ELSE 'enhance' END AS type, j.id AS id, 'public' AS in_schema, 'image_enhancement_jobs' AS in_table
        FROM public.image_enhancement_jobs j WHERE j.id = job_named.name
        UNION ALL
        SELECT pg_catalog.lower(j.type::text) AS type, j.id AS id, 'public' AS in_schema, 'mcp_generation_jobs' AS in_table
        FROM public.mcp_generation_jobs j WHERE j.id = job_named.name
    ) n;
    IF types IS NULL AND strpos(job_named.name, '/') > 0 THEN
        SELECT array_agg(n.type), array_agg(n.id), array_agg(n.in_schema), array_agg(n.in_table)
        INTO types, ids, schemas, tables FROM (
            SELECT CASE WHEN j."isBlend" THEN 'blend' ELSE 'enhance' END AS type, j.id AS id, 'public' AS in_schema, 'image_enhancement_jobs' AS in_table
            FROM (SELECT substr(job_named.name, length(p.words) + 1) AS id FROM (VALUES ('image_enhancement_jobs/'), ('public.image_enhancement_jobs/')) p (words)
                  WHERE starts_with(job_named.name, p.words)) g
            JOIN public.image_enhancement_jobs j ON j.id = g.id
            UNION ALL
            SELECT pg_catalog.lower(j.type::text) AS type, j.id AS id, 'public' AS in_schema, 'mcp_generation_jobs' AS in_table
            FROM (SELECT substr(job_named.name, length(p.words) + 1) AS id FROM (VALUES ('mcp_generation_jobs/'), ('public.mcp_generation_jobs/')) p (words)
                  WHERE starts_with(job_named.name, p.words)) g
            JOIN public.mcp_generation_jobs j ON j.id = g.id
        ) n;
    END IF;
    IF cardinality(types) > 1 THEN
        -- a name that is another job's id, or that two tables share, would be refused again or mean that other job
        SELECT array_agg(CASE WHEN u.shared > 1 OR EXISTS (SELECT FROM darkroom.jobs_of(ARRAY[u.in_table || '/' || u.id]))
                              THEN u.in_schema || '.' ELSE '' END || u.in_table ORDER BY u.n)
        INTO tables FROM (
            SELECT f.*, count(*) OVER (PARTITION BY f.in_table) AS shared
            FROM unnest(schemas, tables, ids) WITH ORDINALITY f (in_schema, in_table, id, n)) u;
        RAISE EXCEPTION 'job % stands in %: give %', left(job_named.name, 200), darkroom.joined(tables, 'and'),
            darkroom.joined(ARRAY(SELECT t.name || '/' || left(ids[t.n], 200)
                                  FROM unnest(tables) WITH ORDINALITY t (name, n) ORDER BY t.n), 'or')
            USING ERRCODE = '22023';
    END IF;
    type := types[1];
    id := ids[1];
END $$;

-- Return texts in a sentence: `a`, `a and b`, `a, b and c`.
CREATE OR REPLACE FUNCTION darkroom.joined(texts text[], conjunction text) RETURNS text LANGUAGE sql IMMUTABLE
RETURN concat_ws(' ' || conjunction || ' ', nullif(array_to_string(trim_array(texts, 1), ', '), ''),
                 texts[cardinality(texts)]);
