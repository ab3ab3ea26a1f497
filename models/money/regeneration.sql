-- Regeneration of tokens in closed form: one run after a year gives as much as a run every minute would have given.

-- Return the date n months later, on the anchor's day or the last day of a shorter month, at the same time of day.
CREATE OR REPLACE FUNCTION darkroom.months_after(since timestamp, anchor_day integer, months integer) RETURNS timestamp
LANGUAGE sql IMMUTABLE
RETURN date_trunc('month', since) + make_interval(months => months)
    + make_interval(days => least(anchor_day, extract(day FROM date_trunc('month', since)
        + make_interval(months => months + 1) - interval '1 day')::integer) - 1)
    + (since - date_trunc('day', since));

-- Return the terms of regeneration that `db upgrade` or a scheduler last recorded, one row per tier. In a form that
-- PostgreSQL doesn't inline, because it would then be evaluated for each row.
CREATE OR REPLACE FUNCTION darkroom.regeneration_terms()
RETURNS TABLE (tier text, policy text, allowance integer, interval_s integer, amount integer, cap integer,
               is_for_subscribers boolean)
LANGUAGE plpgsql STABLE ROWS 4
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    terms jsonb := darkroom.setting('regeneration');
BEGIN
    RETURN QUERY
    SELECT d.tier, coalesce(terms ->> 'policy', 'monthly'),
           coalesce((terms -> 'allowances' ->> d.tier)::integer, d.allowance),
           coalesce((terms -> 'drip_intervals_s' ->> d.tier)::integer, {{drip interval}}),
           coalesce((terms -> 'drip_amounts' ->> d.tier)::integer, {{drip amount}}),
           coalesce((terms -> 'drip_caps' ->> d.tier)::integer, d.allowance),
           coalesce((terms ->> 'drip_subscribers')::boolean, false)
    FROM (VALUES {{allowances}}) d (tier, allowance);
END $$;

-- Return the tokens that are due to each balance at a time: only for whole intervals. `until` is the end of the last of
-- them. Inlined into the calling query, so that its conditions reach the indexes; OFFSET 0 keeps results from being
-- computed again at each use.
CREATE OR REPLACE FUNCTION darkroom.due_regenerations(at timestamp)
RETURNS TABLE (user_id text, tier text, policy text, balance bigint, since timestamp, until timestamp, day integer,
               intervals bigint, tokens integer)
LANGUAGE sql STABLE AS $$
    SELECT b."userId"::text, t.tier, t.policy, b.balance::bigint, b."lastRegeneration"::timestamp,
           CASE t.policy
                WHEN 'monthly' THEN darkroom.months_after(b."lastRegeneration", anchor.day, n.intervals::integer)
                ELSE b."lastRegeneration" + make_interval(secs => n.intervals * t.interval_s) END,
           anchor.day, n.intervals,
           CASE WHEN t.policy = 'monthly' AND s.id IS NULL
                    THEN least(n.intervals * t.allowance, 2147483647 - b.balance)
                WHEN t.policy = 'drip' AND (s.id IS NULL OR t.is_for_subscribers)
                    THEN least(n.intervals * t.amount, greatest(t.cap - b.balance, 0))
                ELSE 0 END::integer
    FROM public.user_token_balances b
    JOIN darkroom.regeneration_terms() t ON t.tier = b.tier::text
    LEFT JOIN public.subscriptions s ON s."userId" = b."userId" AND s.status IN ('ACTIVE', 'TRIALING')
    LEFT JOIN darkroom.regeneration_anchors a ON a.user_id = b."userId" AND a.regenerated_at = b."lastRegeneration"
    CROSS JOIN LATERAL (SELECT coalesce(a.day, extract(day FROM b."lastRegeneration")::integer) OFFSET 0) anchor (day)
    CROSS JOIN LATERAL (SELECT (extract(year FROM at) - extract(year FROM b."lastRegeneration")) * 12
        + extract(month FROM at) - extract(month FROM b."lastRegeneration") OFFSET 0) m (months)
    CROSS JOIN LATERAL (SELECT CASE t.policy
        WHEN 'monthly' THEN m.months
            - (darkroom.months_after(b."lastRegeneration", anchor.day, m.months::integer) > at)::integer
        WHEN 'drip' THEN floor(extract(epoch FROM at - b."lastRegeneration") / t.interval_s)
        ELSE 0 END::bigint OFFSET 0) n (intervals)
    WHERE b."lastRegeneration" < at AND n.intervals > 0
$$;

