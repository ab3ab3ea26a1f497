-- The provider's gate: whether a call may be made now, decided in the transaction that records its intent.
--
-- Counts are kept in the cells of cells.sql. Minutes are counted in provider_calls itself, so that no period of 60 s,
-- wherever it begins, holds more calls than the limit; one second more is counted, since calls admitted 60 s apart may
-- arrive a little closer to each other. The functions are VOLATILE, because each of their statements has to see what
-- was committed while a lock was waited for.

-- Return the beginning of the day of a moment, in a time zone.
CREATE OR REPLACE FUNCTION darkroom.day_start(at timestamptz, zone text) RETURNS timestamptz LANGUAGE sql STABLE
RETURN date_trunc('day', at AT TIME ZONE zone) AT TIME ZONE zone;

-- Return the end of the day of a moment, in a time zone.
CREATE OR REPLACE FUNCTION darkroom.day_end(at timestamptz, zone text) RETURNS timestamptz LANGUAGE sql STABLE
RETURN (date_trunc('day', at AT TIME ZONE zone) + interval '1 day') AT TIME ZONE zone;

-- Return the payer whose budget a job's calls count in; all jobs without an account share one.
CREATE OR REPLACE FUNCTION darkroom.payer_of(job_type text, job_id text, user_id text) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    CASE
    --: each job table
    WHEN job_type IN ({{types}}) THEN
        {{unpaid}}
    --: end
    END CASE; -- any other type raises an error: no table has such jobs
    --: if a job table is of another application
    user_id := darkroom.user_key(job_type, user_id);
    --: end
    RETURN 'user:' || user_id;
END $$;

