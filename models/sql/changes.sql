-- What happens to a job's row after it entered: guards on every writer, and the end of a job in the transaction
-- of whoever ends it. The pairs of statuses are those of models/job_state.py; a test compares.

-- BEFORE UPDATE of a status, by anyone.
CREATE FUNCTION darkroom.guard_status() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF darkroom.is_terminal(OLD.status) THEN
        IF OLD.status = 'FAILED' AND NEW.status = 'REFUNDED' THEN
            RETURN NEW; -- a label
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
CREATE FUNCTION darkroom.guard_identity() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF darkroom.is_terminal(OLD.status) OR pg_trigger_depth() > 1 THEN
        RETURN NEW; -- depth: an id that changed elsewhere, and the foreign key follows
    END IF;
    RAISE EXCEPTION 'job % is %: its id, user, picture, tier and cost don''t change', OLD.id, OLD.status
        USING ERRCODE = '23514';
END $$;

-- AFTER UPDATE of a status to anything but PROCESSING, and AFTER DELETE. TG_ARGV: the table's job types.
CREATE FUNCTION darkroom.follow_job() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    job_types text[] := TG_ARGV;
    job_type text;
    is_loud boolean;
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.status = 'PENDING' THEN
        -- our own transitions changed the queue row first; what is still processing was set back by another program
        UPDATE darkroom.job_queue q
        SET status = 'pending', ready = true, worker_id = NULL, lease_token = NULL, deadline_at = NULL
        WHERE q.job_id = NEW.id AND q.job_type = ANY (job_types) AND q.status = 'processing';
        UPDATE darkroom.job_queue q SET notified_at = now()
        WHERE q.job_id = NEW.id AND q.job_type = ANY (job_types)
          AND (q.notified_at IS NULL OR q.notified_at < now() - interval '1 second')
        RETURNING q.job_type, true INTO job_type, is_loud;
        IF is_loud THEN
            PERFORM darkroom.notify_job(job_type, NEW.id, 'PENDING', to_jsonb(NEW) ->> 'currentStage');
        END IF;
        RETURN NULL;
    END IF;

    DELETE FROM darkroom.job_queue q WHERE q.job_id = OLD.id AND q.job_type = ANY (job_types)
    RETURNING q.job_type INTO job_type;

    IF TG_OP = 'DELETE' THEN
        IF NOT darkroom.is_terminal(OLD.status) AND darkroom.money_mode() = 'managed' THEN
            PERFORM darkroom.refund(job_types, OLD.id, OLD."userId", 'CANCELLED', 'the job''s row was deleted');
        END IF;
        RETURN NULL;
    END IF;

    IF NEW.status <> 'COMPLETED' AND NOT darkroom.is_terminal(OLD.status) AND darkroom.money_mode() = 'managed' THEN
        PERFORM darkroom.refund(job_types, NEW.id, NEW."userId", NEW.status::text,
                                coalesce(NEW."errorMessage", 'set to ' || NEW.status));
    END IF;
    PERFORM darkroom.notify_job(coalesce(job_type, TG_ARGV[0]), NEW.id, NEW.status::text, NULL);
    RETURN NULL;
END $$;
