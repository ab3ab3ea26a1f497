-- A write that the database refuses must not keep a job from ending, nor another program from ending it: refunds that
-- can't be paid are recorded as owed, and labels that can't be written are kept in darkroom.refused_ends.

-- Whether a SQLSTATE means contention for locks. A trigger of the application may raise it without contention, so
-- callers test the locks where they can. Every other SQLSTATE is a refusal: when the server is gone, no function runs.
CREATE OR REPLACE FUNCTION darkroom.is_contention(state text) RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN state IN ('40001', '40P01', '55P03');

-- Lock the users and balances that a refund writes; false if another transaction has locked one of them, or their
-- tables. Above READ COMMITTED a row may be unlocked and the write refused nevertheless, so there it is always false.
CREATE OR REPLACE FUNCTION darkroom.lock_payees(ended darkroom.change[]) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp {{kept plans}} AS $$
DECLARE
    ids text[] := ARRAY(SELECT DISTINCT e.user_id FROM unnest(ended) e ORDER BY 1);
    locked integer;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RETURN false;
    END IF;
    --: each job table with a balance of its own
    ids := ARRAY(SELECT DISTINCT e.user_id FROM unnest(ended) e WHERE e.job_type IN ({{types}}) ORDER BY 1);
    SELECT count(*) INTO locked FROM (SELECT FROM {{balances}} b WHERE b.{{payer column}} = ANY ({{payers from ids}})
                                      ORDER BY b.{{payer column}} FOR NO KEY UPDATE SKIP LOCKED) l;
    IF locked < (SELECT count(*) FROM {{balances}} b WHERE b.{{payer column}} = ANY ({{payers from ids}})) THEN
        RETURN false;
    END IF;
    --: end
    --: if a job table is paid in tokens
    {{find token payees}}
    SELECT count(*) INTO locked FROM (SELECT FROM public.users u WHERE u.id = ANY (ids)
                                      ORDER BY u.id FOR KEY SHARE SKIP LOCKED) l;
    IF locked < (SELECT count(*) FROM public.users u WHERE u.id = ANY (ids)) THEN
        RETURN false;
    END IF;
    SELECT count(*) INTO locked FROM (SELECT FROM public.user_token_balances b WHERE b."userId" = ANY (ids)
                                      ORDER BY b."userId" FOR NO KEY UPDATE SKIP LOCKED) l;
    IF locked < (SELECT count(*) FROM public.user_token_balances b WHERE b."userId" = ANY (ids)) THEN
        RETURN false;
    END IF;
    --: end
    -- another transaction creates an index, or a trigger
    {{lock the money tables}}
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    RETURN false;
END $$;

-- Whether the statement has run for as long as the session's statement_timeout allows. Then a cancellation was caused
-- by that limit, whose clock starts a little before the statement's own.
CREATE OR REPLACE FUNCTION darkroom.is_time_over() RETURNS boolean LANGUAGE sql VOLATILE
RETURN current_setting('statement_timeout')::interval > interval '0'
    AND clock_timestamp() - statement_timestamp() >= 0.9 * current_setting('statement_timeout')::interval;

-- Check deferred constraints on balances and ledger now, while a refused refund can still be recorded as owed; at the
-- commit they would refuse the whole end of the job. Another program's pending changes of these tables are checked as
-- well; if those are refused, nothing changes here, and that program's own commit decides.
CREATE OR REPLACE FUNCTION darkroom.check_money_now() RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off AS $$
DECLARE
    names text;
BEGIN
    SELECT string_agg(format('%I.%I', n.nspname, c.conname), ', ') INTO names
    FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace
    WHERE c.conrelid = ANY (ARRAY[{{money table names}}]::regclass[])
      AND c.condeferred AND c.conname <> 'darkroom_opening_balance';
    IF names IS NOT NULL THEN
        EXECUTE format('SET CONSTRAINTS %s IMMEDIATE', names);
        EXECUTE format('SET CONSTRAINTS %s DEFERRED', names);
    END IF;
END $$;

