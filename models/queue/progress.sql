-- How far a job is: its place under the fair order, and an estimate of its end, for whoever polls.
--
-- Beside the job's own, no call reads more than 10,001 rows of the queue: those before it, and of the running ones as many
-- as that leaves.

-- Return how many seconds the stages of a type and tier take from a stage on, and their variance; the same of the stages
-- before the job leaves its queue for that of a later stage (`lane_s`, and that queue, or NULL); how long earlier stages of the
-- same queue take; and whether nothing of the type has run lately, so that ten seconds a stage are assumed.
CREATE OR REPLACE FUNCTION darkroom.times_from(of_type text, of_tier text, from_stage text, OUT mean_s float8,
                                    OUT variance float8, OUT lane_s float8, OUT lane_variance float8, OUT next_queue text,
                                    OUT before_s float8, OUT is_guess boolean)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    WITH stages AS (
        SELECT s.stage, s.n, darkroom.queue_of(s.stage, q.setting) AS queue
        FROM unnest(CASE WHEN from_stage IN ({{lone stages}}) THEN ARRAY[from_stage]
                         ELSE ARRAY[{{stages}}] END) WITH ORDINALITY s (stage, n)
        CROSS JOIN (SELECT darkroom.setting('stage_queues')) q (setting)),
    here AS (
        SELECT f.n, f.queue, (SELECT min(s.n) FROM stages s WHERE s.n > f.n AND s.queue <> f.queue) AS until
        FROM stages f
        WHERE f.n = coalesce((SELECT s.n FROM stages s WHERE s.stage = from_stage), 1)),
    times AS (
        SELECT s.n, s.n >= h.n AS is_left, s.n >= h.n AND s.n < coalesce(h.until, s.n + 1) AS is_here,
               s.n < h.n AND s.queue = h.queue AND t.basis <> 'stage' AS is_earlier, t.stage IS NULL AS is_guess,
               coalesce(t.mean_s, 10) AS mean_s,
               coalesce(greatest(darkroom.variability_of(t.counts), 0.0025) * t.mean_s * t.mean_s, 100) AS variance
        FROM stages s CROSS JOIN here h LEFT JOIN darkroom.stage_times(of_type, of_tier) t ON t.stage = s.stage)
    SELECT sum(t.mean_s) FILTER (WHERE t.is_left), sum(t.variance) FILTER (WHERE t.is_left),
           sum(t.mean_s) FILTER (WHERE t.is_here), sum(t.variance) FILTER (WHERE t.is_here),
           (SELECT s.queue FROM stages s JOIN here h ON s.n = h.until),
           coalesce(sum(t.mean_s) FILTER (WHERE t.is_earlier), 0), bool_or(t.is_guess) FILTER (WHERE t.is_left)
    FROM times t
$$;

-- Return how many jobs a second have ended in the last hour.
CREATE OR REPLACE FUNCTION darkroom.jobs_per_s() RETURNS float8 LANGUAGE sql STABLE
RETURN (SELECT coalesce(sum(m.jobs), 0) / 3600.0 FROM darkroom.job_minutes m
        WHERE m.minute >= date_trunc('minute', now() - interval '1 hour'));

-- Return what an estimate of a waiting job depends on: the facts of darkroom.estimate, and for people `before` (how many
-- jobs come before it), `is_cut` (whether they are more than 10,000), `lanes`, `workers`, `cap` and `is_guess`.
CREATE OR REPLACE FUNCTION darkroom.facts_of_wait(q darkroom.job_queue) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
SET jit = off AS $$
DECLARE
    pauses jsonb := coalesce(darkroom.setting('pauses'), '{}');
    caps jsonb := coalesce(darkroom.setting('user_caps'), '{}');
    cap integer;
    workers uuid[];
    lanes bigint;
    before bigint;
    is_cut boolean;
    made jsonb;
