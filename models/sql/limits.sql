-- The provider's gate: whether a call may be made now, decided in the transaction that writes its intent.
--
-- Cells of darkroom.limits, locked in this order, so that no two callers deadlock:
--   provider NAME            state: ceiling, paused_until, failures, open_until, open_s, probe, decreased_at
--   provider_day NAME, day   used: requests, state.images: pictures; the day is the provider's own
--   budget PAYER, day/epoch  used: USD counted, state.calls: calls counted; payers are all, user:ID, anonymous
-- Minutes are counted from provider_calls itself, so that no window of 60 s, wherever it begins, holds more than the
-- limit; a second more is looked at, since calls admitted 60 s apart may arrive a little closer to each other.
-- The functions are VOLATILE for a reason: each of their statements has to see what was committed while the
-- lock was waited for.

CREATE OR REPLACE FUNCTION darkroom.day_start(at timestamptz, zone text) RETURNS timestamptz LANGUAGE sql STABLE
RETURN date_trunc('day', at AT TIME ZONE zone) AT TIME ZONE zone;

CREATE OR REPLACE FUNCTION darkroom.day_end(at timestamptz, zone text) RETURNS timestamptz LANGUAGE sql STABLE
RETURN (date_trunc('day', at AT TIME ZONE zone) + interval '1 day') AT TIME ZONE zone;

-- Whose budget a job's calls count against: jobs without an account share one.
CREATE OR REPLACE FUNCTION darkroom.payer_of(job_type text, job_id text, user_id text) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    IF job_type IN ('enhance', 'blend')
            AND (SELECT j."isAnonymous" FROM public.image_enhancement_jobs j WHERE j.id = job_id) THEN
        RETURN 'anonymous';
    END IF;
    RETURN 'user:' || user_id;
END $$;

