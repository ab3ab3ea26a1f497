-- What happens when the row of a queued job changes: checks of every writer's changes, and the end of a job in the
-- transaction of the program that ends it. The allowed changes are those of models/job_state.py.

-- Return what may happen to a job's status: 'change'; 'label' (a failed job is labelled REFUNDED); or 'kept': a
-- terminal status never changes, and programs that write another one without looking shouldn't fail. Raises an error
-- for a change that no program may make, which shows the application's labels where these aren't the statuses.
CREATE OR REPLACE FUNCTION darkroom.allowed_change(job_id text, before text, after text,
                                                   shown_before text DEFAULT NULL, shown_after text DEFAULT NULL)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF darkroom.is_terminal(before) THEN
        IF (before, after) IN (('FAILED', 'REFUNDED')) THEN
            RETURN 'label';
        END IF;
        IF NOT darkroom.is_terminal(after) THEN
            RAISE NOTICE 'job % is % and stays so: % was not written, because a finished job never changes',
                job_id, before, after USING HINT = 'insert a new job to try again';
        END IF;
        RETURN 'kept';
    END IF;
    IF after IS NULL OR (before, after) NOT IN (('PENDING', 'PROCESSING'), ('PENDING', 'FAILED'), ('PENDING', 'REFUNDED'), ('PENDING', 'CANCELLED'),
       ('PROCESSING', 'PENDING'), ('PROCESSING', 'COMPLETED'), ('PROCESSING', 'FAILED'),
       ('PROCESSING', 'REFUNDED'), ('PROCESSING', 'CANCELLED')) THEN
        RAISE EXCEPTION 'job % can''t change from % to %', job_id, coalesce(shown_before, before),
            coalesce(shown_after, after, 'NULL') USING ERRCODE = '23514';
    END IF;
    RETURN 'change';
END $$;

