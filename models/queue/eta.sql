-- How long until a job is over: the arithmetic of estimates. docs/eta.md derives it and has its measured errors.
--
-- Everything that an estimate needs of the queue is in one object of facts, which job_progress (progress.sql) gathers. The
-- simulation (bench/eta.py) makes the same facts of simulated queues and calls the same functions.

-- Return eight times, each as probable as the others, that the rest of a run may take in seconds. The run takes a mean
-- with a variance, and has taken so long already; 0 for one that hasn't begun. Times of runs are taken to be log-logistic,
-- which is close to lognormal and can be inverted.
CREATE OR REPLACE FUNCTION darkroom.rest_of_run(mean_s float8, variance float8, elapsed_s float8) RETURNS float8[]
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    sigma float8 := sqrt(greatest(ln(1 + variance / (mean_s * mean_s)), 0.01));
    shape float8 := 1.702 / sigma;
    scale float8 := mean_s * exp(-sigma * sigma / 2);
    past float8 := CASE WHEN elapsed_s > 0.01 * scale THEN 1 / (1 + power(least(elapsed_s / scale, 1e6), -shape)) ELSE 0 END;
    part float8;
    rests float8[] := '{}';
BEGIN
    FOR n IN 1..8 LOOP
        part := least(past + (n - 0.5) / 8 * (1 - past), 1 - 1e-9);
        rests := array_append(rests, greatest(0.001, scale * power(part / (1 - part), 1 / shape) - elapsed_s));
    END LOOP;
    RETURN rests;
END $$;

-- Return when a lane is free for a job, in seconds from now, and the variance of that; NULLs if there are no lanes. The
-- pool of lanes is an object:
--
--   lanes           how many jobs run at a time
--   running         of the running jobs, [mean, variance, elapsed seconds, number] of each kind
--   jobs            how many jobs can be claimed and come before it
--   mean, variance  of the seconds that one of the jobs before it takes
--   held            of jobs before it that wait for a slot of their users: [slots, jobs, users] of users who are alike
--   newcomers       of the running jobs whose users have none before it: how long each had waited for its claim
--   per_s           how many jobs a second have ended lately: no more newcomers than that are expected
CREATE OR REPLACE FUNCTION darkroom.lane_wait(pool jsonb, OUT wait_s float8, OUT variance float8)
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    lanes float8 := (pool ->> 'lanes')::float8;
    jobs float8 := (pool ->> 'jobs')::float8;
    mean float8 := (pool ->> 'mean')::float8;
    job_variance float8 := (pool ->> 'variance')::float8;
    in_progress float8 := (1 + job_variance / (mean * mean)) / 2;  -- of a job: how much of it is left at a random moment
    held jsonb := coalesce(pool -> 'held', '[]');
    kinds integer[];
    rests float8[];
    parts float8[];
    busy float8;
    joining float8 := 0;  -- newcomers a second who come before the job
    newcomers float8;