-- Add the tokens that are due to balances. The caller has locked the user rows and balances, in the order of user ids.
-- Planned once, for index scans, whatever the tables held when the session planned: planning anew would cost more than
-- the work of a small chunk. The ledger row's id is made of the user and the beginning of the interval, so an interval
-- is never paid twice.
CREATE OR REPLACE FUNCTION darkroom.regenerate_users(ids text[], at timestamp, OUT users integer, OUT tokens bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
DECLARE
    before bigint := (SELECT sum(b.balance) FROM public.user_token_balances b WHERE b."userId" = ANY (ids));
    booked record;
BEGIN
    -- none of these is joined with another, because the planner doesn't know their sizes and would assume that they are
    -- small
    WITH due AS MATERIALIZED (
        SELECT d.*, key.id, NOT EXISTS (SELECT FROM public.token_transactions l WHERE l.id = key.id) AS is_new
        FROM darkroom.due_regenerations(at) d
        CROSS JOIN LATERAL (
            SELECT 'c' || left(md5('regeneration ' || d.user_id || ' ' || d.since), 24) OFFSET 0) key (id)
        WHERE d.user_id = ANY (ids)),
    given AS (
        INSERT INTO public.token_transactions
            (id, "userId", amount, type, source, "balanceAfter", metadata, "createdAt")
        SELECT d.id, d.user_id, d.tokens, 'EARN_REGENERATION', 'regeneration', d.balance + d.tokens,
               jsonb_build_object('policy', d.policy, 'tier', d.tier, 'from', d.since, 'to', d.until,
                                  'intervals', d.intervals),
               clock_timestamp() AT TIME ZONE 'utc'
        FROM due d WHERE d.tokens > 0 AND d.is_new
        RETURNING amount),
    changed AS (
        UPDATE public.user_token_balances b
        SET balance = b.balance + CASE WHEN d.is_new THEN d.tokens ELSE 0 END, "lastRegeneration" = d.until,
            "updatedAt" = darkroom.utc_now()
        FROM due d WHERE b."userId" = d.user_id
        RETURNING 1),
    anchored AS (
        INSERT INTO darkroom.regeneration_anchors AS a (user_id, regenerated_at, day)
        SELECT d.user_id, d.until, d.day FROM due d
        WHERE d.policy = 'monthly' AND d.day > extract(day FROM d.until)
        ON CONFLICT (user_id) DO UPDATE SET regenerated_at = excluded.regenerated_at, day = excluded.day)
    SELECT count(*) AS due, (SELECT count(*) FROM changed) AS changed,
           count(*) FILTER (WHERE d.tokens > 0 AND d.is_new) AS users,
           coalesce(sum(d.tokens) FILTER (WHERE d.tokens > 0 AND d.is_new), 0) AS tokens,
           (SELECT count(*) FROM given) AS entered,
           (SELECT coalesce(sum(g.amount), 0)::bigint FROM given g) AS entered_tokens
    INTO booked FROM due d;
    users := booked.users;
    tokens := booked.tokens;
    PERFORM darkroom.require_booked('ledger rows', users, booked.entered);
    PERFORM darkroom.require_booked('tokens in the ledger', tokens, booked.entered_tokens);
    PERFORM darkroom.require_booked('balances', booked.due, booked.changed);
    PERFORM darkroom.require_booked('tokens on the balances', tokens, (
        SELECT coalesce(sum(b.balance), 0)::bigint FROM public.user_token_balances b
        WHERE b."userId" = ANY (ids)) - coalesce(before, 0));
END $$;

-- Add the tokens that are due to one user's balance; return how many. The effect is the same as the periodic task's.
CREATE OR REPLACE FUNCTION darkroom.regenerate_at(owner_id text, at timestamp) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM 1 FROM public.users u WHERE u.id = owner_id FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'user % not found', owner_id USING ERRCODE = 'P0002';
    END IF;
    IF darkroom.money_mode() <> 'managed' THEN
        RETURN 0;
    END IF;
    PERFORM 1 FROM public.user_token_balances b WHERE b."userId" = owner_id FOR NO KEY UPDATE;
    RETURN (SELECT r.tokens FROM darkroom.regenerate_users(ARRAY[owner_id], at) r);
END $$;

-- Add the tokens that are due to a user's balance by now; return how many. A producer may call this at any time.
CREATE OR REPLACE FUNCTION darkroom.regenerate(user_id text) RETURNS integer
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
RETURN darkroom.regenerate_at(user_id, clock_timestamp() AT TIME ZONE 'utc');

-- Add tokens for the next users in the order of ids. They are found without locks, so that a long search holds none;
-- users whose rows another transaction has locked are returned in `late`.
CREATE OR REPLACE FUNCTION darkroom.regenerate_chunk(at timestamp, after text, most integer,
    OUT last text, OUT late text[], OUT users integer, OUT tokens bigint)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
DECLARE
    ids text[];
    locked text[];
BEGIN
    users := 0;
    tokens := 0;
    IF darkroom.money_mode() <> 'managed' THEN
        RETURN;
    END IF;
    ids := ARRAY(SELECT d.user_id FROM darkroom.due_regenerations(at) d
                 WHERE d.user_id > after ORDER BY d.user_id LIMIT most);
    IF cardinality(ids) = 0 THEN
        RETURN;
    END IF;
    last := ids[cardinality(ids)];
    locked := ARRAY(
        SELECT u.id FROM public.users u JOIN public.user_token_balances b ON b."userId" = u.id
        WHERE u.id = ANY (ids)
        ORDER BY u.id FOR KEY SHARE OF u SKIP LOCKED FOR NO KEY UPDATE OF b SKIP LOCKED);
    late := ARRAY(SELECT unnest(ids) EXCEPT SELECT unnest(locked));
    SELECT r.users, r.tokens INTO users, tokens FROM darkroom.regenerate_users(locked, at) r;
END $$;