-- Refund jobs, and record as owed the refunds that the database refuses to pay: a balance at its largest value, a rule
-- on balances or ledger. Nearly always all jobs can be refunded together; after a refusal they are refunded user by
-- user, in lock order, and then job by job.
CREATE OR REPLACE FUNCTION darkroom.refund(ended darkroom.change[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp {{kept plans}} AS $$
DECLARE
    words text;
    is_lost_race boolean;
    part record;
BEGIN
    -- a refund that can't be paid can be owed; if a charge, user or debt is hidden, not even that can be recorded
    PERFORM darkroom.require_rows_shown(ARRAY[{{payer tables and}}'darkroom.job_money', 'darkroom.refused_ends']
                                            ::regclass[]::oid[]);
    -- this is checked first: most jobs that end without a charge return here, without a lock or a subtransaction, and
    -- users to whom nothing is due aren't waited for, or given a balance
    ended := ARRAY(SELECT ROW(e.job_type, e.job_id, e.user_id, e.status, e.stage, e.reason)::darkroom.change
                   FROM unnest(ended) WITH ORDINALITY e
                   WHERE EXISTS (SELECT FROM darkroom.job_money m
                                 WHERE m.job_type = e.job_type AND m.job_id = e.job_id AND m.kind = 'charge' OFFSET 0)
                   ORDER BY e.ordinality);
    IF cardinality(ended) = 0 THEN
        RETURN;
    END IF;
    FOR try IN 1..2 LOOP
        BEGIN
            PERFORM darkroom.pay_back(ended);
            PERFORM darkroom.check_money_now();
            RETURN;
        EXCEPTION WHEN OTHERS OR assert_failure OR query_canceled THEN -- OTHERS alone doesn't include these two
            words := format('%s (SQLSTATE %s)', SQLERRM, SQLSTATE);
            is_lost_race := darkroom.is_contention(SQLSTATE);
            -- locks that others hold, a time limit, and a cancellation during a wait are left to the caller
            IF (is_lost_race OR SQLSTATE = '57014') AND NOT darkroom.lock_payees(ended)
                    OR SQLSTATE = '57014' AND darkroom.is_time_over() THEN
                RAISE;
            END IF;
        END;
        EXIT WHEN NOT is_lost_race;  -- tried once more with every lock held: then only a rule can be the cause
    END LOOP;
    IF cardinality(ended) = 1 THEN
        PERFORM darkroom.owe(ended[1], words);
    ELSE
        FOR part IN
            SELECT array_agg(ROW(e.job_type, e.job_id, e.user_id, e.status, e.stage, e.reason)::darkroom.change
                             ORDER BY e.ordinality) AS changes
            FROM unnest(ended) WITH ORDINALITY e
            CROSS JOIN (SELECT count(DISTINCT u.user_id) AS users FROM unnest(ended) u) s
            GROUP BY e.user_id, CASE WHEN s.users = 1 THEN e.ordinality END
            ORDER BY e.user_id, min(e.ordinality)
        LOOP
            PERFORM darkroom.refund(part.changes);
        END LOOP;
    END IF;
END $$;

-- Record a refund that couldn't be paid. Nothing is owed to a user who is deleted, or for a charge that was refunded.
CREATE OR REPLACE FUNCTION darkroom.owe(ended darkroom.change, refusal text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO darkroom.refused_ends AS r (job_type, job_id, user_id, reason, words, owed)
    SELECT c.job_type, c.job_id, ended.user_id, coalesce(ended.reason, ''), refusal, c.amount
    FROM darkroom.job_money c
    WHERE c.job_type = ended.job_type AND c.job_id = ended.job_id AND c.kind = 'charge'
      AND NOT EXISTS (SELECT FROM darkroom.job_money p
                      WHERE p.job_type = c.job_type AND p.job_id = c.job_id AND p.kind = 'refund')
      AND {{payer exists of c.job_type, ended.user_id}}
    ON CONFLICT (job_type, job_id) DO UPDATE
    SET owed = excluded.owed, words = excluded.words, tried_at = now(), tries = least(r.tries, 2147483646) + 1;
END $$;

-- Return the refunds that are owed: recorded, and not paid since.
CREATE OR REPLACE FUNCTION darkroom.refunds_unpaid()
RETURNS TABLE (user_id text, job_type text, job_id text, owed integer, reason text, words text, refused_at timestamptz,
               tried_at timestamptz)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT r.user_id, r.job_type, r.job_id, r.owed, r.reason, r.words, r.refused_at, r.tried_at
    FROM darkroom.refused_ends r
    WHERE r.owed > 0
      AND {{payer exists of r.job_type, r.user_id}}
      AND NOT EXISTS (SELECT FROM darkroom.job_money p
                      WHERE p.job_type = r.job_type AND p.job_id = r.job_id AND p.kind = 'refund')
$$;

-- Refunds that the database refused to pay, and that nobody has paid since.
CREATE OR REPLACE VIEW darkroom.refunds_owed AS SELECT r.* FROM darkroom.refunds_unpaid() r;

-- Write a label into a job's row and nothing else, except the message if it is given. The row's triggers do the rest.
-- Return the status that the row has now; NULL if there is no such row. Raises an error if the database refuses the
-- label, even silently.
CREATE OR REPLACE FUNCTION darkroom.write_label(of_type text, of_job text, label text, message text DEFAULT NULL)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    written text;
BEGIN
    CASE
    --: each job table
    WHEN of_type IN ({{types}}) THEN
        UPDATE {{table}} j
        SET {{label and message}}
        WHERE j.{{id column}} = {{id from of_job}} RETURNING {{state j}} INTO written;
    --: end
    END CASE; -- any other type raises an error: no table has such jobs
    IF coalesce(written NOT IN (label, 'COMPLETED', 'FAILED', 'REFUNDED', 'CANCELLED'),
                EXISTS (SELECT FROM darkroom.jobs_of(ARRAY[of_job]) j WHERE j.type = of_type)) THEN
        PERFORM darkroom.refuse_change(of_job, label);
    END IF;
    RETURN written;
END $$;

-- End a job although the database refused its end. First an end with only the label is tried; if that is refused too,
-- the job is over without it. The caller has locked the job's row and then its queue row, and has made constraints
-- immediate, because a deferred one would fail at the commit. `wanted` is NULL for a failure that Darkroom decides. If
-- the first try exceeded the statement's time limit, nothing more is tried or paid here, because the limit would be
-- exceeded again. Return the label.
CREATE OR REPLACE FUNCTION darkroom.end_refused(ended darkroom.change, wanted text, refusal text,
                                                tries_label boolean DEFAULT true)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    label text := wanted;
    mode text := darkroom.money_mode();
    is_late boolean := NOT tries_label;
BEGIN
    IF label IS NULL THEN
        IF mode = 'producer' THEN  -- the charge that the application made, recorded before it is refunded or owed
            INSERT INTO darkroom.job_money
            SELECT ended.job_type, ended.job_id, 'charge', j."tokensCost" FROM darkroom.jobs_of(ARRAY[ended.job_id]) j
            WHERE j.type = ended.job_type AND j."tokensCost" > 0 ON CONFLICT DO NOTHING;
        END IF;
        label := CASE WHEN mode <> 'external' AND EXISTS (
                     SELECT FROM darkroom.job_money m
                     WHERE m.job_type = ended.job_type AND m.job_id = ended.job_id AND m.kind = 'charge')
                 THEN 'REFUNDED' ELSE 'FAILED' END;
    END IF;
    IF tries_label THEN
        BEGIN
            IF darkroom.write_label(ended.job_type, ended.job_id, label) IS NULL THEN
                RETURN NULL;  -- the row is deleted, and the refund was paid or recorded then
            END IF;
            IF mode = 'producer' AND wanted IS NULL THEN
                PERFORM darkroom.refund(ARRAY[ended]);
            END IF;
            RETURN label;
        -- a trigger may be too slow for its role's time limit; the rows are locked, so contention comes from a rule, or
        -- from a balance, which the refund below checks by itself
        EXCEPTION WHEN OTHERS OR assert_failure OR query_canceled THEN
            is_late := SQLSTATE = '57014' AND darkroom.is_time_over();
            refusal := format('%s (SQLSTATE %s)', SQLERRM, SQLSTATE);
        END;
    END IF;
    WITH gone AS (
        DELETE FROM darkroom.job_queue q WHERE q.job_type = ended.job_type AND q.job_id = ended.job_id
        RETURNING q.job_type, q.tier, greatest(q.created_at, q.run_at) AS due_at,
                  coalesce(q.claimed_at, q.started_at) AS claimed_at)
    INSERT INTO darkroom.job_ends (job_type, tier, outcome, wait_s, run_s)
    SELECT g.job_type, g.tier, label, greatest(0, extract(epoch FROM coalesce(g.claimed_at, now()) - g.due_at)),
           CASE WHEN g.claimed_at IS NOT NULL THEN greatest(0, extract(epoch FROM now() - g.claimed_at)) END
    FROM gone g;
    INSERT INTO darkroom.refused_ends AS r (job_type, job_id, user_id, label, reason, words)
    VALUES (ended.job_type, ended.job_id, ended.user_id, label, coalesce(ended.reason, ''), refusal)
    ON CONFLICT (job_type, job_id) DO UPDATE SET label = excluded.label, words = excluded.words, tried_at = now();
    IF mode = 'managed' OR (mode = 'producer' AND wanted IS NULL) THEN
        IF is_late THEN
            PERFORM darkroom.owe(ended, refusal);
        ELSE
            PERFORM darkroom.refund(ARRAY[ended]);
        END IF;
    END IF;
    PERFORM darkroom.notify_job(ended.job_type, ended.job_id, label, NULL);
    RETURN label;
END $$;

-- Try once more what was refused at a job's end: its label, then its refund. Return whether nothing is left to be done.
CREATE OR REPLACE FUNCTION darkroom.settle_refused_end(of_type text, of_job text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found_end darkroom.refused_ends;
    status_now text;
    refusal text;
BEGIN
    PERFORM darkroom.require_jobs_shown();
    -- outside of every block, because a row that another transaction has locked is no refusal
    CASE
    --: each job table
    WHEN of_type IN ({{types}}) THEN
        PERFORM 1 FROM {{table}} j WHERE j.{{id column}} = {{id from of_job}} FOR NO KEY UPDATE;
    --: end
    END CASE;
    SELECT r.* INTO found_end FROM darkroom.refused_ends r WHERE r.job_type = of_type AND r.job_id = of_job;
    SELECT j.status INTO status_now FROM darkroom.jobs_of(ARRAY[of_job]) j WHERE j.type = of_type;
    IF status_now IN ('PENDING', 'PROCESSING') AND found_end.label IS NOT NULL THEN
        BEGIN  -- with the reason, which a rule on messages may refuse
            status_now := darkroom.write_label(of_type, of_job, found_end.label, CASE
                WHEN found_end.label IN ('FAILED', 'REFUNDED') THEN found_end.reason END);
        EXCEPTION WHEN OTHERS OR assert_failure OR query_canceled THEN
            refusal := format('%s (SQLSTATE %s)', SQLERRM, SQLSTATE);
            IF SQLSTATE <> '57014' THEN -- the statement's time limit isn't repeated
                BEGIN
                    refusal := NULL;
                    status_now := darkroom.write_label(of_type, of_job, found_end.label);
                EXCEPTION WHEN OTHERS OR assert_failure OR query_canceled THEN
                    refusal := format('%s (SQLSTATE %s)', SQLERRM, SQLSTATE);
                END;
            END IF;
        END;
    END IF;
    IF EXISTS (SELECT FROM darkroom.refunds_owed o WHERE o.job_type = of_type AND o.job_id = of_job) THEN
        PERFORM darkroom.refund(ARRAY[ROW(of_type, of_job, found_end.user_id, coalesce(found_end.label, 'FAILED'),
                                                 NULL, found_end.reason)::darkroom.change]);
    END IF;
    UPDATE darkroom.refused_ends r
    SET label = CASE WHEN status_now IN ('PENDING', 'PROCESSING') THEN r.label END, words = coalesce(refusal, r.words),
        owed = CASE WHEN EXISTS (SELECT FROM darkroom.refunds_owed o WHERE o.job_type = of_type AND o.job_id = of_job)
                    THEN r.owed ELSE 0 END,
        tried_at = now(), tries = least(r.tries, 2147483646) + 1
    WHERE r.job_type = of_type AND r.job_id = of_job;
    DELETE FROM darkroom.refused_ends r
    WHERE r.job_type = of_type AND r.job_id = of_job AND r.label IS NULL AND r.owed = 0;
    RETURN FOUND;
END $$;
