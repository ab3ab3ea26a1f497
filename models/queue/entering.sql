-- How jobs enter the queue: in the statement that inserts their rows; all rows of it are queued, or none.

-- Return the largest number of attempts of a job: one, and its retries. A producer may mean "without end" by the
-- largest integer, and one more than that doesn't fit into the column.
CREATE OR REPLACE FUNCTION darkroom.max_attempts(max_retries bigint) RETURNS integer LANGUAGE sql STABLE
RETURN (1 + least(greatest(0, coalesce(max_retries, (darkroom.setting('max_retries') #>> '{}')::bigint, 3)),
                  2147483646))::integer;

-- Ask the next producer of a queue to notify; false if one has been asked already. A sequence that was set back is
-- corrected here.
CREATE OR REPLACE FUNCTION darkroom.ask_for_wake_up(of_queue text DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    asked_queue text := coalesce(of_queue, {{default queue}});
    asking regclass := darkroom.sequence_of(asked_queue, 'wake_ups_asked_seq');
    asked bigint := coalesce(pg_sequence_last_value(asking), 0);
    sent bigint := coalesce(pg_sequence_last_value(darkroom.sequence_of(asked_queue, 'wake_ups_sent_seq')), 0);
BEGIN
    IF of_queue IS NULL THEN
        PERFORM darkroom.admit();  -- an idle worker of an earlier release, whose claims give neither positions nor slots
    END IF;
    IF asked > sent OR asking IS NULL THEN
        RETURN false;
    END IF;
    PERFORM setval(asking, sent + 1);
    RETURN true;
END $$;

-- Notify if an idle worker has asked for it. A NOTIFY in every commit would limit the throughput of the whole database,
-- so one producer answers each request: the one that gets its lock, which is held until the commit and never waited
-- for. If that producer rolls back, no notification is sent; a worker asks again after its next look.
CREATE OR REPLACE FUNCTION darkroom.send_wake_up(of_queue text DEFAULT {{default queue}}) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    asked bigint := pg_sequence_last_value(darkroom.sequence_of(of_queue, 'wake_ups_asked_seq'));
    sending regclass := darkroom.sequence_of(of_queue, 'wake_ups_sent_seq');
BEGIN
    IF asked > coalesce(pg_sequence_last_value(sending), 0)
            AND pg_try_advisory_xact_lock(sending::oid::integer, (asked % 2147483647)::integer) THEN
        PERFORM setval(sending, asked);
        PERFORM pg_notify('darkroom_bells', of_queue) WHERE darkroom.may_notify();
    END IF;
END $$;

--: each job table whose jobs may wait
-- Set when jobs are due, according to their rows: at a time, or never while they wait for their producer. One that its
-- producer has let go begins at the time that was said when it entered.
CREATE OR REPLACE FUNCTION darkroom.put_off_{{rows}}(ids text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp {{kept plans}} AS $$
BEGIN
    UPDATE darkroom.job_queue q
    SET status = CASE WHEN w.until > now() THEN 'retrying' ELSE 'pending' END, ready = coalesce(w.until <= now(), true),
        scheduled_at = coalesce(w.until, now()), paused_by = NULL,
        run_at = CASE WHEN w.until = 'infinity' THEN q.run_at WHEN w.until > now() THEN w.until END
    FROM (SELECT q.id, coalesce(j.until, CASE WHEN q.scheduled_at = 'infinity' THEN q.run_at END) AS until
          FROM (SELECT {{id j}} AS id, {{waits until j}} AS until
                FROM {{table}} j WHERE j.{{id column}} = ANY ({{ids from ids}})) j
          JOIN darkroom.job_queue q ON q.job_id = j.id
          WHERE q.job_id = ANY (ids) AND q.job_type IN ({{types}})) w
    WHERE q.id = w.id AND q.status <> 'processing' AND (w.until > now() OR q.status = 'retrying');
END $$;

--: end
-- Raise an error for a time at which no job can begin. One beyond the year 3000 isn't meant: it is infinite, or its unit
-- was mistaken.
CREATE OR REPLACE FUNCTION darkroom.check_run_at(run_at timestamptz) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF run_at >= '3000-01-01 00:00:00+00' OR run_at = '-infinity' THEN
        RAISE EXCEPTION 'run_at is no time at which a job can begin: give one before the year 3000, or NULL for at once'
            USING ERRCODE = '22023';
    END IF;
END $$;

-- Return what a submission has said of the statement whose trigger asks (submit.sql); NULL if nothing has been said.
CREATE OR REPLACE FUNCTION darkroom.entering_terms() RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    said jsonb := nullif(current_setting('darkroom.entering', true), '');
BEGIN
    RETURN CASE WHEN (said ->> 'depth')::integer = pg_trigger_depth() THEN said END;
END $$;

-- Return the time at which the jobs that enter now begin, NULL for at once: as said of this statement (submit.sql), or set
-- for the whole transaction by its producer: set_config('darkroom.run_at', ..., true).
CREATE OR REPLACE FUNCTION darkroom.begins_at(said jsonb) RETURNS timestamptz
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    run_at timestamptz := coalesce(said ->> 'run_at', nullif(current_setting('darkroom.run_at', true), ''));
BEGIN
    PERFORM darkroom.check_run_at(run_at);
    RETURN CASE WHEN run_at > now() THEN run_at END;
END $$;

-- Return whether an idle worker has asked for a notification of the next job that enters a queue.
CREATE OR REPLACE FUNCTION darkroom.is_wake_up_asked(of_queue text) RETURNS boolean LANGUAGE sql VOLATILE
RETURN coalesce(
    pg_sequence_last_value(CASE of_queue WHEN {{default queue}} THEN 'darkroom.wake_ups_asked_seq'::regclass
                                         ELSE darkroom.sequence_of(of_queue, 'wake_ups_asked_seq') END)
    > coalesce(pg_sequence_last_value(CASE of_queue WHEN {{default queue}} THEN 'darkroom.wake_ups_sent_seq'::regclass
                                                    ELSE darkroom.sequence_of(of_queue, 'wake_ups_sent_seq') END), 0),
    false);

-- Queue jobs, and wake an idle worker. `terms` are the settings of the fair order and the operators' present pauses
-- (pauses.sql). This writes no row that other producers write too, and above READ COMMITTED reads none: one shared row
-- would make their transactions fail. So there, where others' jobs since the snapshot can't be seen either, a claimer
-- gives the jobs their positions (fair.sql), as it does for a job whose time has come. Only jobs of one table come here
-- at a time, so that their ids tell them apart.
CREATE OR REPLACE FUNCTION darkroom.enqueue(jobs darkroom.entering[], terms jsonb) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    pauses jsonb := terms -> 'pauses';
    needs_slot boolean := coalesce(terms -> 'user_caps', '{}') <> '{}';
    of_queue text := {{default queue}};
    queues text[];
    now_at bigint;
    tags bigint[];
    units bigint[];
    said jsonb := CASE WHEN coalesce(current_setting('darkroom.entering', true), '') <> ''
                       THEN darkroom.entering_terms() END;
    begins_at timestamptz := CASE WHEN said IS NOT NULL OR coalesce(current_setting('darkroom.run_at', true), '') <> ''
                                  THEN darkroom.begins_at(said) END;
    of_batch uuid := (said ->> 'batch_id')::uuid;
    ids text[];
    later text[] := '{}';  -- jobs that wait for a time, or for their producer, by a column of their own
    entered integer;
BEGIN
    IF terms -> 'stage_queues' <> '{}' THEN
        queues := ARRAY(SELECT DISTINCT darkroom.queue_of(j.stage, terms -> 'stage_queues') FROM unnest(jobs) j ORDER BY 1);
        IF cardinality(queues) > 1 THEN  -- jobs of several types: those of each queue enter by themselves
            SELECT sum(darkroom.enqueue(ARRAY(
                SELECT ROW(j.job_type, j.job_id, j.user_id, j.tier, j.cost, j.stage, j.max_attempts,
                           j.created_at)::darkroom.entering
                FROM unnest(jobs) WITH ORDINALITY j
                WHERE darkroom.queue_of(j.stage, terms -> 'stage_queues') = q.queue ORDER BY j.ordinality), terms))
            INTO entered FROM unnest(queues) q (queue);
            RETURN entered;
        END IF;
        of_queue := coalesce(queues[1], of_queue);
    END IF;
    now_at := darkroom.virtual_time(of_queue);
    IF current_setting('transaction_isolation') = 'read committed' AND begins_at IS NULL THEN
        --: each job table whose jobs may wait
        ids := ARRAY(SELECT j.job_id FROM unnest(jobs) j WHERE j.job_type IN ({{types}}));
        later := later || ARRAY(SELECT {{id r}} FROM {{table}} r
                                WHERE r.{{id column}} = ANY ({{ids from ids}}) AND {{waits until r}} > now());
        --: end
        IF cardinality(later) = 0 THEN
            SELECT t.tags, t.units INTO tags, units FROM darkroom.tag_jobs(of_queue, jobs, terms) t;
        ELSIF cardinality(later) < cardinality(jobs) THEN
            -- the jobs that are due at once get their tags; the place of any other has none
            SELECT array_agg(CASE WHEN j.is_due THEN t.tags[j.place] END ORDER BY j.ordinality),
                   array_agg(CASE WHEN j.is_due THEN t.units[j.place] END ORDER BY j.ordinality)
            INTO tags, units
            FROM (SELECT e.ordinality, d.is_due, count(*) FILTER (WHERE d.is_due) OVER (ORDER BY e.ordinality) AS place
                  FROM unnest(jobs) WITH ORDINALITY e CROSS JOIN LATERAL (SELECT e.job_id <> ALL (later) AS is_due) d) j
            CROSS JOIN darkroom.tag_jobs(of_queue, ARRAY(
                SELECT ROW(e.job_type, e.job_id, e.user_id, e.tier, e.cost, e.stage, e.max_attempts,
                           e.created_at)::darkroom.entering
                FROM unnest(jobs) WITH ORDINALITY e WHERE e.job_id <> ALL (later) ORDER BY e.ordinality), terms) t;
        END IF;
    END IF;
    INSERT INTO darkroom.job_queue
        (job_type, job_id, user_id, tier, queue, stage, position, units, max_attempts, created_at, ready, paused_by,
         held_by, status, scheduled_at, run_at, batch_id)
    SELECT j.job_type, j.job_id, j.user_id, j.tier, of_queue, j.stage, coalesce(j.tag, now_at),
           CASE WHEN j.tag IS NULL THEN darkroom.fair_cost(j.tier, j.cost) * 1000000 ELSE j.units END,
           j.max_attempts, j.created_at, p.pause IS NULL AND j.tag IS NOT NULL AND NOT needs_slot, p.pause,
           CASE WHEN j.tag IS NULL THEN 'tag' WHEN p.pause IS NULL AND needs_slot THEN 'cap' END,
           CASE WHEN begins_at IS NULL THEN 'pending' ELSE 'retrying' END, coalesce(begins_at, now()), begins_at,
           of_batch
    FROM unnest(jobs, tags, units)
        j (job_type, job_id, user_id, tier, cost, stage, max_attempts, created_at, tag, units)
    CROSS JOIN LATERAL ( -- a paused job without a tag gets one nevertheless, and its pause with it
        SELECT CASE WHEN j.tag IS NOT NULL THEN darkroom.pause_of(j.job_type, j.tier, pauses) END AS pause) p
    ON CONFLICT (job_type, job_id) DO NOTHING;
    GET DIAGNOSTICS entered = ROW_COUNT;
    IF needs_slot AND begins_at IS NULL THEN
        INSERT INTO darkroom.freed_slots (user_id) SELECT DISTINCT j.user_id FROM unnest(jobs) j;
    END IF;
    --: each job table whose jobs may wait
    -- a job whose row says no time keeps that of its transaction
    ids := ARRAY(SELECT j.job_id FROM unnest(jobs) j WHERE j.job_type IN ({{types}}));
    ids := ARRAY(SELECT {{id r}} FROM {{table}} r
                 WHERE r.{{id column}} = ANY ({{ids from ids}}) AND {{waits until r}} > now());
    PERFORM darkroom.put_off_{{rows}}(ids) WHERE cardinality(ids) > 0;
    --: end
    IF darkroom.is_wake_up_asked(of_queue) THEN
        PERFORM darkroom.send_wake_up(of_queue);
    END IF;
    RETURN entered;
END $$;

-- Raise an error for an id that is too long, before anything is charged: ids become parts of keys, indexes and
-- notifications.
CREATE OR REPLACE FUNCTION darkroom.refuse_id(column_name text, id text) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION '% has % bytes; the limit is 200', column_name, octet_length(id) USING ERRCODE = '22001';
END $$;

-- Queue one job by one statement, as enqueue does by queries over sets; return 0 if the job isn't queued, and enqueue has
-- to: if its user has priority, or another transaction holds the user's turn. PL/pgSQL prepares each expression anew in
-- each transaction, which takes longer than most of these take, so there are few. Only enter calls this, whose search path
-- and kept plans hold here.
CREATE OR REPLACE FUNCTION darkroom.enqueue_one(job darkroom.entering, terms jsonb) RETURNS integer
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    of_queue text := darkroom.queue_of(job.stage, terms -> 'stage_queues');
    now_at bigint := darkroom.virtual_time(of_queue);
    needs_slot boolean := coalesce(terms -> 'user_caps', '{}') <> '{}';
    pause text;
BEGIN
    IF NOT darkroom.may_read_subscriptions() THEN
        RETURN 0;
    END IF;
    -- what has_subscriptions and tiers_of ask: a constant until one of the tables is altered
    IF coalesce(
        darkroom.missing_column('public.user_token_balances'::regclass, '"userId", tier'),
        darkroom.missing_column('public.subscriptions'::regclass, '"userId" = ''''::text, "stripePriceId", status'),
        darkroom.missing_column('public.subscription_plans'::regclass, '"stripePriceId", bool_or(priority) OVER ()'))
            IS NOT NULL THEN
        RETURN 0;
    END IF;
    IF terms ? 'pauses' THEN
        pause := darkroom.pause_of(job.job_type, job.tier, terms -> 'pauses');
    END IF;
    WITH paying AS MATERIALIZED (
        SELECT darkroom.fair_units(job.tier, job.cost, terms -> 'weights', (
                   SELECT b.tier::text FROM public.user_token_balances b WHERE b."userId" = job.user_id)) AS units
        WHERE NOT EXISTS (SELECT FROM public.subscriptions s
                          WHERE s."userId" = job.user_id AND s.status::text IN ('ACTIVE', 'TRIALING')
                            AND (SELECT bool_or(p.priority) FROM public.subscription_plans p
                                 WHERE p."stripePriceId" = s."stripePriceId"))),
    moved AS (
        UPDATE darkroom.turns t SET finish = greatest(t.finish, now_at) + p.units FROM paying p
        WHERE t.ctid = (SELECT l.ctid FROM darkroom.turns l WHERE l.queue = of_queue AND l.user_id = job.user_id
                        FOR NO KEY UPDATE SKIP LOCKED)
        RETURNING t.finish - p.units AS tag, p.units)
    INSERT INTO darkroom.job_queue
        (job_type, job_id, user_id, tier, queue, stage, position, units, max_attempts, created_at, ready, paused_by,
         held_by)
    SELECT job.job_type, job.job_id, job.user_id, job.tier, of_queue, job.stage, m.tag, m.units, job.max_attempts,
           job.created_at, pause IS NULL AND NOT needs_slot, pause,
           CASE WHEN pause IS NULL AND needs_slot THEN 'cap' END
    FROM moved m
    ON CONFLICT (job_type, job_id) DO NOTHING;
    IF NOT FOUND THEN
        -- a turn that is made here is found by the next try
        RETURN CASE WHEN darkroom.make_turn(of_queue, job.user_id) THEN darkroom.enqueue_one(job, terms) ELSE 0 END;
    END IF;
    IF needs_slot THEN
        INSERT INTO darkroom.freed_slots (user_id) VALUES (job.user_id);
    END IF;
    IF darkroom.is_wake_up_asked(of_queue) THEN
        PERFORM darkroom.send_wake_up(of_queue);
    END IF;
    RETURN 1;
END $$;

-- Queue the jobs of one statement, and charge them if Darkroom manages the money: all of them or none. Return how many
-- were queued.
--
-- A serializable transaction that reads a whole small table conflicts with every transaction that writes to it, so here
-- and in the functions for producers, rows are found by index (and no plan is JIT-compiled, which PostgreSQL would do
-- because it expects index scans to be expensive).
CREATE OR REPLACE FUNCTION darkroom.enter(jobs darkroom.entering[], settings jsonb) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp {{kept plans}} AS $$
DECLARE
    mode text := coalesce(settings ->> 'mode', 'managed');
    prices jsonb := coalesce(settings -> 'prices', {{prices}});
    negative record;
    charged bigint;
    queued integer;
BEGIN
    -- assignments instead of PERFORM, which starts a query
    IF darkroom.may_hide_jobs() THEN
        PERFORM darkroom.require_jobs_shown();
    END IF;
    IF mode = 'managed' THEN
        charged := darkroom.charge(jobs, prices);
    ELSIF mode = 'producer' THEN
        SELECT j.job_id, j.cost INTO negative FROM unnest(jobs) j WHERE j.cost < 0 LIMIT 1;
        IF FOUND THEN -- a refund of a negative price would take tokens
            RAISE EXCEPTION 'wrong price for job %: given %, expected 0 or more', negative.job_id, negative.cost
                USING ERRCODE = 'P0001', DETAIL = format('given %s, expected 0 or more', negative.cost);
        END IF;
    END IF;
    --: if a job table is of another application
    IF strpos((jobs[1]).job_type, '.') > 0 THEN  -- charges are of users' ids; from here on only users' keys are needed
        jobs := darkroom.with_user_keys(jobs);
    END IF;
    --: end
    IF cardinality(jobs) = 1 AND current_setting('transaction_isolation') = 'read committed'
            --: each job table whose jobs may wait
            AND (jobs[1]).job_type NOT IN ({{types}})
            --: end
            AND coalesce(current_setting('darkroom.run_at', true), '') = ''
            AND coalesce(current_setting('darkroom.entering', true), '') = '' THEN
        queued := darkroom.enqueue_one(jobs[1], settings);
        IF queued > 0 THEN
            RETURN queued;
        END IF;
    END IF;
    RETURN darkroom.enqueue(jobs, settings);
END $$;

-- Return PostgreSQL's message about one of some columns that a table doesn't have; NULL if it has all of them. This is
-- declared immutable so that an expression over constants alone asks when its plan is made, and not again until the
-- table, which it names by a regclass, has been altered.
CREATE OR REPLACE FUNCTION darkroom.missing_column(relation regclass, columns text) RETURNS text
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('SELECT %s FROM %s WHERE false', columns, relation);
    RETURN NULL;
EXCEPTION WHEN undefined_column OR undefined_function THEN  -- gone, or of a type that isn't compared so
    RETURN SQLERRM;
END $$;

--: each job table
-- BEFORE INSERT, once for the statement: raises an error that names a column that entering reads and that doesn't
-- exist: a migration of the application may have dropped or renamed it.
CREATE OR REPLACE FUNCTION darkroom.check_{{row}}_columns() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    missing text := darkroom.missing_column('{{table}}'::regclass, $columns$
        {{needed columns}}
    $columns$);
BEGIN
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'no job can enter Darkroom''s queue: %', missing
            USING ERRCODE = '42703', HINT = 'darkroom db check says what is missing and what to do';
    END IF;
    RETURN NULL;
END $$;

--: end
--: if a job table whose rows are filled
-- BEFORE INSERT of a job that names no pipeline: writes its album's pipeline into the row, so that later changes of the
-- album don't change how the job is treated. If its user may not use that pipeline, or only with a share token, the row
-- is left to the worker, which refuses the job or checks the token. In a serializable transaction every row is left to
-- the worker, because the albums of unrelated users share index pages. A batch brings its jobs' pipelines. Most pictures are in no album, so that is
-- checked first: ten thousand rows may arrive at once. models/queue/inputs.py has the same rule.
CREATE OR REPLACE FUNCTION darkroom.fill_pipeline() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off AS $$
DECLARE
    owner text;
    picture text;
BEGIN
    -- the regclass lets these plans be made anew in every session when a column of the table has been altered
    IF 'public.image_enhancement_jobs'::regclass IS NULL OR NEW."pipelineId" IS NOT NULL OR NEW.status <> 'PENDING'
            OR current_setting('transaction_isolation') = 'serializable'
            OR (coalesce(current_setting('darkroom.entering', true), '') <> ''
                AND darkroom.entering_terms() ->> 'batch_id' IS NOT NULL) THEN
        RETURN NEW;
    END IF;
    SELECT NEW."userId"::text, NEW."imageId"::text INTO owner, picture FROM public.album_images m
    WHERE m."imageId" = NEW."imageId" AND 'public.image_enhancement_jobs'::regclass IS NOT NULL LIMIT 1;
    IF FOUND THEN
        NEW."pipelineId" := (
            SELECT p.id FROM public.enhancement_pipelines p
            WHERE p.id = darkroom.album_pipeline(owner, picture)
              AND (p.visibility = 'PUBLIC' OR p."userId" IS NULL OR p."userId" = owner
                   OR (p.visibility = 'LINK' AND darkroom.link_pipelines() = 'trust')));
    END IF;
    RETURN NEW;
END $$;

--: end
--: if a job table whose ids come again
-- Part jobs that enter from everything that is recorded of earlier jobs of their table with their ids: after a row was
-- deleted, or TRUNCATE ... RESTART IDENTITY, an id may come again. What the earlier jobs bought isn't found any more, and
-- their charges and refunds move to darkroom.earlier_money, so that the new jobs have their own. An earlier job that is
-- still in the queue, because its row went past our triggers, is over, and refunded.
--
-- A serializable transaction reads here nothing that other producers write, so there an id that was charged before is
-- refused by the primary key of job_money.
CREATE OR REPLACE FUNCTION darkroom.part_from_earlier(ids text[], types text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp {{kept plans}} AS $$
DECLARE
    left_behind darkroom.change[];
    refused darkroom.refused_ends;
BEGIN
    WITH pictures AS (
        DELETE FROM darkroom.artifacts a WHERE a.job_type = ANY (types) AND a.job_id = ANY (ids))
    DELETE FROM darkroom.checkpoints c WHERE c.job_type = ANY (types) AND c.job_id = ANY (ids);
    IF current_setting('transaction_isolation') = 'serializable' THEN
        RETURN;
    END IF;
    left_behind := ARRAY(
        SELECT ROW(q.job_type, q.job_id, darkroom.user_of_key(q.job_type, q.user_id), 'DELETED', NULL,
                   'the job''s row was deleted')::darkroom.change
        FROM darkroom.job_queue q WHERE q.job_type = ANY (types) AND q.job_id = ANY (ids) ORDER BY q.id);
    IF cardinality(left_behind) > 0 THEN
        PERFORM darkroom.follow(left_behind);
    END IF;
    FOR refused IN
        DELETE FROM darkroom.refused_ends r WHERE r.job_type = ANY (types) AND r.job_id = ANY (ids) RETURNING r.*
    LOOP
        IF refused.owed > 0 THEN
            PERFORM darkroom.refund(ARRAY[ROW(refused.job_type, refused.job_id, refused.user_id,
                                              coalesce(refused.label, 'FAILED'), NULL, refused.reason)::darkroom.change]);
        END IF;
        IF EXISTS (SELECT FROM darkroom.refused_ends r
                   WHERE r.job_type = refused.job_type AND r.job_id = refused.job_id) THEN
            RAISE EXCEPTION 'job % can''t enter: the refund of an earlier job with this id is still owed', refused.job_id
                USING ERRCODE = '23505', HINT = 'darkroom tokens audit says why it can''t be paid';
        END IF;
    END LOOP;
    WITH earlier AS (
        DELETE FROM darkroom.job_money m WHERE m.job_type = ANY (types) AND m.job_id = ANY (ids)
        RETURNING m.job_type, m.job_id, m.kind, m.amount, m.at)
    INSERT INTO darkroom.earlier_money (job_type, job_id, kind, amount, at)
    SELECT e.job_type, e.job_id, e.kind, e.amount, e.at FROM earlier e;
END $$;

--: end
--: each job table
-- AFTER INSERT, once for the statement: jobs that are PENDING enter the queue.
CREATE OR REPLACE FUNCTION darkroom.enter_{{rows}}() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off AS $$
DECLARE
    settings jsonb;
    jobs darkroom.entering[];
    longest_bytes integer;
    queued integer;
BEGIN
    -- one query reads all settings on which entering depends, because each takes as long as inserting a row
    SELECT jsonb_object_agg(s.key, s.value) INTO settings FROM darkroom.settings s
    WHERE s.key = ANY ('{mode,models,pauses,prices,stage_queues,user_caps,weights,priority_head_start}');
    {{entering checks}}
    SELECT array_agg(ROW({{type n}}, {{id n}}, {{user n}}, {{tier n}},
                         {{cost n}}, {{first stage n}}, {{max attempts n}}, {{entered at}})::darkroom.entering
                     ORDER BY {{created n}}, n.{{id column}}),
           max(greatest({{id sizes n}}))
    INTO jobs, longest_bytes FROM entering_rows n WHERE {{is pending n}};
    IF longest_bytes > 200 THEN
        PERFORM darkroom.refuse_id(i.column_name, i.id)
        FROM entering_rows n CROSS JOIN LATERAL (VALUES {{named ids n}}) i (column_name, id)
        WHERE {{is pending n}} AND octet_length(i.id) > 200;
    END IF;
    IF jobs IS NOT NULL THEN  -- rows of finished jobs are neither queued nor charged
        {{part earlier jobs}}
        queued := darkroom.enter(jobs, settings);
        {{require entered}}
        {{entered books}}
    END IF;
    RETURN NULL;
END $$;

--: end
-- Delete queue rows whose job is deleted or over (TRUNCATE and a restore fire no row trigger), and adopt jobs without a
-- queue row where Darkroom may (adopting.sql). Return how many of each. A job is locked while it is adopted, since
-- otherwise a job that is being cancelled could be queued again. Only the jobs of `ids`, and the queue rows with ids
-- above `after_id` and up to `last_id`, are read; all of them where these are NULL.
CREATE OR REPLACE FUNCTION darkroom.adopt(most integer DEFAULT 1000, max_wait_s float8 DEFAULT 86400,
    silence_s float8 DEFAULT 630, stops jsonb DEFAULT '[]', ids text[] DEFAULT NULL, after_id bigint DEFAULT 0,
    last_id bigint DEFAULT NULL, OUT adopted integer, OUT dropped integer)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    silent timestamp := darkroom.utc_now() - make_interval(secs => silence_s);
    fresh timestamp := darkroom.utc_now() - make_interval(secs => least(max_wait_s, 3e9));
BEGIN
    PERFORM darkroom.require_jobs_shown();  -- a hidden job must not be treated as a missing one
    adopted := 0;
    IF coalesce(cardinality(ids), 1) > 0 AND darkroom.takes_over() THEN
        --: each job table
        adopted := adopted + darkroom.take_in(ARRAY(
            SELECT ROW({{type j}}, {{id j}}, {{user j}}, {{tier j}},
                       {{cost j}}, {{resumed stage j}},
                       {{max attempts j}},
                       least({{created j}} AT TIME ZONE 'utc', now()))::darkroom.entering
            FROM {{table}} j
            WHERE ({{is pending j}} OR ({{is processing j}} AND {{is silent j}}))
              AND (ids IS NULL OR j.{{id column}} = ANY ({{ids from ids}}))
              AND NOT EXISTS (SELECT FROM darkroom.job_queue q
                              WHERE q.job_id = {{id j}} AND q.job_type IN ({{types}}))
              AND NOT EXISTS (SELECT FROM darkroom.refused_ends r
                              WHERE r.job_id = {{id j}} AND r.job_type IN ({{types}}) AND r.label IS NOT NULL)
              AND CASE WHEN {{created j}} > fresh THEN true
                       ELSE darkroom.waited_s({{type j}}, {{tier j}},
                                              {{created j}}, stops) < max_wait_s END
            ORDER BY {{created j}}, j.{{id column}} LIMIT most FOR NO KEY UPDATE OF j SKIP LOCKED));
        --: end
    END IF;
    DELETE FROM darkroom.job_queue d WHERE d.id IN (
        SELECT q.id FROM darkroom.job_queue q
        WHERE q.job_type IN ({{all types}}) -- rows of other types are left to the release that knows them
          AND q.id > after_id AND (last_id IS NULL OR q.id <= last_id)
          --: each job table
          AND NOT EXISTS (SELECT FROM {{table}} j
                          WHERE j.{{id column}} = {{id from q.job_id}} AND q.job_type IN ({{types}})
                            AND {{is unfinished j}})
          --: end
        ORDER BY q.id LIMIT most FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS dropped = ROW_COUNT;
END $$;
