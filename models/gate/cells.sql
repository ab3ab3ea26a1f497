-- Cells of darkroom.limits: how each is found, locked and changed. It stays fast even while another session's old
-- snapshot makes PostgreSQL keep every earlier version of a cell's row.
--
--   provider NAME            used: calls ever admitted, state: ceiling, full_at (when it was last reached), in_flight,
--                            oldest_open, counted_at, paused_until, failures, open_until, open_s, open_reason, probe,
--                            decreased_at
--   provider_day NAME, day   used: requests, state.images: pictures; the day is the provider's own
--   budget PAYER, day/epoch  used: USD counted, state.calls: calls counted, state.free_calls: those of jobs of tier FREE;
--                            payers are all, user:ID, user:APPLICATION/ID, anonymous
--
-- A cell is one row. `changes` counts its changes, and `version`, the last column of the key, grows with every 32nd of
-- them. Within a version changes are heap-only updates; the newest row is found by its highest version, after at most
-- 32 dead ones, even if thousands of older versions are still kept. A session changes only cells that it has locked
-- with lock_cell.

-- Return a cell as it is now; NULL if nothing has been counted in it yet.
CREATE OR REPLACE FUNCTION darkroom.cell(scope text, name text, window_start timestamptz) RETURNS darkroom.limits
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    found_cell darkroom.limits;
BEGIN
    SELECT l.* INTO found_cell FROM darkroom.limits l
    WHERE l.scope = cell.scope AND l.name = cell.name AND l.window_start = cell.window_start
    ORDER BY l.version DESC LIMIT 1;
    RETURN found_cell;
END $$;

-- Lock a cell until the transaction ends, create it if it is missing, and return it. Callers lock in the order of the
-- list above, budgets from all to payer and from epoch to day, so that no two of them deadlock.
CREATE OR REPLACE FUNCTION darkroom.lock_cell(scope text, name text, window_start timestamptz) RETURNS darkroom.limits
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    locked darkroom.limits;
BEGIN
    FOR look IN 1..2 LOOP
        SELECT l.* INTO locked FROM darkroom.limits l
        WHERE l.scope = lock_cell.scope AND l.name = lock_cell.name AND l.window_start = lock_cell.window_start
        ORDER BY l.version DESC LIMIT 1 FOR UPDATE;
        IF FOUND THEN
            RETURN locked;
        ELSIF look = 1 THEN -- two sessions that miss a cell create it one after the other: no constraint stops them
            PERFORM pg_advisory_xact_lock(hashtextextended(concat_ws(' ', 'darkroom.limits', scope, name, window_start),
                                                           0));
        END IF;
    END LOOP;
    INSERT INTO darkroom.limits (scope, name, window_start) VALUES (scope, name, window_start) RETURNING * INTO locked;
    RETURN locked;
END $$;