BEGIN
    SELECT array_agg(w.id), coalesce(sum(w.lanes), 0) INTO workers, lanes
    FROM darkroom.workers w WHERE w.lease_expires_at > clock_timestamp() AND q.queue = ANY (w.queues);
    IF caps <> '{}' THEN
        cap := (caps ->> coalesce(darkroom.tiers_of(ARRAY[q.user_id]) ->> q.user_id, 'FREE'))::bigint;
    END IF;
    WITH claimable AS MATERIALIZED (
            SELECT c.job_type, c.tier, c.stage, c.user_id, c.suspect_of
            FROM darkroom.job_queue c
            WHERE c.queue = q.queue AND c.ready AND c.status = 'pending' AND (c.position, c.id) < (q.position, q.id)
            ORDER BY c.position, c.id LIMIT 10001),
        held AS MATERIALIZED (
            SELECT h.job_type, h.tier, h.stage, h.user_id
            FROM darkroom.job_queue h
            WHERE h.queue = q.queue AND h.held_by = 'cap' AND (h.position, h.id) < (q.position, q.id)
            ORDER BY h.position, h.id LIMIT 10001 - (SELECT count(*) FROM claimable)),
        waiting AS MATERIALIZED (
            SELECT w.* FROM (
                SELECT c.job_type, c.tier, c.stage, c.user_id, false AS is_held FROM claimable c
                WHERE c.suspect_of IS NULL
                UNION ALL SELECT h.job_type, h.tier, h.stage, h.user_id, true FROM held h) w
            WHERE darkroom.pause_of(w.job_type, w.tier, pauses) IS NULL),
        counted AS MATERIALIZED (
            SELECT (SELECT count(*) FROM claimable) + (SELECT count(*) FROM held) AS looked_at,
                   (SELECT count(*) FROM waiting) AS before),
        running AS MATERIALIZED (
            SELECT r.job_type, r.tier, r.stage, r.user_id,
                   extract(epoch FROM clock_timestamp() - r.started_at)::float8 AS elapsed,
                   extract(epoch FROM coalesce(r.claimed_at, r.started_at) - greatest(r.created_at, r.run_at))::float8 AS waited
            FROM darkroom.job_queue r WHERE r.worker_id = ANY (workers) AND r.status = 'processing'
            LIMIT greatest(0, 10000 - (SELECT c.looked_at FROM counted c))),
        kinds AS MATERIALIZED (
            SELECT k.*, t.* FROM (
                SELECT w.job_type, w.tier, w.stage FROM waiting w UNION SELECT r.job_type, r.tier, r.stage FROM running r
                UNION SELECT q.job_type, q.tier, q.stage) k
            CROSS JOIN LATERAL darkroom.times_from(k.job_type, k.tier, k.stage) t),
        own AS MATERIALIZED (
            SELECT k.* FROM kinds k WHERE (k.job_type, k.tier, k.stage) = (q.job_type, q.tier, q.stage)),
        begun AS MATERIALIZED (
            SELECT r.user_id, r.waited, k.lane_s AS mean_s, k.lane_variance AS variance,
                   round(greatest(0, r.elapsed - k.before_s) / k.lane_s * 4) * k.lane_s / 4 AS elapsed
            FROM running r JOIN kinds k USING (job_type, tier, stage)),
        jobs AS MATERIALIZED (
            SELECT w.user_id, w.is_held, k.lane_s AS mean_s, k.lane_variance AS variance, w.user_id = q.user_id AS is_own
            FROM waiting w JOIN kinds k USING (job_type, tier, stage)),
        users AS MATERIALIZED (SELECT j.user_id, count(*) FILTER (WHERE j.is_held) AS held FROM jobs j GROUP BY 1),
        slots AS (
            SELECT s.slots, s.held, count(*) AS users FROM (
                SELECT (caps ->> coalesce(darkroom.tiers_of((SELECT array_agg(x.user_id) FROM users x WHERE x.held > 0))
                                          ->> u.user_id, 'FREE'))::bigint AS slots, u.held
                FROM users u WHERE u.held > 0) s
            GROUP BY 1, 2),
        pools AS (
            SELECT p.n, jsonb_build_object(
                'lanes', CASE p.n WHEN 1 THEN lanes ELSE cap END,
                'jobs', (SELECT count(*) FROM jobs j WHERE CASE p.n WHEN 1 THEN NOT j.is_held ELSE j.is_own END),
                'mean', coalesce(m.mean_s, (SELECT o.lane_s FROM own o)),
                'variance', coalesce(m.variance, (SELECT o.lane_variance FROM own o)),
                'running', coalesce((
                    SELECT jsonb_agg(jsonb_build_array(a.mean_s, a.variance, a.elapsed, a.number)) FROM (
                        SELECT b.mean_s, b.variance, b.elapsed, count(*) AS number FROM begun b
                        WHERE p.n = 1 OR b.user_id = q.user_id GROUP BY 1, 2, 3) a), '[]'))
                || CASE WHEN p.n = 1 THEN jsonb_build_object(
                    'per_s', (SELECT j.per_s FROM darkroom.jobs_per_s() j (per_s)),
                    'held', coalesce((SELECT jsonb_agg(jsonb_build_array(coalesce(s.slots, s.held), s.held, s.users))
                                      FROM slots s), '[]'),
                    'newcomers', CASE WHEN q.position > darkroom.virtual_time(q.queue) THEN coalesce((
                        SELECT jsonb_agg(b.waited) FROM begun b
                        WHERE b.user_id <> q.user_id AND b.user_id NOT IN (SELECT u.user_id FROM users u)), '[]')
                        ELSE '[]' END) ELSE '{}' END AS pool
            FROM generate_series(1, CASE WHEN cap IS NULL THEN 1 ELSE 2 END) p (n)
            CROSS JOIN LATERAL (
                SELECT avg(j.mean_s) AS mean_s, avg(j.variance + j.mean_s * j.mean_s) - power(avg(j.mean_s), 2) AS variance
                FROM jobs j WHERE p.n = 1 OR j.is_own) m)
    SELECT jsonb_build_object(
            'own', (SELECT jsonb_build_array(o.mean_s, o.variance) FROM own o),
            'pools', (SELECT jsonb_agg(p.pool ORDER BY p.n) FROM pools p),
            'before', c.before, 'is_cut', c.looked_at > 10000, 'lanes', lanes,
            'workers', coalesce(cardinality(workers), 0), 'cap', cap, 'is_guess', (SELECT o.is_guess FROM own o),
            'next_queue', (SELECT o.next_queue FROM own o),
            'calls', 1.5 * (c.before + (SELECT count(*) FROM running)) + CASE q.stage WHEN {{last stage}} THEN 1 ELSE 2 END)
    INTO made FROM counted c;
    RETURN made;
