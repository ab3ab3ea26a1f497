-- Functions of periodic tasks: usage and costs computed from jobs, calls and the ledger, and warnings of limits.

--: if a job table is of pictures
-- Compute a month's usage of every user anew from the records. Return how many rows are new or different.
CREATE OR REPLACE FUNCTION darkroom.roll_up_usage(first_day date) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    since timestamp := first_day;
    until timestamp := first_day + interval '1 month';
    changed integer;
BEGIN
    WITH facts (user_id, jobs, pictures, tokens, calls, cost, bytes) AS (
        SELECT j."userId", 1, 0, 0::bigint, 0, 0::numeric, 0::bigint FROM darkroom.jobs j
        WHERE j.type IN ({{pictures types}}) AND j."createdAt" >= since AND j."createdAt" < until
        UNION ALL
        SELECT j."userId", 0, 1, 0, 0, 0, coalesce(j."sizeBytes", 0) FROM darkroom.jobs j
        WHERE j.type IN ({{pictures types}}) AND j.status = 'COMPLETED'
          AND j."processingCompletedAt" >= since AND j."processingCompletedAt" < until
        UNION ALL
        SELECT i."userId", 0, 0, 0, 0, 0, i."originalSizeBytes" FROM public.enhanced_images i
        WHERE i."createdAt" >= since AND i."createdAt" < until
        UNION ALL
        SELECT t."userId", 0, 0, -t.amount, 0, 0, 0 FROM public.token_transactions t
        WHERE t."createdAt" >= since AND t."createdAt" < until
          AND t.type IN ({{spend types}}, 'SPEND_BOX_CREATION', 'REFUND')
        UNION ALL
        SELECT c.user_id, 0, 0, 0, 1, coalesce(c.cost_usd, 0), 0 FROM darkroom.provider_calls c
        WHERE c.job_type IN ({{pictures types}})
          AND c.started_at >= since AT TIME ZONE 'utc' AND c.started_at < until AT TIME ZONE 'utc'),
    sums AS (
        SELECT f.user_id, sum(f.jobs) AS jobs, sum(f.pictures) AS pictures, sum(f.tokens) AS tokens,
               sum(f.calls) AS calls, sum(f.cost) AS cost, sum(f.bytes) AS bytes
        FROM facts f GROUP BY f.user_id
        UNION ALL -- rows whose records have been deleted since
        SELECT u.user_id, 0, 0, 0, 0, 0, 0 FROM darkroom.usage_months u
        WHERE u.month = first_day AND NOT EXISTS (SELECT FROM facts f WHERE f.user_id = u.user_id))
    INSERT INTO darkroom.usage_months AS u
        (user_id, month, jobs, pictures, tokens, provider_calls, cost_usd, bytes_stored)
    SELECT s.user_id, first_day, s.jobs, s.pictures, s.tokens, s.calls, s.cost, s.bytes FROM sums s ORDER BY s.user_id
    ON CONFLICT (user_id, month) DO UPDATE
    SET jobs = excluded.jobs, pictures = excluded.pictures, tokens = excluded.tokens,
        provider_calls = excluded.provider_calls, cost_usd = excluded.cost_usd, bytes_stored = excluded.bytes_stored,
        computed_at = now()
    WHERE (u.jobs, u.pictures, u.tokens, u.provider_calls, u.cost_usd, u.bytes_stored) IS DISTINCT FROM
        (excluded.jobs, excluded.pictures, excluded.tokens, excluded.provider_calls, excluded.cost_usd,
         excluded.bytes_stored);
    GET DIAGNOSTICS changed = ROW_COUNT;
    RETURN changed;
END $$;