BEGIN
    SELECT array_agg(k.kind ORDER BY p.rest), array_agg(p.rest ORDER BY p.rest), array_agg(k.number / 8 ORDER BY p.rest),
           coalesce(sum(k.number / 8), 0)
    INTO kinds, rests, parts, busy
    FROM (SELECT r.kind, (r.value ->> 0)::float8 AS mean, (r.value ->> 1)::float8 AS variance,
                 (r.value ->> 2)::float8 AS elapsed, (r.value ->> 3)::float8 AS number
          FROM jsonb_array_elements(pool -> 'running') WITH ORDINALITY r (value, kind)) k
    CROSS JOIN LATERAL unnest(darkroom.rest_of_run(k.mean, k.variance, k.elapsed)) p (rest);
    IF lanes <= 0 THEN
        RETURN;
    END IF;
    IF lanes > busy THEN
        rests := array_prepend(0, rests);
        parts := array_prepend(lanes - busy, parts);
        kinds := array_prepend(0, kinds);
    ELSE
        jobs := jobs + busy - lanes;  -- as many jobs end before one may begin
    END IF;
    -- the median is where half of one more lane is given; and half of a step, of which a running job has eight
    jobs := jobs + 0.5625;
    wait_s := darkroom.lane_given_at(rests, parts, mean, in_progress, jobs, 0, held);
    newcomers := (SELECT count(*) FROM jsonb_array_elements_text(coalesce(pool -> 'newcomers', '[]')) n
                  WHERE n::float8 < wait_s / 2);
    IF newcomers > 0 THEN
        joining := least(newcomers / mean, (pool ->> 'per_s')::float8, 0.9 * lanes / mean);
        wait_s := darkroom.lane_given_at(rests, parts, mean, in_progress, jobs, joining, held);
    END IF;
    variance := 0;
    IF wait_s > 0 THEN
        -- the variance of how many lanes were given by then, by how many are given in a second
        SELECT sum(k.number * k.over * (1 - k.over)) + sum(k.used) / mean * job_variance / (mean * mean) + joining * wait_s
        INTO variance
        FROM (SELECT sum(p.part) AS number, count(*) FILTER (WHERE p.rest <= wait_s) / count(*)::float8 AS over,
                     sum(p.part * greatest(wait_s - p.rest, 0)) AS used
              FROM unnest(rests, parts, kinds) p (rest, part, kind) GROUP BY p.kind) k;
        variance := variance * power(0.4 * wait_s / greatest(
            darkroom.lanes_given(rests, parts, mean, in_progress, 1.2 * wait_s)
            - darkroom.lanes_given(rests, parts, mean, in_progress, 0.8 * wait_s) - 0.4 * wait_s * joining, 1e-6), 2);
    END IF;
END $$;

-- Return when so many jobs have got a lane, in seconds: those of lanes_given, less those that join, and those that get a
-- slot of their users'.
CREATE OR REPLACE FUNCTION darkroom.lane_given_at(rests float8[], parts float8[], mean float8, in_progress float8,
                                       jobs float8, joining float8, held jsonb) RETURNS float8
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    is_held boolean := held <> '[]';
    given float8 := 0;  -- lanes that running jobs have handed over
    given_s float8 := 0;  -- the sum of when they did
    at float8;
    rate float8;
    slotless float8;
    before float8;
    past float8 := 0;
    until float8;
BEGIN
    FOR n IN 1..cardinality(rests) LOOP
        past := rests[n];
        given := given + parts[n];
        given_s := given_s + parts[n] * past;
        IF given >= jobs + joining * past AND (NOT is_held OR given >= jobs + joining * past
                                               + darkroom.slots_given(held, mean, past)) THEN
            RETURN past;
        END IF;
        until := coalesce(rests[n + 1], 1e9);
        rate := greatest(given / mean - joining, 0.1 * given / mean);
        at := greatest(past, (jobs - in_progress * given + given_s / mean) / rate);
        IF is_held THEN
            slotless := at;
            FOR step IN 1..40 LOOP
                EXIT WHEN at >= until;
                before := at;
                at := slotless + darkroom.slots_given(held, mean, at) / rate;
                EXIT WHEN at <= 1.01 * before;
            END LOOP;
        END IF;
        IF at < until THEN
            RETURN at;
        END IF;
    END LOOP;
    RETURN 1e9;
END $$;

-- Return how many jobs have got a lane after so many seconds: each running job hands its lane over when it ends
-- (`rests`, each counted as a part of a lane), and from then on the lane takes one job after the other.
CREATE OR REPLACE FUNCTION darkroom.lanes_given(rests float8[], parts float8[], mean float8, in_progress float8, at float8)
RETURNS float8 LANGUAGE sql IMMUTABLE
RETURN (SELECT coalesce(greatest(sum(p.part), sum(p.part * (in_progress + (at - p.rest) / mean))), 0)
        FROM unnest(rests, parts) p (rest, part) WHERE p.rest <= at);

-- Return how many jobs that wait for a slot of their users get one within so many seconds.
CREATE OR REPLACE FUNCTION darkroom.slots_given(held jsonb, mean float8, at float8) RETURNS float8 LANGUAGE sql IMMUTABLE
RETURN (SELECT coalesce(sum(least((h.value ->> 1)::float8, (h.value ->> 0)::float8 * at / mean) * (h.value ->> 2)::float8), 0)
        FROM jsonb_array_elements(held) h);