END $$;

-- Return why a job isn't claimed yet, for people: how many jobs can be claimed before it, which are as alone as it is (NULL if
-- more than 10,000 can be claimed before it); if it waits for a slot, how many slots its user has taken, counted to 5,000;
-- and the lanes of its queue, and whether they are full. No more than 10,001 rows beside the job's own are read: running ones
-- only as far as the others leave room. Where they leave none, the lanes are taken to be full.
CREATE OR REPLACE FUNCTION darkroom.turn_of(q darkroom.job_queue, OUT before_it bigint, OUT users_slots bigint,
                                 OUT lanes bigint, OUT is_full boolean)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
SET jit = off AS $$
DECLARE
    workers uuid[];
    looked_at bigint;
    look_at bigint;
BEGIN
    SELECT array_agg(w.id), coalesce(sum(w.lanes), 0) INTO workers, lanes
    FROM darkroom.workers w WHERE w.lease_expires_at > clock_timestamp() AND q.queue = ANY (w.queues);
    users_slots := 0;
    IF q.held_by = 'cap' THEN
        SELECT count(*), count(*) INTO users_slots, looked_at
        FROM ((SELECT FROM darkroom.job_queue o WHERE o.user_id = q.user_id AND o.status = 'processing' LIMIT 2500)
              UNION ALL (SELECT FROM darkroom.job_queue o WHERE o.user_id = q.user_id AND o.status = 'pending' AND o.ready
                         LIMIT 2500)) s;
        before_it := 0;
    ELSE
        SELECT count(*), count(*) FILTER (WHERE (c.suspect_of IS NULL) = (q.suspect_of IS NULL)) INTO looked_at, before_it
        FROM (SELECT o.suspect_of FROM darkroom.job_queue o
              WHERE o.queue = q.queue AND o.ready AND o.status = 'pending' AND (o.position, o.id) < (q.position, q.id)
              ORDER BY o.position, o.id LIMIT 10001) c;
        IF looked_at > 10000 THEN
            before_it := NULL;
        END IF;
    END IF;
    look_at := least(lanes, 10001 - looked_at);
    is_full := look_at <= (SELECT count(*) FROM (
        SELECT FROM darkroom.job_queue r WHERE r.worker_id = ANY (workers) AND r.status = 'processing' LIMIT look_at) r);
