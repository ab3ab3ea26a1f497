-- Errors of estimates: what they were, compared with what jobs took.

-- Return the scores of earlier estimates that were most like one: of jobs that ran, or of jobs that waited, with a median
-- near to its own, when about the same part of the job's time had passed (`passed_s`, by what the job would take with the
-- median), and rather lately. These are 300 of the newest 2,000 of the day before `at`. A tenth of the part weighs as much as
-- a fifth of the median, and as four hours.
CREATE OR REPLACE FUNCTION darkroom.scores(of_running boolean, of_median_s float8, passed_s float8, at timestamptz)
RETURNS float8[]
LANGUAGE sql STABLE
RETURN ARRAY(
    SELECT n.score FROM (
        SELECT e.score, ln(e.median_s) AS size, e.passed_s / (e.passed_s + e.median_s) AS part, e.ended_at
        FROM darkroom.estimates e
        WHERE e.score IS NOT NULL AND e.is_running = of_running AND e.ended_at <= scores.at
          AND e.ended_at > scores.at - interval '1 day'
        ORDER BY e.ended_at DESC LIMIT 2000) n
    ORDER BY abs(n.size - ln(of_median_s)) + 2 * abs(n.part - scores.passed_s / (scores.passed_s + of_median_s))
             + 0.05 * extract(epoch FROM scores.at - n.ended_at)::float8 / 3600 LIMIT 300);

-- Compare estimates with the ends of their jobs, as far as these are over, and forget them after two days. An estimate
-- isn't compared if its job was cancelled or deleted, or if an operator's pause came between. Return how many got a score.
CREATE OR REPLACE FUNCTION darkroom.score_estimates() RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    scored bigint;
BEGIN
    WITH over AS MATERIALIZED (
            SELECT e.at, e.job_type, e.job_id, e.median_s, e.spread, j.status,
                   coalesce(j."processingCompletedAt", j."updatedAt") AT TIME ZONE 'utc' AS ended_at
            FROM (SELECT * FROM darkroom.estimates o WHERE o.ended_at IS NULL ORDER BY o.at LIMIT 5000) e
            LEFT JOIN darkroom.jobs_of(ARRAY(SELECT o.job_id FROM darkroom.estimates o WHERE o.ended_at IS NULL
                                             ORDER BY o.at LIMIT 5000)) j ON j.id = e.job_id AND j.type = e.job_type
            WHERE NOT EXISTS (SELECT FROM darkroom.job_queue q WHERE q.job_type = e.job_type AND q.job_id = e.job_id)),
        compared AS (
            UPDATE darkroom.estimates e
            SET ended_at = coalesce(o.ended_at, now()),
                score = CASE WHEN o.status IN ('COMPLETED', 'FAILED', 'REFUNDED') AND NOT EXISTS (
                                 SELECT FROM darkroom.pauses p
                                 WHERE tstzrange(p.paused_at, p.resumed_at) && tstzrange(o.at, greatest(o.at, o.ended_at), '[]'))
                             THEN ln(greatest(extract(epoch FROM o.ended_at - o.at), 0.001)::float8 / o.median_s) / o.spread END
            FROM over o WHERE e.at = o.at AND e.job_type = o.job_type AND e.job_id = o.job_id
            RETURNING e.score)
    SELECT count(c.score) INTO scored FROM compared c;
    DELETE FROM darkroom.estimates e WHERE e.at < now() - interval '2 days';
    RETURN scored;
END $$;

-- Estimate the ends of some unfinished jobs: three fifths of them chosen at random among all, the others among those that
-- have entered in the last minute (of the newest 1,000), since users ask most often then. Return how many got an estimate.
CREATE OR REPLACE FUNCTION darkroom.make_estimates(most integer) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
DECLARE
    lowest bigint := (SELECT q.id FROM darkroom.job_queue q ORDER BY q.id LIMIT 1);
    highest bigint := (SELECT q.id FROM darkroom.job_queue q ORDER BY q.id DESC LIMIT 1);
    newest integer := most * 2 / 5;
    made bigint;
BEGIN
    WITH chosen AS MATERIALIZED (
            SELECT DISTINCT ON ((n.q).id) n.q FROM (
                SELECT lowest + floor(random() * (highest - lowest + 1))::bigint AS id
                FROM generate_series(1, most - newest)) r
            CROSS JOIN LATERAL (SELECT j AS q FROM darkroom.job_queue j WHERE j.id >= r.id ORDER BY j.id LIMIT 1) n),
        entered AS MATERIALIZED (
            SELECT j.id FROM (SELECT l.id, l.created_at FROM darkroom.job_queue l ORDER BY l.id DESC LIMIT 1000) j
            WHERE j.created_at > now() - interval '1 minute' AND j.id NOT IN (SELECT (c.q).id FROM chosen c)
            ORDER BY random() LIMIT newest),
        estimated AS (
            INSERT INTO darkroom.estimates (job_type, job_id, queue, is_running, at, median_s, spread, passed_s)
            SELECT (c.q).job_type, (c.q).job_id, (c.q).queue, o.facts ? 'is_running', clock_timestamp(), e.median_s, e.spread,
                   (o.facts ->> 'passed_s')::float8
            FROM (SELECT r.q FROM chosen r
                  UNION ALL SELECT j FROM darkroom.job_queue j JOIN entered n ON n.id = j.id) c
            CROSS JOIN LATERAL darkroom.outlook(c.q) o CROSS JOIN LATERAL darkroom.estimate(o.facts) e
            WHERE o.facts ? 'own' AND e.median_s IS NOT NULL
            RETURNING 1)
    SELECT count(*) INTO made FROM estimated;
    RETURN made;
END $$;