-- Return when a job is over, in seconds from now: the median, and the spread of its logarithm; NULLs if there is no lane
-- for it. The facts are an object:
--
--   own       [mean, variance, elapsed seconds] of what is left of its run, or of the whole run if `elapsed` is given
--   pools     the lanes that it needs at once (lane_wait): of its queue's workers, and, if it has a cap, of its user
--   delay_s   seconds before which it can't be claimed
--   shut_s    seconds before which no provider takes calls
--   calls     how many calls are made before its last one ends, of which a minute takes `per_minute`, and `used` were
--             made in the last minute
CREATE OR REPLACE FUNCTION darkroom.estimate(facts jsonb, OUT median_s float8, OUT spread float8)
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own_mean float8 := (facts #>> '{own,0}')::float8;
    own_variance float8 := (facts #>> '{own,1}')::float8;
    elapsed float8 := (facts #>> '{own,2}')::float8;
    per_minute float8 := (facts ->> 'per_minute')::float8;
    queued_calls float8;
    start float8 := 0;
    start_variance float8 := 0;
    pool record;
    relative float8;
BEGIN
    IF elapsed IS NOT NULL THEN
        SELECT avg(r), var_pop(r) INTO own_mean, own_variance
        FROM unnest(darkroom.rest_of_run(own_mean, own_variance, elapsed)) r;
    END IF;
    FOR pool IN SELECT w.* FROM jsonb_array_elements(coalesce(facts -> 'pools', '[]')) p
                CROSS JOIN LATERAL darkroom.lane_wait(p) w LOOP
        IF pool.wait_s IS NULL THEN
            RETURN;
        END IF;
        IF pool.wait_s >= start THEN
            start := pool.wait_s;
            start_variance := pool.variance;
        END IF;
    END LOOP;
    start := start + coalesce((facts ->> 'shut_s')::float8, 0);
    IF per_minute > 0 THEN
        queued_calls := (facts ->> 'calls')::float8 - greatest(per_minute - (facts ->> 'used')::float8, 0);
        IF queued_calls / per_minute * 61 > start THEN
            start := queued_calls / per_minute * 61;
            start_variance := start_variance + 61 * 61 / 12.0;
        END IF;
    END IF;
    start_variance := start_variance + power(0.15 * start, 2);  -- nobody knows who will come
    IF (facts ->> 'delay_s')::float8 > start THEN
        start := (facts ->> 'delay_s')::float8;
        start_variance := 0;
    END IF;
    relative := (start_variance + own_variance) / power(start + own_mean, 2);
    median_s := (start + own_mean) / sqrt(1 + relative);
    spread := greatest(sqrt(ln(1 + relative)), 0.02);
END $$;

-- Return the ranges that hold half and nine tenths of the ends, from the scores of earlier estimates: ln(what it took /
-- median) / spread. Twenty values of a normal distribution, a little wider than the standard one, stand in for the first.
-- As long as there are fewer than 100 scores, these are wider where the spread is below 0.35, so that nine tenths are half to
-- twice the median or more: nothing is known yet of how fleet and load change here.
CREATE OR REPLACE FUNCTION darkroom.estimate_range(median_s float8, spread float8, scores float8[], OUT eta_s float8,
                                        OUT eta_50_low_s float8, OUT eta_50_high_s float8,
                                        OUT eta_90_low_s float8, OUT eta_90_high_s float8)
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    widening float8 := 1 + greatest(0.35 / spread - 1, 0) * greatest(1 - cardinality(scores) / 100.0, 0);
    times float8[];
BEGIN
    SELECT ARRAY(SELECT median_s * exp(least(spread * q.at, 20)) FROM unnest(percentile_cont('{0.5,0.25,0.75,0.05,0.95}'::float8[])
        WITHIN GROUP (ORDER BY s.score)) WITH ORDINALITY q (at, n) ORDER BY q.n)
    INTO times
    FROM (SELECT m.score FROM unnest(scores) m (score)
          UNION ALL SELECT n.score * widening FROM unnest('{-2.55,-1.87,-1.50,-1.21,-0.99,-0.78,-0.59,-0.41,-0.24,-0.08,
                            0.08,0.24,0.41,0.59,0.78,0.99,1.21,1.50,1.87,2.55}'::float8[]) n (score)) s;
    eta_s := times[1];
    eta_50_low_s := times[2];
    eta_50_high_s := times[3];
    eta_90_low_s := times[4];
    eta_90_high_s := times[5];
END $$;
