-- Ends of provider calls: their records, the correction of what was counted, and what they say about their provider.

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

-- Record how calls to one provider ended, correct rates and budgets, and store what the calls say about the provider, in
-- the order of the array `ends`. Its objects have the call's id as `intent`, and the parameters of close_call. Repeatable.
-- Return the ids of the calls whose end is recorded. One whose row another session holds isn't: it must be recorded alone,
-- which waits for the row. So one held row keeps back neither the other ends nor the provider's cell.
CREATE OR REPLACE FUNCTION darkroom.close_calls(rules jsonb, ends jsonb) RETURNS bigint[]
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    ids bigint[] := ARRAY(SELECT (e ->> 'intent')::bigint FROM jsonb_array_elements(ends) e ORDER BY 1);
    charging text; -- the provider, if any of the calls counts in its cells
    cell darkroom.limits;
    locked darkroom.provider_calls[];
    calls darkroom.provider_calls[];
    in_flight integer;
    state jsonb;
    one record;
BEGIN
    -- Rows are locked before cells: no session that holds a cell waits for a row. OFFSET 0 keeps the condition on outcome
    -- outside: the index of open calls is full of dead entries
    IF cardinality(ids) > 1 THEN
        locked := ARRAY(SELECT c FROM unnest(ids) i CROSS JOIN LATERAL (
            SELECT p.* FROM darkroom.provider_calls p WHERE p.id = i OFFSET 0 FOR UPDATE SKIP LOCKED) c);
    ELSE
        locked := ARRAY(SELECT c FROM unnest(ids) i CROSS JOIN LATERAL (
            SELECT p.* FROM darkroom.provider_calls p WHERE p.id = i OFFSET 0 FOR UPDATE) c);
    END IF;
    charging := (SELECT c.provider FROM unnest(locked) c WHERE c.may_be_paid AND c.payer IS NOT NULL LIMIT 1);
    IF charging IS NOT NULL THEN
        cell := darkroom.lock_cell('provider', charging, 'epoch');
    END IF;
    calls := ARRAY(SELECT c FROM unnest(locked) c WHERE c.outcome = 'open');
    -- a call whose claim was lost may have been subtracted already, so the count may be too high but never too low
    in_flight := (SELECT count(*) FROM unnest(calls) c WHERE c.payer IS NOT NULL AND darkroom.is_in_flight(c));
    UPDATE darkroom.provider_calls c
    SET outcome = e.outcome, may_be_paid = e.may_be_paid, latency_ms = e.latency_ms, model = coalesce(e.model, c.model),
        prompt_units = e.prompt_units, output_units = e.output_units, images = e.images, was_sent = e.was_sent,
        problem = e.problem,
        cost_usd = CASE WHEN e.may_be_paid THEN coalesce(e.cost_usd, c.quoted_usd) ELSE e.cost_usd END,
        finished_at = clock_timestamp()
    FROM unnest(calls) o
    JOIN jsonb_to_recordset(ends) e (intent bigint, outcome text, may_be_paid boolean, latency_ms integer, model text,
                                     prompt_units integer, output_units integer, images integer, cost_usd numeric,
                                     was_sent boolean, problem text) ON e.intent = o.id
    CROSS JOIN LATERAL (SELECT p.ctid AS at FROM darkroom.provider_calls p WHERE p.id = o.id OFFSET 0) held
    WHERE c.ctid = held.at; -- by its place, so that no plan can read other rows
    IF charging IS NULL THEN
        RETURN ARRAY(SELECT c.id FROM unnest(locked) c);
    END IF;
    FOR one IN SELECT darkroom.day_start(c.started_at, c.zone) AS day, count(*)::integer AS number,
                      sum(c.quoted_images) AS images
               FROM unnest(calls) c JOIN jsonb_to_recordset(ends) e (intent bigint, was_sent boolean) ON e.intent = c.id
               WHERE c.may_be_paid AND c.payer IS NOT NULL AND NOT e.was_sent GROUP BY 1 ORDER BY 1 LOOP
        PERFORM darkroom.add_to_cell(darkroom.lock_cell('provider_day', charging, one.day), -one.number,
                                     jsonb_build_object('images', -one.images));
    END LOOP;
    FOR one IN SELECT darkroom.day_start(o.started_at, 'UTC') AS day, array_agg(o.payer) AS payers,
                      array_agg(o.calls) AS calls, array_agg(o.usd) AS usd, array_agg(o.is_free) AS are_free
               FROM (SELECT c.started_at, c.payer, c.is_free, CASE WHEN e.was_sent THEN 0 ELSE -1 END AS calls,
                            CASE WHEN e.was_sent THEN coalesce(e.cost_usd - c.quoted_usd, 0) ELSE -c.quoted_usd END AS usd
                     FROM unnest(calls) c
                     JOIN jsonb_to_recordset(ends) e (intent bigint, was_sent boolean, cost_usd numeric) ON e.intent = c.id
                     WHERE c.may_be_paid AND c.payer IS NOT NULL) o
               WHERE o.calls <> 0 OR o.usd <> 0 GROUP BY 1 ORDER BY 1 LOOP
        PERFORM darkroom.add_all_to_budgets(darkroom.lock_budgets_of(one.payers, one.day),
                                            one.payers, one.calls, one.usd, one.are_free);
    END LOOP;
    state := cell.state;
    FOR one IN SELECT e.ended ->> 'verdict' AS verdict, (e.ended ->> 'retry_after_s')::float8 AS retry_after_s,
                      e.ended ->> 'reason' AS reason, c.started_at
               FROM jsonb_array_elements(ends) WITH ORDINALITY e (ended, number)
               JOIN unnest(calls) c ON c.id = (e.ended ->> 'intent')::bigint
               WHERE c.may_be_paid AND c.payer IS NOT NULL ORDER BY e.number LOOP
        state := darkroom.judged(state, one.verdict, one.retry_after_s, one.reason, one.started_at, rules);
    END LOOP;
    IF state ? 'in_flight' THEN
        state := state || jsonb_build_object('in_flight', greatest(0, (state ->> 'in_flight')::integer - in_flight));
    END IF;
    PERFORM darkroom.change_cell(cell, cell.used, state);
    RETURN ARRAY(SELECT c.id FROM unnest(locked) c);
END $$;

-- Record how one call ended, as close_calls does.
CREATE OR REPLACE FUNCTION darkroom.close_call(intent bigint, outcome text, may_be_paid boolean, latency_ms integer, model text,
                                    prompt_units integer, output_units integer, images integer, cost_usd numeric,
                                    was_sent boolean, verdict text, retry_after_s float8, reason text, rules jsonb,
                                    problem text DEFAULT NULL)
RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM darkroom.close_calls(rules, jsonb_build_array(jsonb_build_object(
        'intent', intent, 'outcome', outcome, 'may_be_paid', may_be_paid, 'latency_ms', latency_ms, 'model', model,
        'prompt_units', prompt_units, 'output_units', output_units, 'images', images, 'cost_usd', cost_usd,
        'was_sent', was_sent, 'verdict', verdict, 'retry_after_s', retry_after_s, 'reason', reason, 'problem', problem)));
END $$;