--: end
-- Compute the costs of a month by day and provider anew. Return how many rows are new or different.
CREATE OR REPLACE FUNCTION darkroom.roll_up_costs(first_day date) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    changed integer;
BEGIN
    INSERT INTO darkroom.cost_days AS d
        (day, provider, calls, paid_calls, images, prompt_units, output_units, cost_usd)
    SELECT (c.started_at AT TIME ZONE 'utc')::date, c.provider, count(*), count(*) FILTER (WHERE c.may_be_paid),
           coalesce(sum(c.images), 0), coalesce(sum(c.prompt_units), 0), coalesce(sum(c.output_units), 0),
           coalesce(sum(c.cost_usd), 0)
    FROM darkroom.provider_calls c
    WHERE c.started_at >= first_day::timestamp AT TIME ZONE 'utc'
      AND c.started_at < (first_day + interval '1 month') AT TIME ZONE 'utc'
    GROUP BY 1, 2 ORDER BY 1, 2
    ON CONFLICT (day, provider) DO UPDATE
    SET calls = excluded.calls, paid_calls = excluded.paid_calls, images = excluded.images,
        prompt_units = excluded.prompt_units, output_units = excluded.output_units, cost_usd = excluded.cost_usd,
        computed_at = now()
    WHERE (d.calls, d.paid_calls, d.images, d.prompt_units, d.output_units, d.cost_usd) IS DISTINCT FROM
        (excluded.calls, excluded.paid_calls, excluded.images, excluded.prompt_units, excluded.output_units,
         excluded.cost_usd);
    GET DIAGNOSTICS changed = ROW_COUNT;
    RETURN changed;
END $$;

--: if a job table is of pictures
-- Return the users who passed 80 % or 100 % of a limit in a month and haven't been warned of it.
CREATE OR REPLACE FUNCTION darkroom.thresholds_passed(first_day date, usage_limits jsonb)
RETURNS TABLE (user_id text, measure text, percent integer)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT u.user_id, l.key, p.percent
    FROM darkroom.usage_months u
    CROSS JOIN jsonb_each_text(usage_limits) l
    CROSS JOIN (VALUES (80), (100)) p (percent)
    WHERE u.month = first_day AND (to_jsonb(u) ->> l.key)::numeric * 100 >= l.value::numeric * p.percent
      AND NOT EXISTS (SELECT FROM darkroom.usage_warnings w
                      WHERE w.user_id = u.user_id AND w.month = first_day AND w.measure = l.key
                        AND w.percent = p.percent)
$$;

-- Warn some of these users: one row of error_logs for each, once. A scheduler of the previous release names no users,
-- and then all are warned.
CREATE OR REPLACE FUNCTION darkroom.warn_of_usage(first_day date, usage_limits jsonb, users text[] DEFAULT NULL)
RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    warned integer;
BEGIN
    WITH passed AS (
        INSERT INTO darkroom.usage_warnings AS w (user_id, month, measure, percent)
        SELECT t.user_id, first_day, t.measure, t.percent FROM darkroom.thresholds_passed(first_day, usage_limits) t
        WHERE users IS NULL OR t.user_id = ANY (users)
        ORDER BY 1, 2, 3, 4 ON CONFLICT DO NOTHING
        RETURNING w.user_id, w.month, w.measure, w.percent)
    INSERT INTO public.error_logs
        (id, "timestamp", message, "userId", route, environment, "errorType", "callerName", metadata)
    SELECT darkroom.new_id(), darkroom.utc_now(),
           format('user %s has used %s %% of the monthly limit of %s %s', p.user_id, p.percent,
                  usage_limits ->> p.measure, p.measure),
           p.user_id, 'roll-up-usage', 'BACKEND', 'UsageLimitWarning', 'darkroom',
           jsonb_build_object('month', p.month, 'measure', p.measure, 'percent', p.percent,
                              'limit', usage_limits -> p.measure)
    FROM passed p;
    GET DIAGNOSTICS warned = ROW_COUNT;
    RETURN warned;
END $$;

--: end
-- A scheduler of the previous release calls this when it collects orphans, to learn which keys no row names. It would
-- delete objects that other programs stored, so the answer is that a row names every key.
CREATE OR REPLACE FUNCTION darkroom.unreferenced(keys text[]) RETURNS SETOF text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT k.key FROM unnest(keys) k (key) WHERE false
$$;