END $$;

-- Return what providers do to a job that waits or runs: `stopped`, why no provider takes calls until an operator changes
-- that; else shut_s, per_minute and used as darkroom.estimate takes them, `ceiling`, how many calls may be made at a time,
-- and `provider`, which is called. Workers record which providers they ask and with which limits.
CREATE OR REPLACE FUNCTION darkroom.facts_of_providers() RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
    recorded jsonb := coalesce(darkroom.setting('provider_rules'), '[]');
    pauses jsonb := coalesce(darkroom.setting('pauses'), '{}');
    is_buying_stopped boolean := coalesce((darkroom.setting('buying') ->> 'stopped')::boolean, false);
    stopped text;
    shut jsonb;
    one jsonb;
    rules jsonb;
    state jsonb;
    name text;
    wait_s float8;
    made jsonb;
BEGIN
    FOR one IN SELECT r.value FROM jsonb_array_elements(recorded) WITH ORDINALITY r ORDER BY r.ordinality LOOP
        name := one ->> 'name';
        rules := one -> 'rules';
        IF pauses ? ('provider:' || name) THEN
            stopped := coalesce(stopped, format('an operator paused provider %s', name));
            CONTINUE;
        END IF;
        IF is_buying_stopped AND (one ->> 'is_paid')::boolean THEN
            stopped := coalesce(stopped, 'buying is stopped');
            CONTINUE;
        END IF;
        state := coalesce((SELECT c.state FROM darkroom.cell('provider', name, 'epoch') c), '{}');
        wait_s := coalesce(extract(epoch FROM greatest((state ->> 'paused_until')::timestamptz,
                                                       (state ->> 'open_until')::timestamptz) - clock_timestamp()), 0);
        made := jsonb_build_object('provider', name, 'shut_s', greatest(wait_s, 0));
        IF (one ->> 'is_paid')::boolean THEN
            made := made || jsonb_build_object('ceiling', floor(least(
                coalesce((state ->> 'ceiling')::numeric, (rules ->> 'first_concurrency')::numeric, {{first concurrent}}),
                (rules ->> 'concurrency')::numeric)));
            IF rules ? 'requests_per_minute' THEN
                made := made || jsonb_build_object('per_minute', (rules ->> 'requests_per_minute')::integer,
                    'used', (SELECT count(*) FROM (
                        SELECT FROM darkroom.provider_calls c
                        WHERE c.provider = name AND c.started_at > clock_timestamp() - interval '61 seconds' AND c.was_sent
                        ORDER BY c.started_at DESC LIMIT (rules ->> 'requests_per_minute')::integer) m));
            END IF;
        END IF;
        IF wait_s <= 0 THEN
            RETURN made;
        END IF;
        IF shut IS NULL OR wait_s < (shut ->> 'shut_s')::float8 THEN
            shut := made;
        END IF;
    END LOOP;
    RETURN coalesce(shut, CASE WHEN stopped IS NULL THEN '{}' ELSE jsonb_build_object('stopped', stopped) END);
END $$;