-- Why no call may be made by the calendar of one kind of minute or day; NULL if one may.
CREATE OR REPLACE FUNCTION darkroom.rate_wait(provider text, images integer, rules jsonb, at timestamptz,
                                   OUT wait_s float8, OUT kind text, OUT reason text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    most integer;
    zone text := coalesce(rules ->> 'zone', 'UTC');
    day darkroom.limits;
    leaves timestamptz;
BEGIN
    SELECT l.* INTO day FROM darkroom.limits l
    WHERE l.scope = 'provider_day' AND l.name = provider AND l.window_start = darkroom.day_start(at, zone);
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
    -- the call that has to leave the window before another fits
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

-- The budgets that count for a payer, and what has been counted against each.
CREATE OR REPLACE FUNCTION darkroom.budget_lines(payer text, budgets jsonb, at timestamptz)
RETURNS TABLE (label text, most numeric, spent numeric, is_usd boolean, is_day boolean)
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT format(k.label, trim_scale((budgets ->> k.key)::numeric)), (budgets ->> k.key)::numeric,
           CASE WHEN k.is_usd THEN coalesce(l.used, 0) ELSE coalesce((l.state ->> 'calls')::numeric, 0) END,
           k.is_usd, k.is_day
    FROM (VALUES ('total_usd', 'all', false, true, 'budget of %s USD in all'),
                 ('total_calls', 'all', false, false, 'budget of %s calls in all'),
                 ('day_usd', 'all', true, true, 'budget of %s USD a day'),
                 ('day_calls', 'all', true, false, 'budget of %s calls a day'),
                 ('user_day_usd', 'user', true, true, 'budget of %s USD a day and user'),
                 ('user_day_calls', 'user', true, false, 'budget of %s calls a day and user'),
                 ('anonymous_day_usd', 'anonymous', true, true, 'budget of %s USD a day for anonymous jobs'),
                 ('anonymous_day_calls', 'anonymous', true, false, 'budget of %s calls a day for anonymous jobs')
         ) AS k (key, who, is_day, is_usd, label)
    LEFT JOIN darkroom.limits l
        ON l.scope = 'budget' AND l.name = CASE WHEN k.who = 'all' THEN 'all' ELSE payer END
        AND l.window_start = CASE WHEN k.is_day THEN darkroom.day_start(at, 'UTC') ELSE 'epoch' END
    WHERE budgets ? k.key AND (k.who = 'all' OR split_part(payer, ':', 1) = k.who);
$$;

-- Which budget a call of this price would break; NULL if none.
CREATE OR REPLACE FUNCTION darkroom.budget_wait(payer text, price numeric, budgets jsonb, at timestamptz,
                                     OUT wait_s float8, OUT kind text, OUT reason text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    line record;
BEGIN
    SELECT b.* INTO line FROM darkroom.budget_lines(payer, budgets, at) b
    WHERE b.spent + CASE WHEN b.is_usd THEN price ELSE 1 END > b.most
    ORDER BY b.is_day LIMIT 1; -- what lasts longest first
    IF FOUND THEN
        wait_s := CASE WHEN line.is_day THEN extract(epoch FROM darkroom.day_end(at, 'UTC') - at) ELSE 3600 END;
        kind := 'budget';
        reason := format('the %s is spent', line.label);
    END IF;
END $$;

-- Paid calls on their way. One whose claim is gone is none: its worker has died, or is about to hang up. After 15
-- minutes it is none either, whatever became of it.
CREATE OR REPLACE VIEW darkroom.calls_in_flight AS
SELECT c.id, c.provider FROM darkroom.provider_calls c
WHERE c.outcome = 'open' AND c.may_be_paid AND c.started_at > clock_timestamp() - interval '15 minutes'
  AND EXISTS (SELECT FROM darkroom.job_queue q WHERE q.job_id = c.job_id AND q.job_type = c.job_type
                AND q.status = 'processing' AND q.attempts = c.attempt
                -- an attempt that was given back has the same number again
                AND q.started_at <= c.started_at);

-- Why a provider may not be called now; kind is NULL if it may. Locks nothing: open_call holds the cells.
-- `payer` NULL asks for the provider as a whole, whoever's job it is.
CREATE OR REPLACE FUNCTION darkroom.call_wait(provider text, payer text, price numeric, images integer, rules jsonb,
                                   OUT wait_s float8, OUT kind text, OUT reason text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    at timestamptz := clock_timestamp();
    state jsonb;
    until timestamptz;
    in_flight integer;
BEGIN
    IF (darkroom.setting('buying') ->> 'stopped')::boolean THEN
        wait_s := 5; -- and no longer, so that a switch turned back is noticed as soon
        kind := 'stopped';
        reason := coalesce('buying is stopped: ' || nullif(darkroom.setting('buying') ->> 'reason', ''), 'buying is stopped');
        RETURN;
    END IF;
    SELECT p.* INTO wait_s, kind, reason FROM darkroom.pause_wait(provider) p;
    IF kind IS NOT NULL THEN
        RETURN;
    END IF;
    SELECT l.state INTO state FROM darkroom.limits l
    WHERE l.scope = 'provider' AND l.name = provider AND l.window_start = 'epoch';
    until := (state ->> 'paused_until')::timestamptz;
    IF until > at THEN
        wait_s := extract(epoch FROM until - at);
        kind := 'paused';
        reason := 'it asked to be left alone';
        RETURN;
    END IF;
    until := (state ->> 'open_until')::timestamptz;
    IF until > at THEN
        wait_s := extract(epoch FROM until - at);
        kind := 'breaker';
        reason := 'its breaker is open: ' || coalesce(state ->> 'open_reason', 'calls fail');
        RETURN;
    END IF;
    IF until IS NOT NULL AND EXISTS (
            SELECT FROM darkroom.calls_in_flight c WHERE c.id = (state ->> 'probe')::bigint) THEN
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
    FROM darkroom.budget_wait(coalesce(payer, ''), price, coalesce(rules -> 'budgets', '{}'), at) b;
    IF kind IS NOT NULL THEN
        RETURN;
    END IF;
    SELECT count(*) INTO in_flight FROM darkroom.calls_in_flight c WHERE c.provider = call_wait.provider;
    IF in_flight >= floor(coalesce((state ->> 'ceiling')::numeric, (rules ->> 'first_concurrency')::numeric, 1000)) THEN
        wait_s := 1;
        kind := 'concurrency';
        reason := format('%s calls are in flight, as many as it takes now', in_flight);
    END IF;
END $$;

-- Make the cells of a call, if they are missing, and lock them in their order.
CREATE OR REPLACE FUNCTION darkroom.lock_cells(provider text, payer text, zone text, at timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    cell record;
BEGIN
    FOR cell IN
        SELECT * FROM (VALUES (1, 'provider', provider, timestamptz 'epoch'),
                              (2, 'provider_day', provider, darkroom.day_start(at, zone)),
                              (3, 'budget', 'all', timestamptz 'epoch'),
                              (4, 'budget', 'all', darkroom.day_start(at, 'UTC')),
                              (5, 'budget', payer, darkroom.day_start(at, 'UTC'))) c (place, scope, name, window_start)
        ORDER BY place
    LOOP
        PERFORM FROM darkroom.limits l
        WHERE l.scope = cell.scope AND l.name = cell.name AND l.window_start = cell.window_start FOR UPDATE;
        IF NOT FOUND THEN
            INSERT INTO darkroom.limits (scope, name, window_start) VALUES (cell.scope, cell.name, cell.window_start)
            ON CONFLICT (scope, name, window_start) DO UPDATE SET updated_at = now();
        END IF;
    END LOOP;
END $$;

-- Add to (or, with a negative number, give back from) the cells that a call counts in.
CREATE OR REPLACE FUNCTION darkroom.count_call(provider text, payer text, zone text, at timestamptz,
                                    calls integer, images integer, usd numeric) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
    UPDATE darkroom.limits l SET used = l.used + calls, updated_at = now(), state = jsonb_build_object(
        'images', coalesce((l.state ->> 'images')::integer, 0) + images)
    WHERE l.scope = 'provider_day' AND l.name = provider AND l.window_start = darkroom.day_start(at, zone);
    UPDATE darkroom.limits l SET used = l.used + usd, updated_at = now(), state = jsonb_build_object(
        'calls', coalesce((l.state ->> 'calls')::integer, 0) + calls)
    WHERE l.scope = 'budget' AND (l.name, l.window_start) IN (
        ('all', timestamptz 'epoch'), ('all', darkroom.day_start(at, 'UTC')), (payer, darkroom.day_start(at, 'UTC')));
$$;

-- Write that a call follows, under the claim's fence, if the gate lets it through. `intent` is NULL when it doesn't:
-- then kind and reason say why and wait_s for how long, and kind 'claim_lost' that nobody may buy for this claim.
CREATE OR REPLACE FUNCTION darkroom.open_call(job_type text, job_id text, queue_id bigint, lease_token uuid, user_id text,
                                   attempt integer, provider text, model text, purpose text, may_be_paid boolean,
                                   price numeric, images integer, rules jsonb, input_hash text,
                                   OUT intent bigint, OUT wait_s float8, OUT kind text, OUT reason text,
                                   OUT warning text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    payer text;
    zone text := coalesce(rules ->> 'zone', 'UTC');
    at timestamptz;
    locked_at timestamptz;
BEGIN
    IF job_type IN ('enhance', 'blend') THEN
        PERFORM FROM public.image_enhancement_jobs j WHERE j.id = job_id FOR KEY SHARE;
    ELSE
        PERFORM FROM public.mcp_generation_jobs j WHERE j.id = job_id FOR KEY SHARE;
    END IF;
    PERFORM FROM darkroom.job_queue q
    WHERE q.id = queue_id AND q.job_id = open_call.job_id AND q.lease_token = open_call.lease_token FOR UPDATE;
    IF NOT FOUND THEN
        kind := 'claim_lost';
        RETURN;
    END IF;
    IF may_be_paid THEN
        payer := darkroom.payer_of(job_type, job_id, user_id);
        at := clock_timestamp();
        PERFORM darkroom.lock_cells(provider, payer, zone, at);
        SELECT w.* INTO wait_s, kind, reason FROM darkroom.call_wait(provider, payer, price, images, rules) w;
        IF kind IS NOT NULL THEN
            RETURN;
        END IF;
        locked_at := at;
        at := clock_timestamp(); -- the cells were waited for: admitted is who holds them, and that is now
        IF (darkroom.day_start(at, zone), darkroom.day_start(at, 'UTC'))
                <> (darkroom.day_start(locked_at, zone), darkroom.day_start(locked_at, 'UTC')) THEN
            wait_s := 0.1;
            kind := 'rate';
            reason := 'its day is just over';
            RETURN;
        END IF;
        PERFORM darkroom.count_call(provider, payer, zone, at, 1, images, price);
        SELECT format('%s of the %s is spent', trim_scale(round(b.spent, 2)), b.label) INTO warning
        FROM darkroom.budget_lines(payer, coalesce(rules -> 'budgets', '{}'), at) b,
             LATERAL (SELECT b.most * coalesce((rules ->> 'warning_fraction')::numeric, 0.8) AS warned) w
        WHERE b.spent >= w.warned AND b.spent - CASE WHEN b.is_usd THEN price ELSE 1 END < w.warned
        ORDER BY b.is_day LIMIT 1; -- said once, by the call that crosses the threshold
    ELSE
        SELECT p.* INTO wait_s, kind, reason FROM darkroom.pause_wait(provider) p;
        IF kind IS NOT NULL THEN
            RETURN;
        END IF;
    END IF;
    INSERT INTO darkroom.provider_calls (job_type, job_id, user_id, attempt, provider, model, purpose, may_be_paid,
                                         payer, quoted_usd, quoted_images, zone, started_at, input_hash)
    VALUES (job_type, job_id, user_id, attempt, provider, model, purpose, may_be_paid, payer, price, images, zone,
            coalesce(at, clock_timestamp()), input_hash)
    RETURNING id INTO intent;
    IF may_be_paid THEN -- the first call after an open breaker is its probe
        UPDATE darkroom.limits l SET state = l.state || jsonb_build_object('probe', intent)
        WHERE l.scope = 'provider' AND l.name = provider AND l.window_start = 'epoch' AND l.state ? 'open_until';
    END IF;
END $$;

-- What a call's end says of its provider. `verdict`: answered, failed, throttled, stopped (no call can work), neutral.
CREATE OR REPLACE FUNCTION darkroom.judge(provider text, verdict text, retry_after_s float8, reason text, started_at timestamptz,
                               rules jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    at timestamptz := clock_timestamp();
    s jsonb;
    ceiling numeric;
    failures integer;
    open_s float8;
BEGIN
    SELECT l.state INTO s FROM darkroom.limits l
    WHERE l.scope = 'provider' AND l.name = provider AND l.window_start = 'epoch' FOR UPDATE;
    ceiling := coalesce((s ->> 'ceiling')::numeric, (rules ->> 'first_concurrency')::numeric, 16);
    failures := coalesce((s ->> 'failures')::integer, 0);
    IF verdict = 'answered' THEN -- grows by one for each round of calls, and a breaker closes
        s := s - 'failures' - 'open_until' - 'open_s' - 'open_reason' - 'probe' || jsonb_build_object(
            'ceiling', least(ceiling + 1 / greatest(ceiling, 1), coalesce((rules ->> 'concurrency')::numeric, 64)));
    ELSIF verdict = 'throttled' THEN
        s := s || jsonb_build_object('paused_until', greatest((s ->> 'paused_until')::timestamptz,
                                                              at + make_interval(secs => retry_after_s)));
        IF started_at > coalesce((s ->> 'decreased_at')::timestamptz, '-infinity') THEN -- once for all that were out
            s := s || jsonb_build_object('ceiling', greatest(1, ceiling / 2), 'decreased_at', at);
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
    UPDATE darkroom.limits l SET state = s, updated_at = now()
    WHERE l.scope = 'provider' AND l.name = provider AND l.window_start = 'epoch';
END $$;

-- Write how a call ended, settle what it counts, and judge its provider. A second time changes nothing.
CREATE OR REPLACE FUNCTION darkroom.close_call(intent bigint, outcome text, may_be_paid boolean, latency_ms integer, model text,
                                    prompt_units integer, output_units integer, images integer, cost_usd numeric,
                                    was_sent boolean, verdict text, retry_after_s float8, reason text, rules jsonb)
RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    call darkroom.provider_calls;
    paid boolean;
BEGIN
    SELECT c.* INTO call FROM darkroom.provider_calls c WHERE c.id = intent;
    paid := call.may_be_paid;
    IF paid AND call.payer IS NOT NULL THEN -- cells before the row, as open_call has them
        PERFORM darkroom.lock_cells(call.provider, call.payer, call.zone, call.started_at);
    END IF;
    UPDATE darkroom.provider_calls c
    SET outcome = close_call.outcome, may_be_paid = close_call.may_be_paid, latency_ms = close_call.latency_ms,
        model = coalesce(close_call.model, c.model), prompt_units = close_call.prompt_units,
        output_units = close_call.output_units, images = close_call.images, was_sent = close_call.was_sent,
        cost_usd = CASE WHEN close_call.may_be_paid THEN coalesce(close_call.cost_usd, c.quoted_usd)
                        ELSE close_call.cost_usd END,
        finished_at = clock_timestamp()
    WHERE c.id = intent AND c.outcome = 'open';
    IF NOT FOUND OR NOT paid OR call.payer IS NULL THEN
        RETURN;
    END IF;
    IF NOT was_sent THEN
        PERFORM darkroom.count_call(call.provider, call.payer, call.zone, call.started_at, -1, -call.quoted_images,
                                    -call.quoted_usd);
    ELSIF cost_usd IS NOT NULL THEN
        PERFORM darkroom.count_call(call.provider, call.payer, call.zone, call.started_at, 0, 0,
                                    cost_usd - call.quoted_usd);
    END IF;
    PERFORM darkroom.judge(call.provider, verdict, retry_after_s, reason, call.started_at, rules);
END $$;