-- Raise an error for a change of an unfinished job's user, picture, tier or cost, on which its charge and its claim
-- depend.
CREATE OR REPLACE FUNCTION darkroom.refuse_identity(job_id text, status text, frozen text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'job % is %: its % don''t change', job_id, status, frozen
        USING ERRCODE = '23514';
END $$;

-- Raise an error for a change of columns of an unfinished job that don't change.
CREATE OR REPLACE FUNCTION darkroom.refuse_frozen(job_id text, status text, changed text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'job % is %: % can''t change', job_id, status, changed USING ERRCODE = '23514';
END $$;

-- BEFORE UPDATE of a job's row, by any program: allows only legal changes of its status, and none of columns on which
-- its charge and its claim depend. Updates that change neither return early by the first lines of this function, not by
-- a WHEN clause of its trigger, which would keep the application from altering these columns; and so do claims and
-- completions that leave nothing to set. Every expression over the row names the table: its plan is then made anew in
-- every session when a column has been altered, and would keep the old type otherwise. A regclass names it without a
-- query, so that PL/pgSQL evaluates the first condition by itself.
CREATE OR REPLACE FUNCTION darkroom.guard_enhancement() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    job_id text;
    before text;
    after text;
    is_same_job boolean;
    is_stale boolean;
    verdict text;
BEGIN
    IF (OLD.id, OLD."userId", OLD."imageId", OLD.tier, OLD."tokensCost", OLD."isBlend")
           IS NOT DISTINCT FROM (NEW.id, NEW."userId", NEW."imageId", NEW.tier, NEW."tokensCost", NEW."isBlend")
       AND (OLD.status IS NOT DISTINCT FROM NEW.status
            OR NOT (NEW."updatedAt" IS NOT DISTINCT FROM OLD."updatedAt")
            AND (OLD.status::text IN ('PENDING') AND NEW.status::text = 'PROCESSING'
                 OR OLD.status::text = 'PROCESSING' AND NEW.status::text = 'COMPLETED' AND NEW."currentStage" IS NULL))
       AND 'public.image_enhancement_jobs'::regclass IS NOT NULL THEN
        RETURN NEW;
    END IF;
    SELECT OLD.id::text, OLD.status::text, NEW.status::text,
           (OLD.id, OLD."userId", OLD."imageId", OLD.tier, OLD."tokensCost", OLD."isBlend")
               IS NOT DISTINCT FROM (NEW.id, NEW."userId", NEW."imageId", NEW.tier, NEW."tokensCost", NEW."isBlend"),
           NEW."updatedAt" IS NOT DISTINCT FROM OLD."updatedAt"
    INTO job_id, before, after, is_same_job, is_stale
    FROM (SELECT) one LEFT JOIN public.image_enhancement_jobs j ON false;
    -- depth: the user's id changed in another table, and the foreign key follows it
    IF NOT is_same_job AND NOT darkroom.is_terminal(before) AND pg_trigger_depth() = 1 THEN
        PERFORM darkroom.refuse_identity(job_id, before, 'id, userId, imageId, tier, tokensCost and isBlend');
    END IF;
    IF before = after THEN
        RETURN NEW;
    END IF;
    verdict := darkroom.allowed_change(job_id, before, after);
    IF verdict <> 'change' THEN
        RETURN CASE verdict WHEN 'label' THEN NEW ELSE OLD END;
    END IF;
    IF is_stale THEN
        NEW."updatedAt" := darkroom.utc_now();
    END IF;
    IF darkroom.is_terminal(after) THEN
        NEW := jsonb_populate_record(NEW, '{"currentStage": null}');
    END IF;
    RETURN NEW;
END $$;

-- BEFORE UPDATE of a job's row, by any program: allows only legal changes of its status, and none of columns on which
-- its charge and its claim depend. Updates that change neither return early by the first lines of this function, not by
-- a WHEN clause of its trigger, which would keep the application from altering these columns; and so do claims and
-- completions that leave nothing to set. Every expression over the row names the table: its plan is then made anew in
-- every session when a column has been altered, and would keep the old type otherwise. A regclass names it without a
-- query, so that PL/pgSQL evaluates the first condition by itself.
CREATE OR REPLACE FUNCTION darkroom.guard_generation() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    job_id text;
    before text;
    after text;
    is_same_job boolean;
    is_stale boolean;
    verdict text;
BEGIN
    IF (OLD.id, OLD."userId", OLD.type, OLD.tier, OLD."tokensCost")
           IS NOT DISTINCT FROM (NEW.id, NEW."userId", NEW.type, NEW.tier, NEW."tokensCost")
       AND (OLD.status IS NOT DISTINCT FROM NEW.status
            OR NOT (NEW."updatedAt" IS NOT DISTINCT FROM OLD."updatedAt")
            AND (OLD.status::text IN ('PENDING') AND NEW.status::text = 'PROCESSING'
                 OR OLD.status::text = 'PROCESSING' AND NEW.status::text = 'COMPLETED'))
       AND 'public.mcp_generation_jobs'::regclass IS NOT NULL THEN
        RETURN NEW;
    END IF;
    SELECT OLD.id::text, OLD.status::text, NEW.status::text,
           (OLD.id, OLD."userId", OLD.type, OLD.tier, OLD."tokensCost")
               IS NOT DISTINCT FROM (NEW.id, NEW."userId", NEW.type, NEW.tier, NEW."tokensCost"),
           NEW."updatedAt" IS NOT DISTINCT FROM OLD."updatedAt"
    INTO job_id, before, after, is_same_job, is_stale
    FROM (SELECT) one LEFT JOIN public.mcp_generation_jobs j ON false;
    -- depth: the user's id changed in another table, and the foreign key follows it
    IF NOT is_same_job AND NOT darkroom.is_terminal(before) AND pg_trigger_depth() = 1 THEN
        PERFORM darkroom.refuse_identity(job_id, before, 'id, userId, type, tier and tokensCost');
    END IF;
    IF before = after THEN
        RETURN NEW;
    END IF;
    verdict := darkroom.allowed_change(job_id, before, after);
    IF verdict <> 'change' THEN
        RETURN CASE verdict WHEN 'label' THEN NEW ELSE OLD END;
    END IF;
    IF is_stale THEN
        NEW."updatedAt" := darkroom.utc_now();
    END IF;
    RETURN NEW;
END $$;

-- Apply the consequences of one statement's changes: a job that is PENDING waits again; any other job is over, or its
-- row is deleted, so it leaves the queue, is refunded, and listeners are notified. The plans are kept (KEPT_PLANS in
-- models/schema/terms.py): a session ends one job or ten thousand by the same ones.
CREATE OR REPLACE FUNCTION darkroom.follow(changes darkroom.change[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_nestloop = off
SET enable_mergejoin = off SET enable_bitmapscan = off SET jit = off AS $$
DECLARE
    over text[] := ARRAY(SELECT c.job_id FROM unnest(changes) c WHERE c.status <> 'PENDING');
    waiting text[] := ARRAY(SELECT c.job_id FROM unnest(changes) c WHERE c.status = 'PENDING');
    unpaid darkroom.change[] := ARRAY(SELECT c FROM unnest(changes) c WHERE c.status NOT IN ('PENDING', 'COMPLETED'));
BEGIN
    WITH ended AS (
        DELETE FROM darkroom.job_queue q
        USING unnest(changes) c
        WHERE q.job_id = ANY (over) AND q.job_type = c.job_type AND q.job_id = c.job_id AND c.status <> 'PENDING'
        RETURNING q.job_type, q.tier, c.status, greatest(q.created_at, q.run_at) AS due_at,
                  coalesce(q.claimed_at, q.started_at) AS claimed_at)
    INSERT INTO darkroom.job_ends (job_type, tier, outcome, wait_s, run_s)
    SELECT e.job_type, e.tier, e.status, greatest(0, extract(epoch FROM coalesce(e.claimed_at, now()) - e.due_at)),
           CASE WHEN e.claimed_at IS NOT NULL THEN greatest(0, extract(epoch FROM now() - e.claimed_at)) END
    FROM ended e;
    IF cardinality(unpaid) > 0 AND darkroom.money_mode() = 'managed' THEN
        PERFORM darkroom.refund(unpaid);
    END IF;
    PERFORM darkroom.notify_job(c.job_type, c.job_id, c.status, NULL) FROM unnest(changes) c
    WHERE c.status NOT IN ('PENDING', 'DELETED');

    IF cardinality(waiting) > 0 THEN
        -- our own transitions have changed the queue row before; a row that is still `processing` was reset by another
        -- program
        UPDATE darkroom.job_queue q
        SET status = 'pending', ready = true, worker_id = NULL, lease_token = NULL, deadline_at = NULL,
            suspect_of = NULL
        FROM unnest(changes) c
        WHERE q.job_id = ANY (waiting) AND q.job_type = c.job_type AND q.job_id = c.job_id AND c.status = 'PENDING'
          AND q.status = 'processing';
        PERFORM darkroom.notify_job(c.job_type, c.job_id, 'PENDING', c.stage)
        FROM unnest(changes) c JOIN darkroom.job_queue q ON q.job_type = c.job_type AND q.job_id = c.job_id
        WHERE q.job_id = ANY (waiting) AND c.status = 'PENDING'
          AND (q.notified_at IS NULL OR q.notified_at < now() - interval '1 second');
        UPDATE darkroom.job_queue q SET notified_at = now()
        FROM unnest(changes) c
        WHERE q.job_id = ANY (waiting) AND q.job_type = c.job_type AND q.job_id = c.job_id AND c.status = 'PENDING'
          AND (q.notified_at IS NULL OR q.notified_at < now() - interval '1 second');
    END IF;
END $$;

-- AFTER UPDATE and AFTER DELETE, per statement: the consequences of a new status. A statement that ends many jobs locks
-- balances in their order, as charging does. A message that was in the row before a cancellation belongs to an earlier
-- attempt, and isn't the reason. A plan without parameters is always cached, so the plan for a single row must suit
-- thousands: no nested loop over rows without an index.
CREATE OR REPLACE FUNCTION darkroom.follow_enhancements() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_nestloop = off AS $$
DECLARE
    changes darkroom.change[];
BEGIN
    IF TG_OP = 'UPDATE' THEN
        changes := ARRAY(
            SELECT ROW(CASE WHEN n."isBlend" THEN 'blend' ELSE 'enhance' END, n.id, n."userId", n.status::text,
                       n."currentStage"::text, coalesce(nullif(n."errorMessage", CASE n.status WHEN 'CANCELLED' THEN o."errorMessage" END),
                                'set to ' || n.status))::darkroom.change
            FROM rows_before o JOIN rows_after n ON n.id = o.id
            WHERE n.status <> o.status AND n.status <> 'PROCESSING');
    ELSE
        changes := ARRAY(
            SELECT ROW(CASE WHEN o."isBlend" THEN 'blend' ELSE 'enhance' END, o.id, o."userId", 'DELETED',
                       NULL, 'the job''s row was deleted')::darkroom.change
            FROM rows_before o WHERE o.status IN ('PENDING', 'PROCESSING'));
    END IF;
    IF cardinality(changes) > 0 THEN
        PERFORM darkroom.follow(changes);
    END IF;
    RETURN NULL;
END $$;

-- BEFORE TRUNCATE: the jobs in the queue end as if their rows were deleted one by one. What is truncated along with the
-- table, such as balances, is still there.
CREATE OR REPLACE FUNCTION darkroom.follow_truncated_enhancements() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    changes darkroom.change[];
BEGIN
    changes := ARRAY(
        SELECT ROW(CASE WHEN o."isBlend" THEN 'blend' ELSE 'enhance' END, o.id, o."userId", 'DELETED',
                   NULL, 'the job''s row was deleted')::darkroom.change
        FROM darkroom.job_queue q JOIN public.image_enhancement_jobs o ON o.id = q.job_id
        WHERE q.job_type IN ('enhance', 'blend') AND o.status IN ('PENDING', 'PROCESSING') ORDER BY q.id);
    IF cardinality(changes) > 0 THEN
        PERFORM darkroom.follow(changes);
    END IF;
    RETURN NULL;
END $$;

-- AFTER UPDATE and AFTER DELETE, per statement: the consequences of a new status. A statement that ends many jobs locks
-- balances in their order, as charging does. A message that was in the row before a cancellation belongs to an earlier
-- attempt, and isn't the reason. A plan without parameters is always cached, so the plan for a single row must suit
-- thousands: no nested loop over rows without an index.
CREATE OR REPLACE FUNCTION darkroom.follow_generations() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_nestloop = off AS $$
DECLARE
    changes darkroom.change[];
BEGIN
    IF TG_OP = 'UPDATE' THEN
        changes := ARRAY(
            SELECT ROW(pg_catalog.lower(n.type::text), n.id, n."userId", n.status::text,
                       NULL, coalesce(nullif(n."errorMessage", CASE n.status WHEN 'CANCELLED' THEN o."errorMessage" END),
                                'set to ' || n.status))::darkroom.change
            FROM rows_before o JOIN rows_after n ON n.id = o.id
            WHERE n.status <> o.status AND n.status <> 'PROCESSING');
    ELSE
        changes := ARRAY(
            SELECT ROW(pg_catalog.lower(o.type::text), o.id, o."userId", 'DELETED',
                       NULL, 'the job''s row was deleted')::darkroom.change
            FROM rows_before o WHERE o.status IN ('PENDING', 'PROCESSING'));
    END IF;
    IF cardinality(changes) > 0 THEN
        PERFORM darkroom.follow(changes);
    END IF;
    RETURN NULL;
END $$;

-- BEFORE TRUNCATE: the jobs in the queue end as if their rows were deleted one by one. What is truncated along with the
-- table, such as balances, is still there.
CREATE OR REPLACE FUNCTION darkroom.follow_truncated_generations() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    changes darkroom.change[];
BEGIN
    changes := ARRAY(
        SELECT ROW(pg_catalog.lower(o.type::text), o.id, o."userId", 'DELETED',
                   NULL, 'the job''s row was deleted')::darkroom.change
        FROM darkroom.job_queue q JOIN public.mcp_generation_jobs o ON o.id = q.job_id
        WHERE q.job_type IN ('generate', 'modify') AND o.status IN ('PENDING', 'PROCESSING') ORDER BY q.id);
    IF cardinality(changes) > 0 THEN
        PERFORM darkroom.follow(changes);
    END IF;
    RETURN NULL;
END $$;

-- AFTER UPDATE of a user's id: foreign keys follow the changed id by themselves; this changes it in our own rows.
CREATE OR REPLACE FUNCTION darkroom.follow_user() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    before text;
    after text;
BEGIN
    -- read as guard_enhancement reads its row, for the same reason
    SELECT OLD.id::text, NEW.id::text INTO before, after FROM (SELECT) one LEFT JOIN public.users u ON false;
    IF before = after THEN
        RETURN NULL;
    END IF;
    UPDATE darkroom.job_queue q SET user_id = after
    WHERE q.user_id = before AND q.job_type IN ('enhance', 'blend', 'generate', 'modify');  -- others don't belong to a user of public.users
    -- rows of an earlier user with that id, who is deleted
    DELETE FROM darkroom.opening_balances o WHERE o.user_id = after;
    UPDATE darkroom.opening_balances o SET user_id = after WHERE o.user_id = before;
    UPDATE darkroom.freed_slots f SET user_id = after WHERE f.user_id = before;
    DELETE FROM darkroom.turns t WHERE t.user_id = after;
    UPDATE darkroom.turns t SET user_id = after WHERE t.user_id = before;
    DELETE FROM darkroom.submissions s WHERE s.user_id = after;
    UPDATE darkroom.submissions s SET user_id = after WHERE s.user_id = before;
    UPDATE darkroom.batches b SET user_id = after WHERE b.user_id = before;
    RETURN NULL;
END $$;

-- Return which of some jobs Darkroom has accepted and not ended yet. The plans are kept.
CREATE OR REPLACE FUNCTION darkroom.accepted(ids text[], types text[]) RETURNS text[]
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_nestloop = off
SET enable_mergejoin = off SET enable_bitmapscan = off SET jit = off AS $$
BEGIN
    IF cardinality(ids) = 0 THEN
        RETURN '{}';
    END IF;
    RETURN ARRAY(SELECT q.job_id FROM darkroom.job_queue q WHERE q.job_type = ANY (types) AND q.job_id = ANY (ids)
                 UNION SELECT r.job_id FROM darkroom.refused_ends r
                 WHERE r.job_type = ANY (types) AND r.job_id = ANY (ids));
END $$;

-- Give jobs another type in the queue and in the record of their charges: a job that waits for its producer may get
-- another one by what its producer changes. The plans are kept.
CREATE OR REPLACE FUNCTION darkroom.retype(ids text[], types_before text[], types_after text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_nestloop = off
SET enable_mergejoin = off SET enable_bitmapscan = off SET jit = off AS $$
BEGIN
    UPDATE darkroom.job_queue q SET job_type = t.after FROM unnest(ids, types_before, types_after) t (id, before, after)
    WHERE q.job_type = ANY (types_before) AND q.job_id = ANY (ids) AND q.job_type = t.before AND q.job_id = t.id;
    UPDATE darkroom.job_money m SET job_type = t.after FROM unnest(ids, types_before, types_after) t (id, before, after)
    WHERE m.job_type = ANY (types_before) AND m.job_id = ANY (ids) AND m.job_type = t.before AND m.job_id = t.id;
END $$;

-- Return whether a row of any table refers to a row of a table by a foreign key. Keys whose check is deferred to the
-- commit count, too: deleting the row would fail only there.
CREATE OR REPLACE FUNCTION darkroom.is_referred_to(relation regclass, referred jsonb) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
    one record;
    is_found boolean;
BEGIN
    FOR one IN
        SELECT k.conrelid::regclass AS referring, (
            SELECT string_agg(format('x.%I = %L', a.attname, referred ->> b.attname), ' AND ')
            FROM unnest(k.conkey, k.confkey) c (own, other)
            JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = c.own
            JOIN pg_attribute b ON b.attrelid = k.confrelid AND b.attnum = c.other) AS condition
        FROM pg_constraint k WHERE k.contype = 'f' AND k.confrelid = relation AND k.conparentid = 0
    LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM %s x WHERE %s)', one.referring, one.condition) INTO is_found;
        IF is_found THEN
            RETURN true;
        END IF;
    END LOOP;
    RETURN false;
END $$;
