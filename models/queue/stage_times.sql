-- How long stages take.

-- Return for each stage how long its runs of a type and tier took in the last hours: how many there were, their mean, and
-- how many of them took how long: the buckets are a fourth of a power of two wide, the first one ends at 2^-6.75 s.
CREATE OR REPLACE FUNCTION darkroom.stage_times(of_type text, of_tier text)
RETURNS TABLE (stage text, runs float8, mean_s float8, counts float8[], basis text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    WITH buckets AS MATERIALIZED (
        SELECT r.stage, least(greatest(ceil(4 * (log(2, greatest(r.duration_ms, 1) / 1000.0) + 7)), 1), 96) AS bucket,
               count(*)::float8 AS runs, sum(r.duration_ms)::float8 / 1000 AS total_s
        FROM darkroom.stage_runs r
        WHERE r.event = 'finished' AND r.job_type = of_type AND r.at > now() - interval '6 hours' GROUP BY 1, 2)
    SELECT s.stage, s.runs, s.mean_s, (
               SELECT array_agg(coalesce(b.runs, 0) ORDER BY n)
               FROM generate_series(1, 96) n LEFT JOIN buckets b ON b.stage = s.stage AND b.bucket = n), 'type'
    FROM (SELECT b.stage, sum(b.runs) AS runs, sum(b.total_s) / sum(b.runs) AS mean_s FROM buckets b GROUP BY 1) s
$$;

-- Return how many jobs a second have ended in the last hour.
CREATE OR REPLACE FUNCTION darkroom.jobs_per_s() RETURNS float8 LANGUAGE sql STABLE
RETURN (SELECT count(*) / 3600.0 FROM darkroom.stage_runs r
        WHERE r.event = 'finished' AND r.stage = {{last stage}} AND r.at > now() - interval '1 hour');
