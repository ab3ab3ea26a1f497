-- Roll-ups: how many jobs ended and how many stages ran in each minute, how long they took, and how these times are
-- distributed. The task roll-up-jobs writes them, each row exactly once: each chunk commits together with what says how
-- far it came. Ends of jobs are deleted as they are rolled up. Rows of stage_runs stay, and are read by their ids.

-- Return the number of the bucket that counts a time. Bucket 1 holds times below 2^-6.75 s (9.3 ms), and each further
-- one reaches 2^0.25 (19 %) further, up to bucket 96, which ends at 2^17 s (36 h) and holds all longer times, too.
CREATE OR REPLACE FUNCTION darkroom.bucket_of(seconds double precision) RETURNS integer LANGUAGE sql IMMUTABLE
RETURN CASE WHEN seconds IS NOT NULL THEN
    1 + least(95, greatest(0, floor(4 * ln(greatest(seconds, 0.001) * 128) / ln(2.0::double precision))))::integer END;

-- Return counts by bucket, from the first one to the last that isn't empty, of numbers of buckets and how often each is
-- to be counted. A bucket may occur more than once.
CREATE OR REPLACE FUNCTION darkroom.bucket_counts(buckets integer[], numbers bigint[]) RETURNS bigint[]
LANGUAGE sql IMMUTABLE
RETURN ARRAY(SELECT coalesce(sum(b.number), 0)::bigint
             FROM generate_series(1, (SELECT max(m.bucket) FROM unnest(buckets) m (bucket))) g (bucket)
             LEFT JOIN unnest(buckets, numbers) b (bucket, number) ON b.bucket = g.bucket
             GROUP BY g.bucket ORDER BY g.bucket);

-- Return the sums of two arrays of counts, of which one may be longer.
CREATE OR REPLACE FUNCTION darkroom.added_counts(counts bigint[], further bigint[]) RETURNS bigint[]
LANGUAGE sql IMMUTABLE
RETURN ARRAY(SELECT coalesce(c.one, 0) + coalesce(c.other, 0)
             FROM unnest(counts, further) WITH ORDINALITY c (one, other, bucket) ORDER BY c.bucket);

-- Return the time, in seconds, below which a fraction of the counted times lies, interpolated within its bucket. It is
-- NULL if nothing was counted.
CREATE OR REPLACE FUNCTION darkroom.quantile_s(counts double precision[], fraction double precision)
RETURNS double precision
LANGUAGE sql IMMUTABLE
RETURN (SELECT b.least_s + (2 ^ (b.bucket / 4.0 - 7) - b.least_s) * least(1, (b.upto - b.below) / b.number)
        FROM (SELECT c.bucket, c.number, sum(c.number) OVER (ORDER BY c.bucket) - c.number AS below,
                     fraction * sum(c.number) OVER () AS upto,
                     CASE WHEN c.bucket = 1 THEN 0 ELSE 2 ^ ((c.bucket - 1) / 4.0 - 7) END AS least_s
              FROM unnest(counts) WITH ORDINALITY c (number, bucket)) b
        WHERE b.number > 0 AND b.below + b.number >= b.upto * 0.999999999 ORDER BY b.bucket LIMIT 1);

-- Return the squared coefficient of variation of counted times (their variance by the square of their mean), each of which
-- counts as the middle of its bucket; NULL if nothing was counted.
CREATE OR REPLACE FUNCTION darkroom.variability_of(counts double precision[]) RETURNS double precision
LANGUAGE sql IMMUTABLE
RETURN (SELECT greatest(0, sum(c.number) * sum(c.number * power(2, c.bucket / 2.0 - 14.25))
                           / nullif(power(sum(c.number * power(2, c.bucket / 4.0 - 7.125)), 2), 0) - 1)
        FROM unnest(counts) WITH ORDINALITY c (number, bucket));

