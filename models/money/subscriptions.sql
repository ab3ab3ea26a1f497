-- What happens at the end of a subscription's period. It is off unless DARKROOM_SUBSCRIPTIONS is on, because the
-- application's payment webhook may do it already.

-- Return the day of the month on which periods begin. In a short month a period begins or ends on an earlier day, but
-- never does both: no two months in a row are too short for the same day. A period that isn't a month (a trial) ends on
-- its own day.
CREATE OR REPLACE FUNCTION darkroom.anchor_day(period_start timestamp, period_end timestamp) RETURNS integer
LANGUAGE sql IMMUTABLE
RETURN CASE WHEN darkroom.months_after(period_start, greatest(extract(day FROM period_start),
                                                              extract(day FROM period_end))::integer, 1) = period_end
            THEN greatest(extract(day FROM period_start), extract(day FROM period_end))
            ELSE extract(day FROM period_end) END::integer;

-- Whether a subscription is a trial without a payment, such as a voucher's: no payment will renew it, so it ends with
-- its period. The row is read as JSON, because another tool's tables may have no id of a payment provider; then no
-- trial is found.
CREATE OR REPLACE FUNCTION darkroom.is_bare_trial(status text, subscription jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE
RETURN status = 'TRIALING' AND subscription ? 'stripeSubscriptionId'
       AND btrim(coalesce(subscription ->> 'stripeSubscriptionId', '')) = '';

-- Return every subscription whose period is over, with the terms of its next period and the tokens carried over into
-- it.
CREATE OR REPLACE FUNCTION darkroom.due_periods(at timestamp)
RETURNS TABLE (user_id text, is_ending boolean, tier text, tokens_per_month integer, max_rollover integer,
               period_start timestamp, period_end timestamp, balance bigint, spent bigint, unused bigint,
               carried bigint, downgraded_from text)
LANGUAGE sql STABLE AS $$
    SELECT s."userId"::text, s."cancelAtPeriodEnd" OR darkroom.is_bare_trial(s.status::text, to_jsonb(s)),
           coalesce(s."downgradeTo", s.tier)::text, n.tokens::integer, n.rollover::integer,
           s."currentPeriodEnd"::timestamp, p.period_end, coalesce(b.balance, 0)::bigint, l.spent::bigint,
           u.unused::bigint, least(u.unused, n.rollover)::bigint, CASE WHEN s."downgradeTo" IS NOT NULL THEN s.tier::text END
    FROM public.subscriptions s
    LEFT JOIN public.user_token_balances b ON b."userId" = s."userId"
    CROSS JOIN LATERAL (SELECT darkroom.months_after(s."currentPeriodEnd",
        darkroom.anchor_day(s."currentPeriodStart", s."currentPeriodEnd"), 1)) p (period_end)
    LEFT JOIN LATERAL (
        SELECT sp."tokensPerMonth" AS tokens, sp."maxRollover" AS rollover FROM public.subscription_plans sp
        WHERE sp.active AND upper(sp.name) = s."downgradeTo"::text ORDER BY sp."sortOrder", sp.id LIMIT 1) plan ON true
    LEFT JOIN darkroom.regeneration_terms() t ON t.tier = s."downgradeTo"::text
    CROSS JOIN LATERAL (SELECT
        CASE WHEN s."downgradeTo" IS NULL THEN s."tokensPerMonth" ELSE coalesce(plan.tokens, t.allowance) END,
        CASE WHEN s."downgradeTo" IS NULL THEN s."maxRollover" ELSE coalesce(plan.rollover, 0) END) n (tokens, rollover)
    -- tokens are counted as if the period were settled on time: tokens that came after its end belong to the next one
    CROSS JOIN LATERAL (
        -- compared as text: another tool's database may lack a label that Darkroom never writes
        SELECT -coalesce(sum(tt.amount) FILTER (WHERE tt."createdAt" < s."currentPeriodEnd" AND tt.type::text IN
                   ({{spend types}}, 'SPEND_BOX_CREATION', 'REFUND')), 0),
               coalesce(sum(tt.amount) FILTER (WHERE tt."createdAt" >= s."currentPeriodEnd"
                   AND tt.source IS DISTINCT FROM 'subscription_period'), 0)
        FROM public.token_transactions tt
        WHERE tt."userId" = s."userId" AND tt."createdAt" >= s."currentPeriodStart") l (spent, later)
    -- by the terms of the period that ended, not by those of the next one
    CROSS JOIN LATERAL (SELECT greatest(least(coalesce(b.balance, 0) - l.later,
        s."tokensPerMonth" + s."rolloverTokens" - l.spent), 0)) u (unused)
    WHERE s.status IN ('ACTIVE', 'TRIALING') AND s."currentPeriodEnd" <= at
$$;

-- Renew or end one period of each user. The caller has locked users, subscriptions and balances, in the order of user
-- ids.
CREATE OR REPLACE FUNCTION darkroom.renew_periods(ids text[], at timestamp, OUT renewed integer, OUT ended integer)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    booked record;
BEGIN
    WITH due AS MATERIALIZED (
        -- expired tokens may have been spent before the period was settled; then no user has to pay them back
        SELECT d.*, greatest(d.tokens_per_month - (d.unused - d.carried), -d.balance)::integer AS amount,
               NOT d.is_ending AND NOT EXISTS (SELECT FROM darkroom.subscription_periods k
                   WHERE k.user_id = d.user_id AND k.period_start = d.period_start) AS is_new
        FROM darkroom.due_periods(at) d WHERE d.user_id = ANY (ids)),
    keyed AS (
        INSERT INTO darkroom.subscription_periods (user_id, period_start, period_end)
        SELECT d.user_id, d.period_start, d.period_end FROM due d WHERE d.is_new),
    entered AS (
        INSERT INTO public.token_transactions
            (id, "userId", amount, type, source, "balanceAfter", metadata, "createdAt")
        SELECT 'c' || left(md5('subscription_period ' || d.user_id || ' ' || d.period_start), 24), d.user_id, d.amount,
               'EARN_REGENERATION', 'subscription_period', d.balance + d.amount,
               jsonb_build_object('tier', d.tier, 'periodStart', d.period_start, 'periodEnd', d.period_end,
                                  'tokensPerMonth', d.tokens_per_month, 'maxRollover', d.max_rollover,
                                  'spent', d.spent, 'unused', d.unused, 'carried', d.carried,
                                  'downgradedFrom', d.downgraded_from),
               clock_timestamp() AT TIME ZONE 'utc'
        FROM due d WHERE d.is_new
        RETURNING "userId", amount),
    paid AS (
        UPDATE public.user_token_balances b
        SET balance = b.balance + CASE WHEN d.is_new THEN d.amount ELSE 0 END,
            tier = CASE WHEN d.is_ending THEN 'FREE'
                        WHEN d.downgraded_from IS NOT NULL THEN d.tier::public."SubscriptionTier" ELSE b.tier END,
            "updatedAt" = darkroom.utc_now()
        FROM due d WHERE b."userId" = d.user_id),
    moved AS (
        UPDATE public.subscriptions s
        SET status = CASE WHEN d.is_ending THEN 'CANCELED' ELSE s.status END,
            tier = CASE WHEN d.is_ending THEN 'FREE' ELSE d.tier END::public."SubscriptionTier",
            "downgradeTo" = NULL,
            "tokensPerMonth" = CASE WHEN d.is_ending THEN s."tokensPerMonth" ELSE d.tokens_per_month END,
            "maxRollover" = CASE WHEN d.is_ending THEN s."maxRollover" ELSE d.max_rollover END,
            "rolloverTokens" = CASE WHEN d.is_ending THEN s."rolloverTokens" ELSE d.carried END,
            "currentPeriodStart" = CASE WHEN d.is_ending THEN s."currentPeriodStart" ELSE d.period_start END,
            "currentPeriodEnd" = CASE WHEN d.is_ending THEN s."currentPeriodEnd" ELSE d.period_end END,
            "updatedAt" = darkroom.utc_now()
        FROM due d WHERE s."userId" = d.user_id
        RETURNING s."userId", s.status, s."currentPeriodStart")
    SELECT count(*) AS due, count(*) FILTER (WHERE d.is_new) AS renewed, count(*) FILTER (WHERE d.is_ending) AS ended,
           (SELECT count(*) FROM entered e
            WHERE EXISTS (SELECT FROM due n WHERE n.user_id = e."userId" AND n.amount = e.amount)) AS entered,
           (SELECT count(*) FROM moved m
            WHERE EXISTS (SELECT FROM due n WHERE n.user_id = m."userId" AND CASE WHEN n.is_ending
                          THEN m.status = 'CANCELED' ELSE m."currentPeriodStart" = n.period_start END)) AS moved,
           array_agg(d.user_id) AS users,
           array_agg(d.balance + CASE WHEN d.is_new THEN d.amount ELSE 0 END::bigint) AS expected
    INTO booked FROM due d;
    renewed := booked.renewed;
    ended := booked.ended;
    PERFORM darkroom.require_booked('ledger rows', renewed, booked.entered);
    PERFORM darkroom.require_booked('subscriptions', booked.due, booked.moved);
    PERFORM darkroom.require_balances(booked.users, booked.expected);
END $$;

-- Renew or end one period of each of the next users, in the order of ids. Users whose rows another transaction has
-- locked are returned in `late`; the caller then calls this for each of them with `alone`, and waits for the locks.
CREATE OR REPLACE FUNCTION darkroom.renew_chunk(at timestamp, after text, most integer, alone text DEFAULT NULL,
    OUT last text, OUT late text[], OUT renewed integer, OUT ended integer)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    ids text[];
    locked text[];
BEGIN
    renewed := 0;
    ended := 0;
    IF darkroom.money_mode() <> 'managed' THEN
        RETURN;
    END IF;
    ids := ARRAY(SELECT s."userId" FROM public.subscriptions s
                 WHERE s.status IN ('ACTIVE', 'TRIALING') AND s."currentPeriodEnd" <= at AND s."userId" > after
                   AND (alone IS NULL OR s."userId" = alone)
                 ORDER BY s."userId" LIMIT most);
    IF cardinality(ids) = 0 THEN
        RETURN;
    END IF;
    last := ids[cardinality(ids)];
    IF alone IS NOT NULL THEN
        PERFORM 1 FROM public.users u JOIN public.subscriptions s ON s."userId" = u.id
        WHERE u.id = ANY (ids) ORDER BY u.id FOR KEY SHARE OF u FOR NO KEY UPDATE OF s;
        locked := ids;
    ELSE
        locked := ARRAY(
            SELECT u.id FROM public.users u JOIN public.subscriptions s ON s."userId" = u.id
            WHERE u.id = ANY (ids) ORDER BY u.id FOR KEY SHARE OF u SKIP LOCKED FOR NO KEY UPDATE OF s SKIP LOCKED);
    END IF;
    PERFORM darkroom.open_balances(locked);
    IF alone IS NOT NULL THEN
        PERFORM 1 FROM public.user_token_balances b
        WHERE b."userId" = ANY (locked) ORDER BY b."userId" FOR NO KEY UPDATE;
    ELSE
        locked := ARRAY(SELECT b."userId" FROM public.user_token_balances b
                        WHERE b."userId" = ANY (locked) ORDER BY b."userId" FOR NO KEY UPDATE SKIP LOCKED);
    END IF;
    late := ARRAY(SELECT unnest(ids) EXCEPT SELECT unnest(locked));
    SELECT r.renewed, r.ended INTO renewed, ended FROM darkroom.renew_periods(locked, at) r;
END $$;