-- Write the new values of a locked cell. The locked row is the newest one, so its version identifies it.
CREATE OR REPLACE FUNCTION darkroom.change_cell(locked darkroom.limits, used numeric, state jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    UPDATE darkroom.limits l
    SET used = change_cell.used, state = change_cell.state, changes = l.changes + 1, updated_at = now()
    WHERE l.scope = locked.scope AND l.name = locked.name AND l.window_start = locked.window_start
      AND l.version = locked.version;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'cell % % of darkroom.limits was not locked, or changed twice under one lock',
            locked.scope, locked.name;
    END IF;
END $$;

-- Add numbers, which may be negative, to a locked cell; `counts` names the numbers in its state.
CREATE OR REPLACE FUNCTION darkroom.add_to_cell(locked darkroom.limits, used numeric, counts jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    state jsonb := locked.state;
    count record;
BEGIN
    FOR count IN SELECT c.key, c.value::numeric FROM jsonb_each_text(counts) c LOOP
        state := state || jsonb_build_object(count.key, coalesce((state ->> count.key)::numeric, 0) + count.value);
    END LOOP;
    PERFORM darkroom.change_cell(locked, locked.used + add_to_cell.used, state);
END $$;

-- Lock the budgets that a payer's calls are counted in: of all users in total, of all users today, and the payer's
-- today.
CREATE OR REPLACE FUNCTION darkroom.lock_budgets(payer text, at timestamptz) RETURNS darkroom.limits[]
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    day timestamptz := date_trunc('day', at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';
BEGIN
    RETURN ARRAY[darkroom.lock_cell('budget', 'all', 'epoch'), darkroom.lock_cell('budget', 'all', day),
                 darkroom.lock_cell('budget', payer, day)];
END $$;

-- Add calls and USD, which may be negative, to locked budgets.
CREATE OR REPLACE FUNCTION darkroom.add_to_budgets(locked darkroom.limits[], calls integer, usd numeric, is_free boolean)
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    cell darkroom.limits;
BEGIN
    FOREACH cell IN ARRAY locked LOOP
        PERFORM darkroom.add_to_cell(cell, usd, CASE
            WHEN calls = 0 THEN '{}'
            WHEN is_free AND cell.name <> 'all' THEN jsonb_build_object('calls', calls, 'free_calls', calls)
            ELSE jsonb_build_object('calls', calls) END);
    END LOOP;
END $$;

-- Whether a paid call is in flight. A call whose claim was lost is not: its worker has died, or will soon cancel it.
-- After 15 minutes a call is not in flight either, whatever happened to it. A call that has ended is never in flight
-- again.
CREATE OR REPLACE FUNCTION darkroom.is_in_flight(call darkroom.provider_calls) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
BEGIN
    RETURN call.outcome = 'open' AND call.may_be_paid AND call.started_at > clock_timestamp() - interval '15 minutes'
        AND EXISTS (SELECT FROM (SELECT q.* FROM darkroom.job_queue q
                                 WHERE q.job_id = call.job_id AND q.job_type = call.job_type
                                 OFFSET 0) q -- otherwise a plan made for an empty queue reads all claims
                    WHERE q.status = 'processing' AND q.attempts = call.attempt
                      -- a released attempt has the same number when it is claimed again
                      AND q.started_at <= call.started_at);
END $$;

-- Return how many calls of a provider are in flight: the number kept in its cell, which may be too high (by calls of
-- dead workers), or, before one more call would reach the ceiling or be refused, a new count. `kept` is the count that
-- the caller should store in the cell, or NULL. A new count begins at the oldest call that was in flight at the last count,
-- and counting takes at most a fifth of the time.
--
-- OFFSET 0 keeps the planner from the index of open calls, where each call of the last minutes has left a dead entry.
CREATE OR REPLACE FUNCTION darkroom.in_flight_now(provider text, state jsonb, ceiling numeric,
                                                  OUT calls integer, OUT kept jsonb)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    at timestamptz := clock_timestamp();
    since bigint := (state ->> 'oldest_open')::bigint;
    oldest bigint;
    newest bigint;
BEGIN
    calls := (state ->> 'in_flight')::integer;
    IF calls + 1 < ceiling OR at < (state ->> 'counted_at')::timestamptz + calls * interval '0.2 ms' THEN
        RETURN;
    END IF;
    IF since IS NULL THEN
        SELECT min(o.id) INTO since FROM (
            SELECT c.id FROM darkroom.provider_calls c
            WHERE c.outcome = 'open' AND c.started_at > at - interval '15 minutes'
              AND c.provider = in_flight_now.provider OFFSET 0) o;
        since := coalesce(since, (SELECT max(c.id) + 1 FROM darkroom.provider_calls c));
    END IF;
    SELECT count(*) FILTER (WHERE c.is_open), min(c.id) FILTER (WHERE c.is_open), max(c.id)
    INTO calls, oldest, newest
    FROM (SELECT r.id, r.provider, CASE WHEN r.outcome = 'open' THEN darkroom.is_in_flight(r) ELSE false END AS is_open
          FROM (SELECT * FROM darkroom.provider_calls p WHERE p.id >= since OFFSET 0) r
          WHERE r.provider = in_flight_now.provider OFFSET 0) c;
    kept := jsonb_strip_nulls(jsonb_build_object('in_flight', calls, 'counted_at', at,
                                                 'oldest_open', coalesce(oldest, newest + 1, since)));
END $$;
