-- Admission of provider calls, with the records of their intents: of one call, or of many at once.
--
-- A group is a statement of a process about the calls of one provider that are waiting at a moment. It locks the cells
-- once, for all of them. Whether a call is admitted is decided for each: as long as no limit but the ceiling can refuse a
-- call of the group, they are counted together, and otherwise one after the other, as if each had come alone.

-- Lock the budgets that some payers' calls of a moment are counted in, in the order of lock_budgets and by payer.
CREATE OR REPLACE FUNCTION darkroom.lock_budgets_of(payers text[], at timestamptz) RETURNS darkroom.limits[]
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    day timestamptz := date_trunc('day', at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';
    locked darkroom.limits[] := ARRAY[darkroom.lock_cell('budget', 'all', 'epoch'),
                                      darkroom.lock_cell('budget', 'all', day)];
    theirs darkroom.limits[];
    payer text;
BEGIN
    theirs := ARRAY(
        SELECT l FROM (SELECT DISTINCT u.payer FROM unnest(payers) u (payer) ORDER BY u.payer) p
        CROSS JOIN LATERAL (
            SELECT c.* FROM darkroom.limits c
            WHERE c.scope = 'budget' AND c.name = p.payer AND c.window_start = day
            ORDER BY c.version DESC LIMIT 1 FOR UPDATE) l);
    FOR payer IN SELECT u.payer FROM unnest(payers) u (payer) EXCEPT SELECT t.name FROM unnest(theirs) t ORDER BY 1 LOOP
        theirs := theirs || darkroom.lock_cell('budget', payer, day);
    END LOOP;
    RETURN locked || theirs;
END $$;

-- Add calls and USD, which may be negative, to locked budgets of one day; the arrays have one entry for each call.
CREATE OR REPLACE FUNCTION darkroom.add_all_to_budgets(locked darkroom.limits[], payers text[], calls integer[],
                                            usd numeric[], are_free boolean[]) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    changed bigint;
BEGIN
    WITH counted AS MATERIALIZED (
            SELECT c.payer, sum(c.calls) AS calls, sum(c.calls) FILTER (WHERE c.is_free) AS free_calls, sum(c.usd) AS usd
            FROM unnest(payers, calls, usd, are_free) c (payer, calls, usd, is_free) GROUP BY ROLLUP (c.payer)),
        added AS MATERIALIZED (
            SELECT b.name, b.window_start, b.version, b.used + c.usd AS used,
                   b.state || CASE WHEN c.calls = 0 THEN '{}' ELSE
                       jsonb_build_object('calls', coalesce((b.state ->> 'calls')::numeric, 0) + c.calls) END
                   || CASE WHEN c.payer IS NULL OR coalesce(c.free_calls, 0) = 0 THEN '{}' ELSE
                       jsonb_build_object('free_calls', coalesce((b.state ->> 'free_calls')::numeric, 0) + c.free_calls)
                   END AS state
            FROM unnest(locked) b JOIN counted c ON coalesce(c.payer, 'all') = b.name)
    UPDATE darkroom.limits l
    SET used = a.used, state = a.state, changes = l.changes + 1, updated_at = now()
    FROM added a
    CROSS JOIN LATERAL (
        SELECT b.ctid AS at FROM darkroom.limits b
        WHERE b.scope = 'budget' AND b.name = a.name AND b.window_start = a.window_start AND b.version = a.version
        OFFSET 0) held
    WHERE l.ctid = held.at; -- by its place: no plan can begin with all versions
    GET DIAGNOSTICS changed = ROW_COUNT;
    IF changed <> cardinality(locked) THEN
        RAISE EXCEPTION '% of % budgets of darkroom.limits were locked', changed, cardinality(locked);
    END IF;
END $$;

-- Return whether no rate and no budget can refuse any of some calls that are admitted together, and none of them passes a
-- threshold of which it would have to warn. Their cells are locked.
CREATE OR REPLACE FUNCTION darkroom.have_room(provider text, calls darkroom.provider_calls[], rules jsonb, day darkroom.limits,
                                   at timestamptz) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
#variable_conflict use_variable
DECLARE
    number integer := cardinality(calls);
    images integer := (SELECT sum(c.quoted_images) FROM unnest(calls) c);
    budgets jsonb := coalesce(rules -> 'budgets', '{}');
    of_all jsonb := (SELECT coalesce(jsonb_object_agg(b.key, b.value), '{}') FROM jsonb_each(budgets) b
                     WHERE b.key LIKE 'total\_%' OR b.key LIKE 'day\_%');
BEGIN
    IF day.used + number > (rules ->> 'requests_per_day')::integer
            OR coalesce((day.state ->> 'images')::integer, 0) + images > (rules ->> 'images_per_day')::integer
            OR number > (rules ->> 'requests_per_minute')::integer THEN
        RETURN false;
    END IF;
    PERFORM FROM darkroom.provider_calls c
    WHERE c.provider = have_room.provider AND c.started_at > at - interval '61 seconds' AND c.was_sent
    ORDER BY c.started_at DESC OFFSET (rules ->> 'requests_per_minute')::integer - number
    LIMIT CASE WHEN rules ? 'requests_per_minute' THEN 1 ELSE 0 END;
    IF FOUND THEN
        RETURN false;
    END IF;
    IF images > 0 AND images + (
            SELECT coalesce(sum(c.quoted_images), 0) FROM darkroom.provider_calls c
            WHERE rules ? 'images_per_minute' AND c.provider = have_room.provider
              AND c.started_at > at - interval '61 seconds' AND c.was_sent) > (rules ->> 'images_per_minute')::integer THEN
        RETURN false;
    END IF;
    RETURN budgets = '{}' OR NOT EXISTS (
        SELECT FROM (
            SELECT '' AS payer, of_all AS budgets, false AS is_free, number AS calls, sum(c.quoted_usd) AS usd
            FROM unnest(calls) c
            UNION ALL
            SELECT c.payer, budgets - ARRAY(SELECT jsonb_object_keys(of_all)), bool_or(c.is_free), count(*), sum(c.quoted_usd)
            FROM unnest(calls) c WHERE budgets <> of_all GROUP BY c.payer) p
        CROSS JOIN LATERAL darkroom.budget_lines(p.payer, p.budgets, at, p.is_free) b
        CROSS JOIN LATERAL (SELECT b.spent + CASE WHEN b.is_usd THEN p.usd ELSE p.calls END AS then_spent,
                                   b.most * coalesce((rules ->> 'warning_fraction')::numeric, {{warning fraction}}) AS warned) t
        WHERE t.then_spent > b.most OR (b.spent < t.warned AND t.then_spent >= t.warned));
END $$;

-- Insert the intents of calls that begin at a moment; return their ids, in the order of the calls.
CREATE OR REPLACE FUNCTION darkroom.record_intents(calls darkroom.provider_calls[], at timestamptz) RETURNS bigint[]
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    ids bigint[];
BEGIN
    WITH recorded AS ( -- rows get their ids in the order in which they are inserted
        INSERT INTO darkroom.provider_calls (job_type, job_id, user_id, attempt, provider, model, purpose, may_be_paid,
                                             payer, quoted_usd, quoted_images, zone, started_at, input_hash, is_free)
        SELECT c.job_type, c.job_id, c.user_id, c.attempt, c.provider, c.model, c.purpose, c.may_be_paid,
               c.payer, c.quoted_usd, c.quoted_images, c.zone, at, c.input_hash, c.is_free
        FROM unnest(calls) WITH ORDINALITY c ORDER BY c.ordinality
        RETURNING provider_calls.id)
    SELECT array_agg(r.id ORDER BY r.id) INTO ids FROM recorded r;
    RETURN ids;
END $$;

-- Admit a call, whose claim the caller has locked, and record its intent, or say why not, as open_call.
CREATE OR REPLACE FUNCTION darkroom.admit_call(call darkroom.provider_calls, rules jsonb,
                                    OUT intent bigint, OUT wait_s float8, OUT kind text, OUT reason text,
                                    OUT warning text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
#variable_conflict use_variable
DECLARE
    at timestamptz;
    locked_at timestamptz;
    cell darkroom.limits; -- the provider's cell
    day darkroom.limits;
    budgets darkroom.limits[];
    kept jsonb;
    places integer;
BEGIN
    IF call.may_be_paid THEN
        locked_at := clock_timestamp();
        cell := darkroom.lock_cell('provider', call.provider, 'epoch');
        day := darkroom.lock_cell('provider_day', call.provider, darkroom.day_start(locked_at, call.zone));
        budgets := darkroom.lock_budgets(call.payer, locked_at);
        SELECT w.wait_s, w.kind, w.reason, w.kept, w.places INTO wait_s, kind, reason, kept, places
        FROM darkroom.wait_of_call(call.provider, call.payer, call.quoted_usd, call.quoted_images, rules,
                                   call.is_free) w;
        at := clock_timestamp(); -- waiting for the locks took time, and the call is admitted only now
        IF kind IS NULL AND (darkroom.day_start(at, call.zone), darkroom.day_start(at, 'UTC'))
                <> (darkroom.day_start(locked_at, call.zone), darkroom.day_start(locked_at, 'UTC')) THEN
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
        PERFORM darkroom.add_to_cell(day, 1, jsonb_build_object('images', call.quoted_images));
        PERFORM darkroom.add_to_budgets(budgets, 1, call.quoted_usd, call.is_free);
        SELECT format('%s of the %s is spent', trim_scale(round(b.spent, 2)), b.label) INTO warning
        FROM darkroom.budget_lines(call.payer, coalesce(rules -> 'budgets', '{}'), at, call.is_free) b,
             LATERAL (SELECT b.most * coalesce((rules ->> 'warning_fraction')::numeric, {{warning fraction}}) AS warned) w
        WHERE b.spent >= w.warned AND b.spent - CASE WHEN b.is_usd THEN call.quoted_usd ELSE 1 END < w.warned
        ORDER BY b.is_day LIMIT 1; -- reported once, by the call that passes the threshold
    ELSE
        SELECT p.* INTO wait_s, kind, reason FROM darkroom.pause_wait(call.provider) p;
        IF kind IS NOT NULL THEN
            RETURN;
        END IF;
    END IF;
    intent := (darkroom.record_intents(ARRAY[call], coalesce(at, clock_timestamp())))[1];
    IF call.may_be_paid THEN -- the first call after an open breaker tests the provider
        PERFORM darkroom.change_cell(cell, cell.used + 1, cell.state
            || jsonb_build_object('in_flight', (cell.state ->> 'in_flight')::integer + 1)
            || CASE WHEN places <= 1 THEN jsonb_build_object('full_at', at) ELSE '{}' END
            || CASE WHEN cell.state ? 'open_until' THEN jsonb_build_object('probe', intent) ELSE '{}' END);
    END IF;
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
    call darkroom.provider_calls;
BEGIN
    CASE
    --: each job table
    WHEN job_type IN ({{types}}) THEN
        PERFORM FROM {{table}} j WHERE j.{{id column}} = {{id from job_id}} FOR KEY SHARE;
    --: end
    END CASE; -- any other type raises an error: no table has such jobs
    SELECT q.tier = {{free tier}} INTO call.is_free FROM darkroom.job_queue q
    WHERE q.id = queue_id AND q.job_id = open_call.job_id AND q.lease_token = open_call.lease_token FOR UPDATE;
    IF NOT FOUND THEN
        kind := 'claim_lost';
        RETURN;
    END IF;
    call.job_type := job_type;
    call.job_id := job_id;
    call.user_id := user_id;
    call.attempt := attempt;
    call.provider := provider;
    call.model := model;
    call.purpose := purpose;
    call.may_be_paid := may_be_paid;
    call.payer := CASE WHEN may_be_paid THEN darkroom.payer_of(job_type, job_id, user_id) END;
    call.quoted_usd := price;
    call.quoted_images := images;
    call.zone := coalesce(rules ->> 'zone', {{zone}});
    call.input_hash := input_hash;
    SELECT a.* INTO intent, wait_s, kind, reason, warning FROM darkroom.admit_call(call, rules) a;
END $$;

-- Record that some calls to one provider are about to be made, each under its claim's fence, as open_call does for one.
-- `calls` is an array of objects with the columns of provider_calls, queue_id and lease_token. The result has a row for
-- each call, with its number in the array; a call whose claim another session has locked, or is lost, has none: the
-- caller opens it by open_call, which waits. So this function waits for cells only, and with no cell locked.
CREATE OR REPLACE FUNCTION darkroom.open_calls(provider text, may_be_paid boolean, rules jsonb, calls jsonb)
RETURNS TABLE (number integer, intent bigint, wait_s float8, kind text, reason text, warning text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
#variable_conflict use_variable
DECLARE
    zone text := coalesce(rules ->> 'zone', {{zone}});
    unlocked integer[] := '{}';
    numbers integer[];
    asked darkroom.provider_calls[];
    admitted darkroom.provider_calls[];
    ids bigint[];
    at timestamptz;
    locked_at timestamptz;
    cell darkroom.limits; -- the provider's cell
    day darkroom.limits;
    budgets darkroom.limits[];
    kept jsonb;
    places integer;
BEGIN
    --: each job table
    unlocked := unlocked || ARRAY(
        SELECT c.number FROM (
            SELECT e.number::integer, e.call ->> 'job_id' AS job_id
            FROM jsonb_array_elements(calls) WITH ORDINALITY e (call, number)
            WHERE e.call ->> 'job_type' IN ({{types}}) ORDER BY 2) c
        CROSS JOIN LATERAL (
            SELECT FROM {{table}} j WHERE j.{{id column}} = {{id from c.job_id}} FOR KEY SHARE SKIP LOCKED) j);
    --: end
    SELECT array_agg(l.number ORDER BY l.number), array_agg(l.asked ORDER BY l.number) INTO numbers, asked FROM (
        SELECT c.number::integer, jsonb_populate_record(NULL::darkroom.provider_calls, c.call || jsonb_build_object(
            'provider', provider, 'may_be_paid', may_be_paid, 'zone', zone, 'is_free', q.tier = {{free tier}},
            'payer', CASE WHEN may_be_paid THEN
                darkroom.payer_of(c.call ->> 'job_type', c.call ->> 'job_id', c.call ->> 'user_id') END)) AS asked
        FROM jsonb_array_elements(calls) WITH ORDINALITY c (call, number)
        CROSS JOIN LATERAL (
            SELECT q.tier FROM darkroom.job_queue q
            WHERE q.id = (c.call ->> 'queue_id')::bigint AND q.job_id = c.call ->> 'job_id'
              AND q.lease_token = (c.call ->> 'lease_token')::uuid FOR UPDATE SKIP LOCKED) q
        WHERE c.number = ANY (unlocked)) l;
    IF asked IS NULL THEN
        RETURN;
    END IF;
    IF may_be_paid THEN
        locked_at := clock_timestamp();
        cell := darkroom.lock_cell('provider', provider, 'epoch');
        day := darkroom.lock_cell('provider_day', provider, darkroom.day_start(locked_at, zone));
        SELECT w.wait_s, w.kind, w.reason, w.kept, w.places INTO wait_s, kind, reason, kept, places
        FROM darkroom.wait_of_call(provider, NULL, 0, 0, rules, false) w;
        cell.state := cell.state || coalesce(kept, '{}');
        IF kind IS NOT NULL AND kept IS NOT NULL THEN
            PERFORM darkroom.change_cell(cell, cell.used, cell.state);
        END IF;
    ELSE
        SELECT p.* INTO wait_s, kind, reason FROM darkroom.pause_wait(provider) p;
    END IF;
    IF kind IS NOT NULL THEN -- all are refused
        RETURN QUERY SELECT n, NULL::bigint, wait_s, kind, reason, NULL FROM unnest(numbers) n;
        RETURN;
    END IF;
    admitted := asked[:coalesce(places, cardinality(asked))];
    IF may_be_paid THEN
        budgets := darkroom.lock_budgets_of(ARRAY(SELECT a.payer FROM unnest(admitted) a), locked_at);
        at := clock_timestamp(); -- waiting for the locks took time, and the calls are admitted only now
        IF cell.state ? 'open_until' -- only one call may test the provider
                OR (darkroom.day_start(at, zone), darkroom.day_start(at, 'UTC'))
                   <> (darkroom.day_start(locked_at, zone), darkroom.day_start(locked_at, 'UTC'))
                OR NOT darkroom.have_room(provider, admitted, rules, day, at) THEN
            FOR n IN 1 .. cardinality(asked) LOOP
                number := numbers[n];
                SELECT a.* INTO intent, wait_s, kind, reason, warning FROM darkroom.admit_call(asked[n], rules) a;
                RETURN NEXT;
            END LOOP;
            RETURN;
        END IF;
        PERFORM darkroom.add_to_cell(day, cardinality(admitted), jsonb_build_object(
            'images', (SELECT sum(a.quoted_images) FROM unnest(admitted) a)));
        PERFORM darkroom.add_all_to_budgets(budgets, array_agg(a.payer), array_agg(1), array_agg(a.quoted_usd),
                                            array_agg(a.is_free)) FROM unnest(admitted) a;
        PERFORM darkroom.change_cell(cell, cell.used + cardinality(admitted), cell.state
            || jsonb_build_object('in_flight', (cell.state ->> 'in_flight')::integer + cardinality(admitted))
            || CASE WHEN places <= cardinality(admitted) THEN jsonb_build_object('full_at', at) ELSE '{}' END);
    END IF;
    ids := darkroom.record_intents(admitted, coalesce(at, clock_timestamp()));
    RETURN QUERY SELECT n.number, n.id, CASE WHEN n.id IS NULL THEN 1::float8 END,
        CASE WHEN n.id IS NULL THEN 'concurrency' END,
        CASE WHEN n.id IS NULL THEN 'other calls of its group are in flight, as many as it takes now' END, NULL
    FROM unnest(numbers, ids) n (number, id);
END $$;
