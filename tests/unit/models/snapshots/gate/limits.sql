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
    WHEN job_type IN ('enhance', 'blend') THEN
        IF (SELECT j."isAnonymous" FROM public.image_enhancement_jobs j WHERE j.id = job_id) THEN
            RETURN 'anonymous';
        END IF;
    WHEN job_type IN ('generate', 'modify') THEN
        NULL;
    END CASE; -- any other type raises an error: no table has such jobs
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
    zone text := coalesce(rules ->> 'zone', 'UTC');
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
                                    16),
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

-- Record that a call is about to be made, under the claim's fence, if the gate admits it. If it doesn't, `intent` is
-- NULL, kind and reason tell why, and wait_s for how long; kind 'claim_lost' means that this claim may buy nothing.
CREATE OR REPLACE FUNCTION darkroom.open_call(job_type text, job_id text, queue_id bigint, lease_token uuid, user_id text,
                                   attempt integer, provider text, model text, purpose text, may_be_paid boolean,
                                   price numeric, images integer, rules jsonb, input_hash text,
                                   OUT intent bigint, OUT wait_s float8, OUT kind text, OUT reason text,
                                   OUT warning text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
#variable_conflict use_variable
DECLARE
    payer text;
    zone text := coalesce(rules ->> 'zone', 'UTC');
    at timestamptz;
    locked_at timestamptz;
    is_free boolean;
    cell darkroom.limits; -- the provider's cell
    day darkroom.limits;
    budgets darkroom.limits[];
    kept jsonb;
    places integer;
BEGIN
    CASE
    WHEN job_type IN ('enhance', 'blend') THEN
        PERFORM FROM public.image_enhancement_jobs j WHERE j.id = job_id FOR KEY SHARE;
    WHEN job_type IN ('generate', 'modify') THEN
        PERFORM FROM public.mcp_generation_jobs j WHERE j.id = job_id FOR KEY SHARE;
    END CASE; -- any other type raises an error: no table has such jobs
    SELECT q.tier = 'FREE' INTO is_free FROM darkroom.job_queue q
    WHERE q.id = queue_id AND q.job_id = open_call.job_id AND q.lease_token = open_call.lease_token FOR UPDATE;
    IF NOT FOUND THEN
        kind := 'claim_lost';
        RETURN;
    END IF;
    IF may_be_paid THEN
        payer := darkroom.payer_of(job_type, job_id, user_id);
        locked_at := clock_timestamp();
        cell := darkroom.lock_cell('provider', provider, 'epoch');
        day := darkroom.lock_cell('provider_day', provider, darkroom.day_start(locked_at, zone));
        budgets := darkroom.lock_budgets(payer, locked_at);
        SELECT w.wait_s, w.kind, w.reason, w.kept, w.places INTO wait_s, kind, reason, kept, places
        FROM darkroom.wait_of_call(provider, payer, price, images, rules, is_free) w;
        at := clock_timestamp(); -- waiting for the locks took time, and the call is admitted only now
        IF kind IS NULL AND (darkroom.day_start(at, zone), darkroom.day_start(at, 'UTC'))
                <> (darkroom.day_start(locked_at, zone), darkroom.day_start(locked_at, 'UTC')) THEN
            wait_s := 0.1;
            kind := 'rate';
            reason := 'its day is just over';
        END IF;
        cell.state := cell.state || coalesce(kept, '{}');
        IF kind IS NOT NULL THEN
            IF kept IS NOT NULL THEN
                PERFORM darkroom.change_cell(cell, cell.used, cell.state);
            END IF;
            RETURN;
        END IF;
        PERFORM darkroom.add_to_cell(day, 1, jsonb_build_object('images', images));
        PERFORM darkroom.add_to_budgets(budgets, 1, price, is_free);
        SELECT format('%s of the %s is spent', trim_scale(round(b.spent, 2)), b.label) INTO warning
        FROM darkroom.budget_lines(payer, coalesce(rules -> 'budgets', '{}'), at, is_free) b,
             LATERAL (SELECT b.most * coalesce((rules ->> 'warning_fraction')::numeric, 0.8) AS warned) w
        WHERE b.spent >= w.warned AND b.spent - CASE WHEN b.is_usd THEN price ELSE 1 END < w.warned
        ORDER BY b.is_day LIMIT 1; -- reported once, by the call that passes the threshold
    ELSE
        SELECT p.* INTO wait_s, kind, reason FROM darkroom.pause_wait(provider) p;
        IF kind IS NOT NULL THEN
            RETURN;
        END IF;
    END IF;
    INSERT INTO darkroom.provider_calls (job_type, job_id, user_id, attempt, provider, model, purpose, may_be_paid,
                                         payer, quoted_usd, quoted_images, zone, started_at, input_hash, is_free)
    VALUES (job_type, job_id, user_id, attempt, provider, model, purpose, may_be_paid, payer, price, images, zone,
            coalesce(at, clock_timestamp()), input_hash, is_free)
    RETURNING id INTO intent;
    IF may_be_paid THEN -- the first call after an open breaker tests the provider
        PERFORM darkroom.change_cell(cell, cell.used + 1, cell.state
            || jsonb_build_object('in_flight', (cell.state ->> 'in_flight')::integer + 1)
            || CASE WHEN places <= 1 THEN jsonb_build_object('full_at', at) ELSE '{}' END
            || CASE WHEN cell.state ? 'open_until' THEN jsonb_build_object('probe', intent) ELSE '{}' END);
    END IF;
END $$;

-- Return the state of a provider's cell after a call's end. `verdict` is what the call says about the provider:
-- answered, failed, throttled, stopped (no call can succeed) or neutral (nothing).
CREATE OR REPLACE FUNCTION darkroom.judged(s jsonb, verdict text, retry_after_s float8, reason text, started_at timestamptz,
                                rules jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    at timestamptz := clock_timestamp();
    ceiling numeric := coalesce((s ->> 'ceiling')::numeric, (rules ->> 'first_concurrency')::numeric, 16);
    failures integer := coalesce((s ->> 'failures')::integer, 0);
    open_s float8;
BEGIN
    IF verdict = 'answered' THEN -- the breaker closes
        s := s - 'failures' - 'open_until' - 'open_s' - 'open_reason' - 'probe';
        -- The ceiling grows only by calls that were in flight while it was reached: fewer calls at a time don't show that
        -- the provider takes more. It doubles with each round of them. Once the provider has refused a call for its rate,
        -- it grows by one instead.
        IF started_at <= (s ->> 'full_at')::timestamptz THEN
            s := s || jsonb_build_object('ceiling',
                least(ceiling + CASE WHEN s ? 'decreased_at' THEN 1 / greatest(ceiling, 1) ELSE 1 END,
                      coalesce((rules ->> 'concurrency')::numeric, 64)));
        END IF;
    ELSIF verdict = 'throttled' THEN
        s := s || jsonb_build_object('paused_until', greatest((s ->> 'paused_until')::timestamptz,
                                                              at + make_interval(secs => retry_after_s)));
        -- only once for all calls that were in flight
        IF started_at > coalesce((s ->> 'decreased_at')::timestamptz, '-infinity') THEN
            s := s - 'full_at' || jsonb_build_object('ceiling', greatest(1, ceiling / 2), 'decreased_at', at);
        END IF;
    ELSIF verdict = 'stopped' OR (verdict = 'failed' AND (s ? 'open_until'
            OR failures + 1 >= coalesce((rules ->> 'breaker_failures')::integer, 5))) THEN
        open_s := CASE WHEN verdict = 'stopped' THEN 300
                       ELSE least(300, coalesce((s ->> 'open_s')::float8 * 2, (rules ->> 'breaker_s')::float8, 10)) END;
        s := s - 'probe' || jsonb_build_object('failures', failures + 1, 'open_s', open_s, 'open_reason', reason,
                                               'open_until', at + make_interval(secs => open_s));
    ELSIF verdict = 'failed' THEN
        s := s || jsonb_build_object('failures', failures + 1);
    END IF;
    RETURN s;
END $$;

-- Record how a call ended, correct rates and budgets, and store what the call says about its provider. Repeatable.
CREATE OR REPLACE FUNCTION darkroom.close_call(intent bigint, outcome text, may_be_paid boolean, latency_ms integer, model text,
                                    prompt_units integer, output_units integer, images integer, cost_usd numeric,
                                    was_sent boolean, verdict text, retry_after_s float8, reason text, rules jsonb,
                                    problem text DEFAULT NULL)
RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
    call darkroom.provider_calls;
    is_counted boolean;
    owed numeric; -- the difference, in USD, by which the budgets are corrected
    cell darkroom.limits; -- the provider's cell
    day darkroom.limits;
    budgets darkroom.limits[];
    was_in_flight boolean;
BEGIN
    SELECT c.* INTO call FROM darkroom.provider_calls c WHERE c.id = intent;
    is_counted := call.may_be_paid AND call.payer IS NOT NULL;
    owed := CASE WHEN was_sent THEN coalesce(cost_usd - call.quoted_usd, 0) ELSE -call.quoted_usd END;
    IF is_counted THEN -- the cells are locked before the row, as in open_call
        cell := darkroom.lock_cell('provider', call.provider, 'epoch');
        IF NOT was_sent THEN
            day := darkroom.lock_cell('provider_day', call.provider, darkroom.day_start(call.started_at, call.zone));
        END IF;
        IF owed <> 0 OR NOT was_sent THEN
            budgets := darkroom.lock_budgets(call.payer, call.started_at);
        END IF;
    END IF;
    SELECT c.* INTO call FROM darkroom.provider_calls c WHERE c.id = intent FOR UPDATE;
    IF call.outcome <> 'open' THEN
        RETURN;
    END IF;
    -- a call whose claim was lost may have been subtracted already, so the count may be too high but never too low
    was_in_flight := is_counted AND darkroom.is_in_flight(call);
    UPDATE darkroom.provider_calls c
    SET outcome = close_call.outcome, may_be_paid = close_call.may_be_paid, latency_ms = close_call.latency_ms,
        model = coalesce(close_call.model, c.model), prompt_units = close_call.prompt_units,
        output_units = close_call.output_units, images = close_call.images, was_sent = close_call.was_sent,
        problem = close_call.problem,
        cost_usd = CASE WHEN close_call.may_be_paid THEN coalesce(close_call.cost_usd, c.quoted_usd)
                        ELSE close_call.cost_usd END,
        finished_at = clock_timestamp()
    WHERE c.id = intent; -- no condition on outcome: the index of open calls is full of dead entries
    IF NOT is_counted THEN
        RETURN;
    END IF;
    IF NOT was_sent THEN
        PERFORM darkroom.add_to_cell(day, -1, jsonb_build_object('images', -call.quoted_images));
    END IF;
    IF budgets IS NOT NULL THEN
        PERFORM darkroom.add_to_budgets(budgets, CASE WHEN was_sent THEN 0 ELSE -1 END, owed, call.is_free);
    END IF;
    PERFORM darkroom.change_cell(cell, cell.used,
        darkroom.judged(cell.state, verdict, retry_after_s, reason, call.started_at, rules)
        || CASE WHEN cell.state ? 'in_flight' THEN jsonb_build_object(
               'in_flight', greatest(0, (cell.state ->> 'in_flight')::integer - was_in_flight::integer)) ELSE '{}' END);
END $$;
