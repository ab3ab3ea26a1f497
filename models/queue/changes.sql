-- What happens to a job's row after it entered: guards on every writer, and the end of a job in the transaction
-- of whoever ends it. The pairs of statuses are those of models/job_state.py; a test compares.

-- BEFORE UPDATE of a status, by anyone.
CREATE OR REPLACE FUNCTION darkroom.guard_status() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF darkroom.is_terminal(OLD.status) THEN
        IF OLD.status = 'FAILED' AND NEW.status = 'REFUNDED' THEN
            RETURN NEW; -- a label
        END IF;
        IF NOT darkroom.is_terminal(NEW.status) THEN
            RAISE NOTICE 'job % is % and stays so: % was not written, because a finished job never changes',
                OLD.id, OLD.status, NEW.status USING HINT = 'insert a new job to try again';
        END IF;
        RETURN OLD; -- a terminal status never changes; blind writers are not to be broken by that
    END IF;
    IF (OLD.status, NEW.status) NOT IN (('PENDING', 'PROCESSING'), ('PENDING', 'CANCELLED'), ('PENDING', 'FAILED'),
                                        ('PENDING', 'REFUNDED'), ('PROCESSING', 'PENDING'),
                                        ('PROCESSING', 'COMPLETED'), ('PROCESSING', 'FAILED'),
                                        ('PROCESSING', 'REFUNDED'), ('PROCESSING', 'CANCELLED')) THEN
        RAISE EXCEPTION 'job % can''t change from % to %', OLD.id, OLD.status, NEW.status USING ERRCODE = '23514';
    END IF;
    IF NEW."updatedAt" IS NOT DISTINCT FROM OLD."updatedAt" THEN
        NEW."updatedAt" := darkroom.utc_now();
    END IF;
    IF darkroom.is_terminal(NEW.status) THEN
        -- by JSON, because only one of the two tables has the column
        NEW := jsonb_populate_record(NEW, '{"currentStage": null}');
    END IF;
    RETURN NEW;
END $$;

-- BEFORE UPDATE of whose, which picture, tier or cost: the charge and the claim rest on them.
CREATE OR REPLACE FUNCTION darkroom.guard_identity() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF darkroom.is_terminal(OLD.status) OR pg_trigger_depth() > 1 THEN
        RETURN NEW; -- depth: an id that changed elsewhere, and the foreign key follows
    END IF;
    RAISE EXCEPTION 'job % is %: its id, user, picture, tier and cost don''t change', OLD.id, OLD.status
        USING ERRCODE = '23514';
END $$;

-- What became of jobs in one statement. PENDING waits again; everything else is over, or its row is gone.
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

-- AFTER UPDATE and AFTER DELETE, per statement: one that ends many jobs locks balances in their order, as charging does.
-- A message that stood there before a cancellation is of an earlier attempt, and not its reason. Without parameters a
-- plan is always kept, so the one for a single row must do for thousands: no nested loop over rows without an index.
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

CREATE OR REPLACE FUNCTION darkroom.follow_generations() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_nestloop = off AS $$
DECLARE
    changes darkroom.change[];
BEGIN
    IF TG_OP = 'UPDATE' THEN
        changes := ARRAY(
            SELECT ROW(lower(n.type::text), n.id, n."userId", n.status::text,
                       NULL, coalesce(nullif(n."errorMessage", CASE n.status WHEN 'CANCELLED' THEN o."errorMessage" END),
                                'set to ' || n.status))::darkroom.change
            FROM rows_before o JOIN rows_after n ON n.id = o.id
            WHERE n.status <> o.status AND n.status <> 'PROCESSING');
    ELSE
        changes := ARRAY(
            SELECT ROW(lower(o.type::text), o.id, o."userId", 'DELETED',
                       NULL, 'the job''s row was deleted')::darkroom.change
            FROM rows_before o WHERE o.status IN ('PENDING', 'PROCESSING'));
    END IF;
    IF cardinality(changes) > 0 THEN
        PERFORM darkroom.follow(changes);
    END IF;
    RETURN NULL;
END $$;

-- AFTER UPDATE of a user's id: the foreign keys follow by themselves, and so does what we keep by user.
CREATE OR REPLACE FUNCTION darkroom.follow_user() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE darkroom.job_queue q SET user_id = NEW.id WHERE q.user_id = OLD.id;
    -- left behind by a user of that id who is gone
    DELETE FROM darkroom.opening_balances o WHERE o.user_id = NEW.id;
    UPDATE darkroom.opening_balances o SET user_id = NEW.id WHERE o.user_id = OLD.id;
    DELETE FROM darkroom.submissions s WHERE s.user_id = NEW.id;
    UPDATE darkroom.submissions s SET user_id = NEW.id WHERE s.user_id = OLD.id;
    RETURN NULL;
END $$;