-- Return the facts of darkroom.estimate about a queue row's job, its place, and in words what it waits for. Without an
-- estimate, `facts` has no `own`.
CREATE OR REPLACE FUNCTION darkroom.outlook(q darkroom.job_queue, OUT facts jsonb, OUT place bigint, OUT waits_for text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    pauses jsonb := coalesce(darkroom.setting('pauses'), '{}');
    pause text := CASE WHEN pauses ? ('queue:' || q.queue) THEN 'queue:' || q.queue
                       ELSE darkroom.pause_of(q.job_type, q.tier, pauses) END;
    providers jsonb := darkroom.facts_of_providers();
    due_s float8 := greatest(extract(epoch FROM q.scheduled_at - clock_timestamp()), 0);
    ceiling float8 := (providers ->> 'ceiling')::float8;
    own record;
    words text[] := '{}';
BEGIN
    IF q.status = 'processing' THEN
        IF NOT EXISTS (SELECT FROM darkroom.workers w WHERE w.id = q.worker_id AND w.lease_expires_at > clock_timestamp()) THEN
            facts := '{}';
            waits_for := 'its worker is dead: it is about to be taken back';
            RETURN;
        END IF;
        SELECT t.* INTO own FROM darkroom.times_from(q.job_type, q.tier, q.stage) t;
        facts := jsonb_build_object('own', jsonb_build_array(own.mean_s, own.variance, greatest(0,
            extract(epoch FROM clock_timestamp() - q.started_at) - own.before_s)), 'is_running', true);
        facts := facts || jsonb_build_object('passed_s', facts #> '{own,2}');
        RETURN;
    END IF;
    facts := darkroom.facts_of_wait(q) || providers;
    IF q.status = 'pending' AND q.suspect_of IS NULL AND NOT (facts ->> 'is_cut')::boolean THEN
        place := (facts ->> 'before')::bigint + 1;
    END IF;
    IF pause IS NOT NULL THEN
        words := words || format('an operator paused %s %s', split_part(pause, ':', 1), substr(pause, strpos(pause, ':') + 1));
    END IF;
    IF q.refused_since IS NOT NULL THEN
        words := words || 'the database refuses to start it'::text;
    ELSIF q.status = 'retrying' AND isfinite(q.scheduled_at) THEN
        words := words || format(CASE WHEN q.run_at > clock_timestamp() THEN 'it may begin at %s'
                                      ELSE 'it is tried again at %s' END,
                                 to_char(q.scheduled_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"'));
    ELSIF q.status = 'retrying' THEN
        words := words || 'its producer has to let it begin'::text;
    END IF;
    IF q.suspect_of IS NOT NULL THEN
        words := words || 'it runs alone, in a worker process that runs nothing else'::text;
    END IF;
    IF providers ? 'stopped' THEN
        words := words || (providers ->> 'stopped');
    END IF;
    IF (facts ->> 'lanes')::bigint = 0 THEN
        words := words || format('no live worker serves queue %s', q.queue);
    END IF;
    IF words <> '{}' AND NOT (q.status = 'retrying' AND cardinality(words) = 1 AND q.refused_since IS NULL
                              AND isfinite(q.scheduled_at)) THEN
        facts := facts - 'own';
    END IF;
    IF q.status = 'pending' THEN
        IF (facts ->> 'is_cut')::boolean THEN
            facts := facts - 'own';
            words := words || 'more than 10,000 jobs before it'::text;
        ELSE
            words := words || format('%s before it', darkroom.number_of((facts ->> 'before')::bigint, 'job'));
        END IF;
    END IF;
    IF (facts ->> 'lanes')::bigint > 0 THEN
        words := words || ARRAY[darkroom.number_of((facts ->> 'lanes')::bigint, 'lane'),
                                darkroom.number_of((facts ->> 'workers')::bigint, 'worker')];
    END IF;
    IF facts ->> 'cap' IS NOT NULL THEN
        words := words || format('at most %s of its user at a time', darkroom.number_of((facts ->> 'cap')::bigint, 'job'));
    END IF;
    IF facts ? 'own' THEN
        facts := facts || jsonb_build_object('delay_s', due_s, 'passed_s',
            greatest(0, extract(epoch FROM clock_timestamp() - greatest(q.created_at, q.run_at))));
        IF ceiling < (facts ->> 'lanes')::float8 THEN
            facts := jsonb_set(facts, '{pools,0,lanes}', to_jsonb(ceiling));
            words := words || format('%s at most %s at a time', providers ->> 'provider',
                                     darkroom.number_of(ceiling::bigint, 'call'));
        END IF;
        IF facts ? 'per_minute' THEN
            words := words || format('%s at most %s a minute', providers ->> 'provider',
                                     darkroom.number_of((facts ->> 'per_minute')::bigint, 'call'));
        END IF;
        IF (facts ->> 'shut_s')::float8 > 0 THEN
            words := words || format('%s takes no calls for %s s', providers ->> 'provider', ceil((facts ->> 'shut_s')::float8));
        END IF;
        IF (facts ->> 'is_guess')::boolean THEN
            words := words || '10 s a stage, since none like it has run lately'::text;
        END IF;
        IF facts ->> 'next_queue' IS NOT NULL THEN
            words := words || format('no wait in queue %s, where it goes on', facts ->> 'next_queue');
        END IF;
    END IF;
    waits_for := array_to_string(words, '; ');
END $$;

-- Return a number and its noun, such as `1 job` and `12,000 jobs`.
CREATE OR REPLACE FUNCTION darkroom.number_of(number bigint, noun text) RETURNS text LANGUAGE sql IMMUTABLE
RETURN trim(to_char(number, 'FM999,999,999,990')) || ' ' || noun || CASE number WHEN 1 THEN '' ELSE 's' END;

-- Return a job's status, and while it isn't over its place (1 is next; NULL if it waits for no turn, or if more than 10,000
-- jobs come before it), an estimate in seconds until it is over, with ranges that hold half and nine tenths of the ends,
-- and in words what it waits for and what the estimate assumes. Estimates are NULL as long as an operator's decision or
-- something else without an end in sight is in the way. No row means that there is no such job. An id that stands in two job
-- tables is refused.
CREATE OR REPLACE FUNCTION darkroom.job_progress(job_id text)
RETURNS TABLE (status text, stage text, attempt integer, place bigint, eta_s float8, eta_50_low_s float8,
               eta_50_high_s float8, eta_90_low_s float8, eta_90_high_s float8, waits_for text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    job record;
    q darkroom.job_queue;
    outlook record;
    found record;
    of_type text;
    of_id text := job_progress.job_id;
BEGIN
    PERFORM darkroom.require_jobs_shown(); -- a hidden job must not be reported as unknown
    LOOP
        SELECT count(*) OVER () AS number, j.type, coalesce(e.label, j.status) AS status, j."currentStage" AS stage,
               coalesce(e.label, j.status) NOT IN ('PENDING', 'PROCESSING') AS is_over
        INTO job FROM darkroom.jobs_of(ARRAY[of_id]) j
        LEFT JOIN darkroom.refused_ends e ON e.job_type = j.type AND e.job_id = j.id
        WHERE of_type IS NULL OR j.type = of_type;
        EXIT WHEN job.number = 1 OR of_type IS NOT NULL;
        -- no job has this id, so it may be a name; or several have it, which is an error
        SELECT n.type, n.id INTO of_type, of_id FROM darkroom.job_named(job_progress.job_id) n;
        EXIT WHEN of_type IS NULL;
    END LOOP;
    IF job.type IS NULL THEN
        RETURN;
    END IF;
    SELECT o.* INTO q FROM darkroom.job_queue o WHERE o.job_type = job.type AND o.job_id = of_id;
    IF job.is_over OR q.id IS NULL THEN
        RETURN QUERY SELECT job.status, CASE WHEN job.is_over THEN NULL ELSE job.stage END,
            (SELECT max(r.attempt) FROM darkroom.stage_runs r WHERE r.job_id = of_id AND r.job_type = job.type),
            NULL::bigint, NULL::float8, NULL::float8, NULL::float8, NULL::float8, NULL::float8,
            CASE WHEN NOT job.is_over THEN 'it is in no queue: a scheduler is about to add it or to end it' END;
        RETURN;
    END IF;
    SELECT o.* INTO outlook FROM darkroom.outlook(q) o;
    SELECT greatest(r.eta_s, w.at_least_s) AS eta_s,
           greatest(r.eta_50_low_s, w.at_least_s) AS eta_50_low_s, greatest(r.eta_50_high_s, w.at_least_s) AS eta_50_high_s,
           greatest(r.eta_90_low_s, w.at_least_s) AS eta_90_low_s, greatest(r.eta_90_high_s, w.at_least_s) AS eta_90_high_s
    INTO found FROM darkroom.estimate(outlook.facts) e
    CROSS JOIN LATERAL darkroom.estimate_range(e.median_s, e.spread,
                                               darkroom.scores(outlook.facts ? 'is_running', e.median_s,
                                                               (outlook.facts ->> 'passed_s')::float8, clock_timestamp())) r
    CROSS JOIN LATERAL ( -- it can't end before it may begin
        SELECT CASE WHEN r.eta_s IS NOT NULL THEN (outlook.facts ->> 'delay_s')::float8 END AS at_least_s) w
    WHERE outlook.facts ? 'own';
    RETURN QUERY SELECT job.status, q.stage, q.attempts, outlook.place, found.eta_s, found.eta_50_low_s,
        found.eta_50_high_s, found.eta_90_low_s, found.eta_90_high_s, outlook.waits_for;
END $$;