-- Return why the rate limits per minute or day, of requests or images, don't allow a call now; NULLs if they do.
CREATE OR REPLACE FUNCTION darkroom.rate_wait(provider text, images integer, rules jsonb, at timestamptz,
                                   OUT wait_s float8, OUT kind text, OUT reason text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
#variable_conflict use_variable
DECLARE
    most integer;
    zone text := coalesce(rules ->> 'zone', {{zone}});
    day darkroom.limits;
    leaves timestamptz;
BEGIN
    day := darkroom.cell('provider_day', provider, darkroom.day_start(at, zone));
    IF coalesce(day.used, 0) + 1 > (rules ->> 'requests_per_day')::integer
            OR coalesce((day.state ->> 'images')::integer, 0) + images > (rules ->> 'images_per_day')::integer THEN
        wait_s := extract(epoch FROM darkroom.day_end(at, zone) - at);
        kind := 'quota';
        reason := format('its quota of %s for this day is used up',
            CASE WHEN coalesce(day.used, 0) + 1 > (rules ->> 'requests_per_day')::integer
                 THEN (rules ->> 'requests_per_day') || ' requests'
                 ELSE (rules ->> 'images_per_day') || ' images' END);
        RETURN;
    END IF;
    -- the call that has to be 60 s old before another one is allowed
    most := (rules ->> 'requests_per_minute')::integer;
    IF most IS NOT NULL THEN
        SELECT c.started_at INTO leaves FROM darkroom.provider_calls c
        WHERE c.provider = rate_wait.provider AND c.started_at > at - interval '61 seconds' AND c.was_sent
        ORDER BY c.started_at DESC OFFSET greatest(most, 1) - 1 LIMIT 1;
    END IF;
    IF leaves IS NULL AND images > 0 AND rules ? 'images_per_minute' THEN
        SELECT w.started_at INTO leaves FROM (
            SELECT c.started_at, sum(c.quoted_images) OVER (ORDER BY c.started_at DESC, c.id DESC) AS newer
            FROM darkroom.provider_calls c
            WHERE c.provider = rate_wait.provider AND c.started_at > at - interval '61 seconds' AND c.was_sent) w
        WHERE w.newer + images > (rules ->> 'images_per_minute')::integer ORDER BY w.started_at DESC LIMIT 1;
    END IF;
    IF leaves IS NOT NULL THEN
        wait_s := extract(epoch FROM leaves + interval '61 seconds' - at);
        kind := 'rate';
        reason := 'its rate for this minute is used up';
    END IF;
END $$;

-- Return the budgets that hold for a payer, and what has been counted in each. `is_free`: for a job of tier FREE.
CREATE OR REPLACE FUNCTION darkroom.budget_lines(payer text, budgets jsonb, at timestamptz, is_free boolean DEFAULT false)
RETURNS TABLE (label text, most numeric, spent numeric, is_usd boolean, is_day boolean)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    IF budgets = '{}' THEN
        RETURN;
    END IF;
    RETURN QUERY SELECT format(k.label, trim_scale((budgets ->> k.key)::numeric)), (budgets ->> k.key)::numeric,
        CASE WHEN k.counted IS NULL THEN coalesce(c.used, 0) ELSE coalesce((c.state ->> k.counted)::numeric, 0) END,
        k.counted IS NULL, k.is_day
    FROM (VALUES ('total_usd', 'all', false, NULL, 'budget of %s USD in all'),
                 ('total_calls', 'all', false, 'calls', 'budget of %s calls in all'),
                 ('day_usd', 'all', true, NULL, 'budget of %s USD a day'),
                 ('day_calls', 'all', true, 'calls', 'budget of %s calls a day'),
                 ('user_day_usd', 'user', true, NULL, 'budget of %s USD a day and user'),
                 ('user_day_calls', 'user', true, 'calls', 'budget of %s calls a day and user'),
                 ('free_user_day_calls', 'free', true, 'free_calls', 'budget of %s calls a day and user for FREE jobs'),
                 ('anonymous_day_usd', 'anonymous', true, NULL, 'budget of %s USD a day for anonymous jobs'),
                 ('anonymous_day_calls', 'anonymous', true, 'calls', 'budget of %s calls a day for anonymous jobs')
         ) AS k (key, who, is_day, counted, label)
    CROSS JOIN LATERAL darkroom.cell('budget', CASE WHEN k.who = 'all' THEN 'all' ELSE payer END,
        CASE WHEN k.is_day THEN darkroom.day_start(at, 'UTC') ELSE 'epoch' END) c
    WHERE budgets ? k.key AND (k.who = 'all' OR split_part(payer, ':', 1) = k.who
                               OR (k.who = 'free' AND is_free AND payer LIKE 'user:%'));
END $$;

-- Return which budget a call of this price would exceed, and for how long; NULLs if none.
CREATE OR REPLACE FUNCTION darkroom.budget_wait(payer text, price numeric, budgets jsonb, at timestamptz, is_free boolean,
                                     OUT wait_s float8, OUT kind text, OUT reason text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    line record;
BEGIN
    SELECT b.* INTO line FROM darkroom.budget_lines(payer, budgets, at, is_free) b
    WHERE b.spent + CASE WHEN b.is_usd THEN price ELSE 1 END > b.most
    ORDER BY b.is_day LIMIT 1; -- the budget that is exceeded for the longest time first
    IF FOUND THEN
        wait_s := CASE WHEN line.is_day THEN extract(epoch FROM darkroom.day_end(at, 'UTC') - at) ELSE 3600 END;
        kind := 'budget';
        reason := format('the %s is spent', line.label);
    END IF;
END $$;

-- Return why a provider may not be called now; kind is NULL if it may. It locks nothing: open_call has locked the
-- cells, and stores the new count `kept` in the provider's cell. If nothing else refuses the call, `places` is how many
-- more calls may be in flight than are now, and `ceiling` how many may be in all.
CREATE OR REPLACE FUNCTION darkroom.wait_of_call(provider text, payer text, price numeric, images integer, rules jsonb,
                                      is_free boolean,
                                      OUT wait_s float8, OUT kind text, OUT reason text, OUT kept jsonb,
                                      OUT places integer, OUT ceiling integer)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
#variable_conflict use_variable
DECLARE
    at timestamptz := clock_timestamp();
    buying jsonb := darkroom.setting('buying');
    cell darkroom.limits;
    until timestamptz;
    in_flight integer;
BEGIN
    IF (buying ->> 'stopped')::boolean THEN
        wait_s := 5;  -- only a short time, so that workers soon notice when the kill switch is off again
        kind := 'stopped';
        reason := coalesce('buying is stopped: ' || nullif(buying ->> 'reason', ''), 'buying is stopped');
        RETURN;
    END IF;
    SELECT p.* INTO wait_s, kind, reason FROM darkroom.pause_wait(provider) p;
    IF kind IS NOT NULL THEN
        RETURN;
    END IF;
    cell := darkroom.cell('provider', provider, 'epoch');
    until := (cell.state ->> 'paused_until')::timestamptz;
    IF until > at THEN
        wait_s := extract(epoch FROM until - at);
        kind := 'paused';
        reason := 'it asked to be left alone';
        RETURN;
    END IF;
    until := (cell.state ->> 'open_until')::timestamptz;
    IF until > at THEN
        wait_s := extract(epoch FROM until - at);
        kind := 'breaker';
        reason := 'its breaker is open: ' || coalesce(cell.state ->> 'open_reason', 'calls fail');
        RETURN;
    END IF;
    IF until IS NOT NULL AND (SELECT darkroom.is_in_flight(c) FROM darkroom.provider_calls c
                              WHERE c.id = (cell.state ->> 'probe')::bigint) THEN
        wait_s := 2;
        kind := 'breaker';
        reason := 'its breaker is half open: one call is trying it';
        RETURN;
    END IF;
    SELECT r.* INTO wait_s, kind, reason FROM darkroom.rate_wait(provider, images, rules, at) r;
    IF kind IS NOT NULL THEN
        RETURN;
    END IF;
    SELECT b.* INTO wait_s, kind, reason
    FROM darkroom.budget_wait(coalesce(payer, ''), price, coalesce(rules -> 'budgets', '{}'), at, is_free) b;
    IF kind IS NOT NULL THEN
        RETURN;
    END IF;
    ceiling := floor(least(coalesce((cell.state ->> 'ceiling')::numeric, (rules ->> 'first_concurrency')::numeric,
                                    {{first concurrent}}),
                           (rules ->> 'concurrency')::numeric)); -- a limit that was lowered holds for the next call
    SELECT f.* INTO in_flight, kept FROM darkroom.in_flight_now(provider, cell.state, ceiling) f;
    places := ceiling - in_flight;
    IF places <= 0 THEN
        wait_s := 1;
        kind := 'concurrency';
        reason := format('%s calls are in flight, as many as it takes now', in_flight);
    END IF;
END $$;

-- Return why a provider may not be called now, for callers that don't make the call. With `payer` NULL, the answer is
-- for the provider as a whole and not for one payer.
CREATE OR REPLACE FUNCTION darkroom.call_wait(provider text, payer text, price numeric, images integer, rules jsonb,
                                   OUT wait_s float8, OUT kind text, OUT reason text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    SELECT w.wait_s, w.kind, w.reason INTO wait_s, kind, reason
    FROM darkroom.wait_of_call(provider, payer, price, images, rules, false) w;
END $$;

-- Return what a process that has calls for a provider should know: why none may be made now, as call_wait does; how many
-- places are free of how many; how many calls were ever admitted; and whether a process with other rules may make one.
CREATE OR REPLACE FUNCTION darkroom.places_now(provider text, images integer, rules jsonb,
                                    OUT wait_s float8, OUT kind text, OUT reason text,
                                    OUT places integer, OUT ceiling integer, OUT admitted bigint,
                                    OUT is_free_elsewhere boolean)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    cell darkroom.limits;
BEGIN
    SELECT w.wait_s, w.kind, w.reason, w.places, w.ceiling INTO wait_s, kind, reason, places, ceiling
    FROM darkroom.wait_of_call(provider, NULL, 0.000001, images, rules, false) w;
    cell := darkroom.cell('provider', provider, 'epoch');
    admitted := coalesce(cell.used, 0);
    is_free_elsewhere := coalesce(places <= 0 AND ceiling - places < floor((cell.state ->> 'ceiling')::numeric), false);
END $$;
