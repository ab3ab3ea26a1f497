-- Unfinished jobs without a queue row: left by another worker, restored from a backup, inserted while our triggers were
-- off, or from before the queue was truncated. Young ones are adopted and old ones ended, both without a new charge.

-- Whether Darkroom may adopt unfinished jobs without a queue row. On another tool's tables it may only after `db
-- upgrade --take-over`.
CREATE OR REPLACE FUNCTION darkroom.takes_over() RETURNS boolean LANGUAGE sql STABLE
RETURN NOT coalesce((darkroom.setting('is_adopted'))::boolean, false) OR darkroom.setting('take_over') IS NOT NULL;

-- Return how long a job has waited since its creation, in seconds; operators' pauses aren't counted.
CREATE OR REPLACE FUNCTION darkroom.waited_s(job_type text, tier text, created timestamp, stops jsonb) RETURNS float8
LANGUAGE sql STABLE
RETURN extract(epoch FROM darkroom.utc_now() - created)::float8
    - darkroom.paused_s(darkroom.paused_times({{default queue}}, job_type, tier, stops), created AT TIME ZONE 'utc');

-- Record the charges and refunds of jobs that are in the ledger and were written there by Darkroom: after a restore of
-- only the application's schema, no other record of them exists.
CREATE OR REPLACE FUNCTION darkroom.recognise_money(jobs darkroom.entering[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan AS $$
BEGIN
    IF darkroom.money_mode() <> 'managed' THEN
        RETURN;
    END IF;
    --: if a job table is paid in tokens
    INSERT INTO darkroom.job_money (job_type, job_id, kind, amount)
    SELECT DISTINCT ON (j.job_type, j.job_id) j.job_type, j.job_id, 'charge', -t.amount
    FROM unnest(jobs) j
    JOIN public.token_transactions t ON t."sourceId" = j.job_id AND t."userId" = j.user_id
    WHERE t.amount < 0
      AND t.type::text = {{spend type of j.job_type}}
      AND t.source = {{source of j.job_type}}
    ORDER BY j.job_type, j.job_id, t."createdAt", t.id
    ON CONFLICT DO NOTHING;

    INSERT INTO darkroom.job_money (job_type, job_id, kind, amount)
    SELECT c.job_type, c.job_id, 'refund', c.amount
    FROM unnest(jobs) j
    JOIN darkroom.job_money c ON c.job_type = j.job_type AND c.job_id = j.job_id AND c.kind = 'charge'
    WHERE EXISTS (
        SELECT FROM public.token_transactions t
        WHERE t."sourceId" = j.job_id AND t."userId" = j.user_id AND t.type = 'REFUND' AND t.amount > 0
          AND t.source IN ({{source of j.job_type}} || '_failed',
                           {{source of j.job_type}} || '_cancelled'))
    ORDER BY c.job_type, c.job_id
    ON CONFLICT DO NOTHING;
    --: end
END $$;

-- Queue jobs whose rows the caller has locked, without charging them; jobs that were refunded are left to be ended. A
-- job in status PROCESSING waits again, as after a retry. Return how many were queued.
CREATE OR REPLACE FUNCTION darkroom.take_in(jobs darkroom.entering[]) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    ours darkroom.entering[];
    ids text[];
    one text;
    usual text := current_setting('lock_timeout');
    entered integer;
BEGIN
    IF cardinality(jobs) = 0 THEN
        RETURN 0;
    END IF;
    PERFORM darkroom.recognise_money(jobs);
    ours := ARRAY(SELECT ROW(j.job_type, j.job_id, j.user_id, j.tier, j.cost, j.stage, j.max_attempts,
                             j.created_at)::darkroom.entering
                  FROM unnest(jobs) WITH ORDINALITY j
                  WHERE NOT EXISTS (SELECT FROM darkroom.job_money m WHERE m.job_type = j.job_type
                                    AND m.job_id = j.job_id AND m.kind = 'refund')
                  ORDER BY j.ordinality);
    --: if a job table is of another application
    ours := darkroom.with_user_keys(ours);
    --: end
    entered := darkroom.enqueue(ours, (SELECT jsonb_object_agg(s.key, s.value) FROM darkroom.settings s
                                       WHERE s.key = ANY ('{pauses,stage_queues,user_caps,weights,priority_head_start}')));
    ids := ARRAY(SELECT o.job_id FROM unnest(ours) o);
    ids := ARRAY(SELECT j.id FROM unnest(ours) o JOIN darkroom.jobs_of(ids) j ON j.id = o.job_id AND j.type = o.job_type
                 WHERE j.status = 'PROCESSING');
    INSERT INTO darkroom.stage_runs (job_type, job_id, event, stage, error)
    SELECT o.job_type, o.job_id, 'retried', o.stage, 'taken in: left by another worker'
    FROM unnest(ours) o WHERE o.job_id = ANY (ids);
    BEGIN
        PERFORM darkroom.set_back(ids);
    EXCEPTION WHEN OTHERS OR assert_failure OR query_canceled THEN
        IF SQLSTATE = '57014' THEN  -- a trigger is too slow, and the time limit has passed
            RETURN entered;
        END IF;
        -- One by one. A row that the database refuses to reset is queued unchanged, and its job is set aside when it is
        -- claimed; also if a trigger of the application doesn't get a lock.
        PERFORM set_config('lock_timeout', '50', true);
        FOREACH one IN ARRAY ids LOOP
            BEGIN
                PERFORM darkroom.set_back(ARRAY[one]);
            EXCEPTION WHEN OTHERS OR assert_failure OR query_canceled THEN
                NULL;
            END;
        END LOOP;
        PERFORM set_config('lock_timeout', usual, true); -- the commit waits for other commits, without this limit
    END;
    RETURN entered;
END $$;

-- Reset jobs that another worker left in status PROCESSING to PENDING, in rows that the caller has locked.
CREATE OR REPLACE FUNCTION darkroom.set_back(ids text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF cardinality(ids) > 0 THEN
        --: each job table
        UPDATE {{table}} j SET {{status column}} = {{label from PENDING}} WHERE j.{{id column}} = ANY ({{ids from ids}}) AND {{is processing j}}
            AND EXISTS (SELECT FROM darkroom.job_queue q WHERE q.job_id = {{id j}} AND q.status = 'pending'
                        AND q.job_type IN ({{types}}));
        --: end
    END IF;
END $$;

-- Return unfinished jobs without a queue row that have to end: older than the maximum wait, or already refunded. A row
-- that was written within the last `silence_s` seconds may still have another worker, and is left out. Only the jobs of
-- `ids` are read; all jobs if it is NULL.
CREATE OR REPLACE FUNCTION darkroom.left_behind(max_wait_s float8, silence_s float8, stops jsonb, most integer,
                                                ids text[] DEFAULT NULL)
RETURNS TABLE (job_type text, job_id text, user_id text, status text, updated_at timestamp, is_refunded boolean)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan AS $$
#variable_conflict use_column
DECLARE
    silent timestamp := darkroom.utc_now() - make_interval(secs => silence_s);
BEGIN
    PERFORM darkroom.require_jobs_shown();  -- a hidden queue row must not be treated as a missing one
    RETURN QUERY
    WITH found AS (
        --: each job table, UNION ALL between
        (SELECT {{type j}} AS type, {{id j}} AS id, {{user j}} AS owner, {{tier j}} AS tier,
                {{state j}} AS status, {{last write j}} AS updated, {{created j}} AS created
         FROM {{table}} j
         WHERE {{is unfinished j}} AND {{is silent j}} AND (ids IS NULL OR j.{{id column}} = ANY ({{ids from ids}}))
           AND NOT EXISTS (SELECT FROM darkroom.job_queue q
                           WHERE q.job_id = {{id j}} AND q.job_type IN ({{types}})))
        --: end
        )
    SELECT f.type, f.id::text, f.owner::text, f.status, f.updated::timestamp, m.is_refunded
    FROM found f
    CROSS JOIN LATERAL (SELECT EXISTS (
        SELECT FROM darkroom.job_money r
        WHERE r.job_type = f.type AND r.job_id = f.id AND r.kind = 'refund') AS is_refunded) m
    WHERE NOT EXISTS (SELECT FROM darkroom.refused_ends r
                      WHERE r.job_type = f.type AND r.job_id = f.id AND r.label IS NOT NULL)
      AND (m.is_refunded OR darkroom.waited_s(f.type, f.tier, f.created, stops) >= max_wait_s)
    ORDER BY f.created, f.id LIMIT most;
END $$;

-- End one of these jobs. It is refunded if Darkroom charged it and hasn't refunded it yet. Return its label; NULL, with
-- nothing done, if its row has changed since it was found or is locked.
CREATE OR REPLACE FUNCTION darkroom.end_left_behind(of_type text, of_job text, found_at timestamp, reason text)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    owner text;
    label text;
BEGIN
    PERFORM darkroom.require_jobs_shown();
    CASE
    --: each job table
    WHEN of_type IN ({{types}}) THEN
        SELECT {{user j}} INTO owner FROM {{table}} j
        WHERE j.{{id column}} = {{id from of_job}} AND {{is unfinished j}} AND {{last write j}} = found_at
        FOR NO KEY UPDATE SKIP LOCKED;
    --: end
    END CASE; -- any other type raises an error: no table has such jobs
    IF owner IS NULL OR EXISTS (SELECT FROM darkroom.job_queue q WHERE q.job_type = of_type AND q.job_id = of_job) THEN
        RETURN NULL;
    END IF;
    PERFORM darkroom.recognise_money(ARRAY[ROW(of_type, of_job, owner, NULL, NULL, NULL, NULL, NULL)::darkroom.entering]);
    -- an application that charges by itself is notified, and refunds in its own way
    label := CASE WHEN darkroom.money_mode() = 'managed' AND EXISTS (
                      SELECT FROM darkroom.job_money m
                      WHERE m.job_type = of_type AND m.job_id = of_job AND m.kind = 'charge')
             THEN 'REFUNDED' ELSE 'FAILED' END;
    INSERT INTO darkroom.stage_runs (job_type, job_id, event, error) VALUES (of_type, of_job, 'failed', reason);
    BEGIN
        PERFORM darkroom.write_label(of_type, of_job, label, reason);
        RETURN label;
    EXCEPTION WHEN OTHERS OR assert_failure OR query_canceled THEN
        RETURN darkroom.end_refused(ROW(of_type, of_job, owner, label, NULL, reason)::darkroom.change, label,
                                    format('%s (SQLSTATE %s)', SQLERRM, SQLSTATE),
                                    NOT (SQLSTATE = '57014' AND darkroom.is_time_over()));
    END;
END $$;
