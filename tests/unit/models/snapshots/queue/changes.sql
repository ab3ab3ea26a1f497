-- What happens to a job's row after it entered: guards on every writer, and the end of a job in the transaction
-- of whoever ends it. The pairs of statuses are those of models/job_state.py.

-- Whether a job's status may change so: 'change', 'label' (a failed job that is told to be refunded), or 'kept',
-- because a terminal status never changes, and blind writers are not to be broken by that. Raises for what no program
-- may write.
CREATE OR REPLACE FUNCTION darkroom.allowed_change(job_id text, before text, after text) RETURNS text
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
    IF (before, after) NOT IN (('PENDING', 'PROCESSING'), ('PENDING', 'FAILED'), ('PENDING', 'REFUNDED'), ('PENDING', 'CANCELLED'),
       ('PROCESSING', 'PENDING'), ('PROCESSING', 'COMPLETED'), ('PROCESSING', 'FAILED'),
       ('PROCESSING', 'REFUNDED'), ('PROCESSING', 'CANCELLED')) THEN
        RAISE EXCEPTION 'job % can''t change from % to %', job_id, before, after USING ERRCODE = '23514';
    END IF;
    RETURN 'change';
END $$;

-- Refuse a change of whose, which picture, tier or cost of an unfinished job: the charge and the claim rest on them.
CREATE OR REPLACE FUNCTION darkroom.refuse_identity(job_id text, status text, frozen text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'job % is %: its % don''t change', job_id, status, frozen
        USING ERRCODE = '23514';
END $$;

-- BEFORE UPDATE of a job's row, by anyone: only legal changes of its status, and none of what its charge and its claim
-- rest on. It returns early in its first lines and not by a WHEN clause of its trigger, which would keep the application
-- from changing these columns. The fields are read in queries that name the table: their plan is made anew in every
-- session when a column has changed, where that of a bare expression would hold the old type. The first one names it
-- where it is never looked at, and so costs a third less of what 10,000 rows take here.
CREATE OR REPLACE FUNCTION darkroom.guard_enhancement() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    job_id text;
    before text;
    after text;
    is_untouched boolean;
    is_same_job boolean;
    is_stale boolean;
    verdict text;
BEGIN
    SELECT OLD.status IS NOT DISTINCT FROM NEW.status
           AND (OLD.id, OLD."userId", OLD."imageId", OLD.tier, OLD."tokensCost", OLD."isBlend")
               IS NOT DISTINCT FROM (NEW.id, NEW."userId", NEW."imageId", NEW.tier, NEW."tokensCost", NEW."isBlend")
           AND CASE WHEN false THEN EXISTS (SELECT FROM public.image_enhancement_jobs) ELSE true END
    INTO is_untouched;
    IF is_untouched THEN
        RETURN NEW;
    END IF;
    SELECT OLD.id::text, OLD.status::text, NEW.status::text,
           (OLD.id, OLD."userId", OLD."imageId", OLD.tier, OLD."tokensCost", OLD."isBlend")
               IS NOT DISTINCT FROM (NEW.id, NEW."userId", NEW."imageId", NEW.tier, NEW."tokensCost", NEW."isBlend"),
           NEW."updatedAt" IS NOT DISTINCT FROM OLD."updatedAt"
    INTO job_id, before, after, is_same_job, is_stale
    FROM (SELECT) one LEFT JOIN public.image_enhancement_jobs j ON false;
    -- depth: an id that changed elsewhere, and the foreign key follows
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

-- BEFORE UPDATE of a job's row, by anyone: only legal changes of its status, and none of what its charge and its claim
-- rest on. It returns early in its first lines and not by a WHEN clause of its trigger, which would keep the application
-- from changing these columns. The fields are read in queries that name the table: their plan is made anew in every
-- session when a column has changed, where that of a bare expression would hold the old type. The first one names it
-- where it is never looked at, and so costs a third less of what 10,000 rows take here.
CREATE OR REPLACE FUNCTION darkroom.guard_generation() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    job_id text;
    before text;
    after text;
    is_untouched boolean;
    is_same_job boolean;
    is_stale boolean;
    verdict text;
BEGIN
    SELECT OLD.status IS NOT DISTINCT FROM NEW.status
           AND (OLD.id, OLD."userId", OLD.type, OLD.tier, OLD."tokensCost")
               IS NOT DISTINCT FROM (NEW.id, NEW."userId", NEW.type, NEW.tier, NEW."tokensCost")
           AND CASE WHEN false THEN EXISTS (SELECT FROM public.mcp_generation_jobs) ELSE true END
    INTO is_untouched;
    IF is_untouched THEN
        RETURN NEW;
    END IF;
    SELECT OLD.id::text, OLD.status::text, NEW.status::text,
           (OLD.id, OLD."userId", OLD.type, OLD.tier, OLD."tokensCost")
               IS NOT DISTINCT FROM (NEW.id, NEW."userId", NEW.type, NEW.tier, NEW."tokensCost"),
           NEW."updatedAt" IS NOT DISTINCT FROM OLD."updatedAt"
    INTO job_id, before, after, is_same_job, is_stale
    FROM (SELECT) one LEFT JOIN public.mcp_generation_jobs j ON false;
    -- depth: an id that changed elsewhere, and the foreign key follows
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

-- Do what follows from the changes of jobs in one statement: PENDING waits again; every other job is over, or its row is
-- gone, so it leaves the queue and is refunded, and whoever listens is told.
CREATE OR REPLACE FUNCTION darkroom.follow(changes darkroom.change[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off
SET plan_cache_mode = force_custom_plan SET enable_nestloop = on AS $$
DECLARE
    unpaid darkroom.change[] := ARRAY(SELECT c FROM unnest(changes) c WHERE c.status NOT IN ('PENDING', 'COMPLETED'));
BEGIN
    DELETE FROM darkroom.job_queue q
    USING unnest(changes) c WHERE q.job_type = c.job_type AND q.job_id = c.job_id AND c.status <> 'PENDING';
    IF cardinality(unpaid) > 0 AND darkroom.money_mode() = 'managed' THEN
        PERFORM darkroom.refund(unpaid);
    END IF;
    PERFORM darkroom.notify_job(c.job_type, c.job_id, c.status, NULL) FROM unnest(changes) c
    WHERE c.status NOT IN ('PENDING', 'DELETED');

    IF EXISTS (SELECT FROM unnest(changes) c WHERE c.status = 'PENDING') THEN
        -- our own transitions changed the queue row first; what is still processing was set back by another program
        UPDATE darkroom.job_queue q
        SET status = 'pending', ready = true, worker_id = NULL, lease_token = NULL, deadline_at = NULL
        FROM unnest(changes) c
        WHERE q.job_type = c.job_type AND q.job_id = c.job_id AND c.status = 'PENDING' AND q.status = 'processing';
        PERFORM darkroom.notify_job(c.job_type, c.job_id, 'PENDING', c.stage)
        FROM unnest(changes) c JOIN darkroom.job_queue q ON q.job_type = c.job_type AND q.job_id = c.job_id
        WHERE c.status = 'PENDING' AND (q.notified_at IS NULL OR q.notified_at < now() - interval '1 second');
        UPDATE darkroom.job_queue q SET notified_at = now()
        FROM unnest(changes) c
        WHERE q.job_type = c.job_type AND q.job_id = c.job_id AND c.status = 'PENDING'
          AND (q.notified_at IS NULL OR q.notified_at < now() - interval '1 second');
    END IF;
END $$;

-- AFTER UPDATE and AFTER DELETE, per statement: what follows from a new status. One that ends many jobs locks balances
-- in their order, as charging does. A message that stood there before a cancellation is of an earlier attempt, and not
-- its reason. Without parameters a plan is always kept, so the one for a single row must do for thousands: no nested
-- loop over rows without an index.
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

-- AFTER UPDATE and AFTER DELETE, per statement: what follows from a new status. One that ends many jobs locks balances
-- in their order, as charging does. A message that stood there before a cancellation is of an earlier attempt, and not
-- its reason. Without parameters a plan is always kept, so the one for a single row must do for thousands: no nested
-- loop over rows without an index.
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

-- AFTER UPDATE of a user: the foreign keys follow a changed id by themselves, and so does what we keep by user.
CREATE OR REPLACE FUNCTION darkroom.follow_user() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    before text;
    after text;
BEGIN
    -- read as guard_enhancement reads its row, and for its reason
    SELECT OLD.id::text, NEW.id::text INTO before, after FROM (SELECT) one LEFT JOIN public.users u ON false;
    IF before = after THEN
        RETURN NULL;
    END IF;
    UPDATE darkroom.job_queue q SET user_id = after WHERE q.user_id = before
    ;
    -- left behind by a user of that id who is gone
    DELETE FROM darkroom.opening_balances o WHERE o.user_id = after;
    UPDATE darkroom.opening_balances o SET user_id = after WHERE o.user_id = before;
    DELETE FROM darkroom.submissions s WHERE s.user_id = after;
    UPDATE darkroom.submissions s SET user_id = after WHERE s.user_id = before;
    RETURN NULL;
END $$;