-- Return, for each stage that was seen, how long it takes for jobs of a type and a tier: the mean and some quantiles of
-- its last runs, and their counts by bucket, for other quantiles (darkroom.quantile_s). Where fewer than 20 such runs
-- were seen, those of all tiers of the type count, and where these are fewer, too, those of the stage in all jobs; if
-- even these are fewer, the same with 5 and with 1. `basis` says which it was: tier, type or stage.
CREATE OR REPLACE FUNCTION darkroom.stage_times(of_type text, of_tier text)
RETURNS TABLE (stage text, runs double precision, mean_s double precision, p05_s double precision,
               p25_s double precision, p50_s double precision, p75_s double precision, p95_s double precision,
               counts double precision[], basis text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    WITH seen AS (
        SELECT k.rank, k.basis, r.stage, sum(r.runs) AS runs, sum(r.seconds) AS seconds
        FROM darkroom.recent_stages r
        CROSS JOIN LATERAL (VALUES (1, 'tier', r.job_type = of_type AND r.tier = of_tier),
                                   (2, 'type', r.job_type = of_type), (3, 'stage', true)) k (rank, basis, is_counted)
        WHERE k.is_counted AND r.runs > 0 GROUP BY k.rank, k.basis, r.stage),
    chosen AS (
        SELECT DISTINCT ON (s.stage) s.* FROM seen s
        ORDER BY s.stage, s.runs < 20, s.runs < 5, s.rank),
    counted AS (
        SELECT c.stage, g.bucket, sum(coalesce(r.counts[g.bucket], 0)) AS number
        FROM chosen c
        JOIN darkroom.recent_stages r ON r.stage = c.stage AND (c.basis = 'stage' OR r.job_type = of_type)
            AND (c.basis <> 'tier' OR r.tier = of_tier)
        CROSS JOIN LATERAL generate_series(1, cardinality(r.counts)) g (bucket)
        GROUP BY c.stage, g.bucket),
    distributions AS (
        SELECT d.stage, array_agg(d.number ORDER BY d.bucket) AS counts FROM counted d GROUP BY d.stage)
    SELECT c.stage, c.runs, c.seconds / c.runs, darkroom.quantile_s(d.counts, 0.05),
           darkroom.quantile_s(d.counts, 0.25), darkroom.quantile_s(d.counts, 0.5),
           darkroom.quantile_s(d.counts, 0.75), darkroom.quantile_s(d.counts, 0.95), d.counts, c.basis
    FROM chosen c JOIN distributions d ON d.stage = c.stage ORDER BY c.stage
$$;

-- Return how a stage's last runs are counted once further ones have ended: these in full, and as much of the earlier
-- ones as keeps the sum at 500.
CREATE OR REPLACE FUNCTION darkroom.recent_counts(earlier double precision[], further bigint[])
RETURNS double precision[]
LANGUAGE sql IMMUTABLE
RETURN ARRAY(
    SELECT coalesce(c.earlier, 0) * coalesce(least(1, greatest(0, 500 - k.new) / nullif(k.old, 0)), 0)
           + coalesce(c.further, 0)
    FROM (SELECT (SELECT coalesce(sum(e.number), 0) FROM unnest(earlier) e (number)) AS old,
                 (SELECT coalesce(sum(f.number), 0)::double precision FROM unnest(further) f (number)) AS new) k
    CROSS JOIN unnest(earlier, further) WITH ORDINALITY c (earlier, further, bucket) ORDER BY c.bucket);

-- Roll up and delete up to so many ends of jobs, in the caller's transaction; return how many there were.
CREATE OR REPLACE FUNCTION darkroom.roll_up_ends(most integer) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
    jobs bigint;
BEGIN
    WITH ended AS MATERIALIZED (
        DELETE FROM darkroom.job_ends e
        WHERE e.ctid = ANY (ARRAY(SELECT o.ctid FROM darkroom.job_ends o LIMIT most FOR UPDATE SKIP LOCKED))
        RETURNING date_trunc('minute', e.at, 'UTC') AS minute, e.job_type, e.tier, e.outcome, e.wait_s, e.run_s),
    sums AS (
        SELECT e.minute, e.job_type, e.tier, e.outcome, count(*) AS jobs, sum(e.wait_s::double precision) AS wait_s,
               coalesce(sum(e.run_s::double precision), 0) AS run_s,
               array_agg(darkroom.bucket_of(e.wait_s)) AS waits,
               array_agg(darkroom.bucket_of(e.run_s)) FILTER (WHERE e.run_s IS NOT NULL) AS runs
        FROM ended e GROUP BY 1, 2, 3, 4),
    written AS (
        INSERT INTO darkroom.job_minutes AS m
        SELECT s.minute, s.job_type, s.tier, s.outcome, s.jobs, s.wait_s, s.run_s,
               darkroom.bucket_counts(s.waits, array_fill(1::bigint, ARRAY[cardinality(s.waits)])),
               darkroom.bucket_counts(s.runs, array_fill(1::bigint, ARRAY[coalesce(cardinality(s.runs), 0)]))
        FROM sums s ORDER BY 1, 2, 3, 4
        ON CONFLICT (minute, job_type, tier, outcome) DO UPDATE
        SET jobs = m.jobs + excluded.jobs, wait_s = m.wait_s + excluded.wait_s, run_s = m.run_s + excluded.run_s,
            wait_counts = darkroom.added_counts(m.wait_counts, excluded.wait_counts),
            run_counts = darkroom.added_counts(m.run_counts, excluded.run_counts))
    SELECT coalesce(sum(s.jobs), 0) INTO jobs FROM sums s;
    RETURN jobs;
END $$;

-- Lock the cursor of stage_runs until the end of the transaction, and return it with the newest safe_id. Ids are given
-- before their rows are committed, so a row may appear below ids that were read already. But whoever writes rows holds
-- a lock on the table from before he gets an id until his transaction has ended. So all rows up to an id are decided
-- once all transactions have ended that held such a lock after the id had been given. No transaction waits for that,
-- and transactions that don't write the history, however long they stay open, delay nothing.
CREATE OR REPLACE FUNCTION darkroom.locked_rollup_cursor() RETURNS darkroom.rollup_cursor
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    cell darkroom.rollup_cursor;
    given bigint := coalesce(pg_sequence_last_value('darkroom.stage_runs_id_seq'::regclass), 0);
    open text[];
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'roll-ups need READ COMMITTED: an older snapshot doesn''t see all rows whose writers have ended';
    END IF;
    -- It begins with the oldest row; but with none if there are roll-ups, so that only the cursor was lost
    INSERT INTO darkroom.rollup_cursor (source, last_id, safe_id, next_id, writers)
    SELECT 'stage_runs', k.id, k.id, k.id, '{}'
    FROM (SELECT CASE WHEN EXISTS (SELECT FROM darkroom.stage_minutes) OR EXISTS (SELECT FROM darkroom.stage_hours)
                      THEN given ELSE 0 END AS id) k
    ON CONFLICT DO NOTHING;
    SELECT c.* INTO cell FROM darkroom.rollup_cursor c WHERE c.source = 'stage_runs' FOR UPDATE;
    given := coalesce(pg_sequence_last_value('darkroom.stage_runs_id_seq'::regclass), 0); -- before the locks are read
    open := ARRAY(SELECT DISTINCT l.virtualtransaction FROM pg_locks l
                  WHERE l.locktype = 'relation' AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
                    AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
                    AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
                    AND (l.relation = 'darkroom.stage_runs'::regclass
                         OR l.relation IN (SELECT i.inhrelid FROM pg_inherits i
                                           WHERE i.inhparent = 'darkroom.stage_runs'::regclass)));
    -- A sequence that was set back gives ids of rows that may be in the roll-ups: nothing is read until it is repaired
    IF NOT cell.writers && open THEN
        cell.safe_id := greatest(cell.safe_id, CASE WHEN open = '{}' THEN given ELSE cell.next_id END);
        cell.next_id := greatest(cell.next_id, given);
        cell.writers := open;
    END IF;
    UPDATE darkroom.rollup_cursor c
    SET safe_id = cell.safe_id, next_id = cell.next_id, writers = cell.writers WHERE c.source = 'stage_runs';
    RETURN cell;
END $$;

-- Roll up the rows of stage_runs with the next `ids` ids, in the caller's transaction. Return how many there were, and
-- whether none are left that can be rolled up now.
CREATE OR REPLACE FUNCTION darkroom.roll_up_stage_runs(ids bigint, OUT events bigint, OUT is_done boolean)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan SET enable_bitmapscan = on SET enable_seqscan = off SET enable_nestloop = off
SET enable_hashjoin = on SET jit = off AS $$
DECLARE
    cursor_now darkroom.rollup_cursor := darkroom.locked_rollup_cursor();
    upto bigint := least(cursor_now.last_id + ids, cursor_now.safe_id);
BEGIN
    is_done := upto = cursor_now.safe_id;
    events := 0;
    IF upto <= cursor_now.last_id THEN
        RETURN;
    END IF;
    -- one statement later than the locks were read, so that all of these rows are seen
    WITH runs AS MATERIALIZED (
        SELECT r.at, r.job_type, r.job_id, coalesce(r.stage, '') AS stage, r.event,
               r.duration_ms / 1000.0::double precision AS seconds
        FROM darkroom.stage_runs r WHERE r.id > cursor_now.last_id AND r.id <= upto),
    tiers AS MATERIALIZED (
        SELECT j.type, j.id, j.tier FROM darkroom.jobs_of(ARRAY(SELECT DISTINCT r.job_id FROM runs r)) j),
    pieces AS (
        SELECT date_trunc('minute', r.at, 'UTC') AS minute, r.job_type, coalesce(t.tier, '') AS tier, r.stage, r.event,
               darkroom.bucket_of(r.seconds) AS bucket, count(*) AS number, coalesce(sum(r.seconds), 0) AS seconds
        FROM runs r LEFT JOIN tiers t ON t.id = r.job_id AND t.type = r.job_type
        GROUP BY 1, 2, 3, 4, 5, 6),
    sums AS MATERIALIZED (
        SELECT p.minute, p.job_type, p.tier, p.stage, p.event, sum(p.number)::bigint AS events,
               sum(p.seconds) AS seconds,
               darkroom.bucket_counts(array_agg(p.bucket) FILTER (WHERE p.bucket IS NOT NULL),
                                      array_agg(p.number) FILTER (WHERE p.bucket IS NOT NULL)) AS counts
        FROM pieces p GROUP BY 1, 2, 3, 4, 5),
    rolled_up AS (
        INSERT INTO darkroom.stage_minutes AS m
        SELECT s.* FROM sums s ORDER BY 1, 2, 3, 4, 5
        ON CONFLICT (minute, job_type, tier, stage, event) DO UPDATE
        SET events = m.events + excluded.events, seconds = m.seconds + excluded.seconds,
            counts = darkroom.added_counts(m.counts, excluded.counts)),
    last_runs AS (
        SELECT p.job_type, p.tier, p.stage, sum(p.number)::double precision AS runs, sum(p.seconds) AS seconds,
               darkroom.bucket_counts(array_agg(p.bucket), array_agg(p.number)) AS counts
        FROM pieces p WHERE p.event = 'finished' AND p.bucket IS NOT NULL GROUP BY 1, 2, 3),
    remembered AS (
        INSERT INTO darkroom.recent_stages AS k (job_type, tier, stage, runs, seconds, counts)
        SELECT l.* FROM last_runs l ORDER BY 1, 2, 3
        ON CONFLICT (job_type, tier, stage) DO UPDATE
        SET runs = k.runs * least(1, greatest(0, 500 - excluded.runs) / nullif(k.runs, 0)) + excluded.runs,
            seconds = k.seconds * least(1, greatest(0, 500 - excluded.runs) / nullif(k.runs, 0)) + excluded.seconds,
            counts = darkroom.recent_counts(k.counts, excluded.counts::bigint[]), updated_at = now())
    SELECT coalesce(sum(s.events), 0) INTO events FROM sums s;
    UPDATE darkroom.rollup_cursor c SET last_id = upto WHERE c.source = 'stage_runs';
END $$;

-- Fold the oldest hour of minutes that ended two days before a time into hours, in the caller's transaction; return the
-- number of minutes' rows, 0 if there is no such hour.
CREATE OR REPLACE FUNCTION darkroom.fold_hour(at timestamptz) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
    since timestamptz := date_trunc('hour', least((SELECT min(m.minute) FROM darkroom.job_minutes m),
                                                  (SELECT min(m.minute) FROM darkroom.stage_minutes m),
                                                  (SELECT min(m.minute) FROM darkroom.queue_minutes m)), 'UTC');
    until timestamptz := since + interval '1 hour';
    folded bigint := 0;
    number bigint;
BEGIN
    IF since IS NULL OR until > at - interval '2 days' THEN
        RETURN 0;
    END IF;
    WITH minutes AS MATERIALIZED (
        DELETE FROM darkroom.job_minutes m WHERE m.minute >= since AND m.minute < until RETURNING m.*),
    counted AS (
        SELECT m.job_type, m.tier, m.outcome, c.*
        FROM minutes m
        CROSS JOIN LATERAL (SELECT 'wait' AS kind, w.* FROM unnest(m.wait_counts) WITH ORDINALITY w (number, bucket)
                            UNION ALL
                            SELECT 'run', r.* FROM unnest(m.run_counts) WITH ORDINALITY r (number, bucket)) c),
    distributions AS (
        SELECT c.job_type, c.tier, c.outcome,
               darkroom.bucket_counts(array_agg(c.bucket::integer) FILTER (WHERE c.kind = 'wait'),
                                      array_agg(c.number) FILTER (WHERE c.kind = 'wait')) AS waits,
               darkroom.bucket_counts(array_agg(c.bucket::integer) FILTER (WHERE c.kind = 'run'),
                                      array_agg(c.number) FILTER (WHERE c.kind = 'run')) AS runs
        FROM counted c GROUP BY 1, 2, 3),
    written AS (
        INSERT INTO darkroom.job_hours AS h
        SELECT since, m.job_type, m.tier, m.outcome, sum(m.jobs)::bigint, sum(m.wait_s), sum(m.run_s),
               coalesce(min(d.waits), '{}'), coalesce(min(d.runs), '{}')
        FROM minutes m LEFT JOIN distributions d USING (job_type, tier, outcome)
        GROUP BY m.job_type, m.tier, m.outcome ORDER BY 2, 3, 4
        ON CONFLICT (hour, job_type, tier, outcome) DO UPDATE
        SET jobs = h.jobs + excluded.jobs, wait_s = h.wait_s + excluded.wait_s, run_s = h.run_s + excluded.run_s,
            wait_counts = darkroom.added_counts(h.wait_counts, excluded.wait_counts),
            run_counts = darkroom.added_counts(h.run_counts, excluded.run_counts))
    SELECT count(*) INTO number FROM minutes;
    folded := folded + number;
    WITH minutes AS MATERIALIZED (
        DELETE FROM darkroom.stage_minutes m WHERE m.minute >= since AND m.minute < until RETURNING m.*),
    distributions AS (
        SELECT m.job_type, m.tier, m.stage, m.event,
               darkroom.bucket_counts(array_agg(c.bucket::integer), array_agg(c.number)) AS counts
        FROM minutes m CROSS JOIN LATERAL unnest(m.counts) WITH ORDINALITY c (number, bucket) GROUP BY 1, 2, 3, 4),
    written AS (
        INSERT INTO darkroom.stage_hours AS h
        SELECT since, m.job_type, m.tier, m.stage, m.event, sum(m.events)::bigint, sum(m.seconds),
               coalesce(min(d.counts), '{}')
        FROM minutes m LEFT JOIN distributions d USING (job_type, tier, stage, event)
        GROUP BY m.job_type, m.tier, m.stage, m.event ORDER BY 2, 3, 4, 5
        ON CONFLICT (hour, job_type, tier, stage, event) DO UPDATE
        SET events = h.events + excluded.events, seconds = h.seconds + excluded.seconds,
            counts = darkroom.added_counts(h.counts, excluded.counts))
    SELECT count(*) INTO number FROM minutes;
    folded := folded + number;
    WITH minutes AS MATERIALIZED (
        DELETE FROM darkroom.queue_minutes m WHERE m.minute >= since AND m.minute < until RETURNING m.*),
    written AS (
        INSERT INTO darkroom.queue_hours AS h
        SELECT since, m.queue, m.status, round(avg(m.jobs))::bigint, avg(m.oldest_wait_s) FROM minutes m
        GROUP BY m.queue, m.status ORDER BY 2, 3
        ON CONFLICT (hour, queue, status) DO NOTHING)
    SELECT count(*) INTO number FROM minutes;
    RETURN folded + number;
END $$;
