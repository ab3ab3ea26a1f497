-- How jobs enter the queue: in the statement that inserts their rows; all rows of it are queued, or none.

-- Return the largest number of attempts of a job: one, and its retries. A producer may mean "without end" by the
-- largest integer, and one more than that doesn't fit into the column.
CREATE OR REPLACE FUNCTION darkroom.max_attempts(max_retries bigint) RETURNS integer LANGUAGE sql STABLE
RETURN (1 + least(greatest(0, coalesce(max_retries, (darkroom.setting('max_retries') #>> '{}')::bigint, 3)),
                  2147483646))::integer;

-- Ask the next producer to notify; false if one has been asked already. A sequence that was set back is corrected here.
CREATE OR REPLACE FUNCTION darkroom.ask_for_wake_up() RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    asked bigint := coalesce(pg_sequence_last_value('darkroom.wake_ups_asked_seq'), 0);
    sent bigint := coalesce(pg_sequence_last_value('darkroom.wake_ups_sent_seq'), 0);
BEGIN
    IF asked > sent THEN
        RETURN false;
    END IF;
    PERFORM setval('darkroom.wake_ups_asked_seq', sent + 1);
    RETURN true;
END $$;

-- Notify if an idle worker has asked for it. A NOTIFY in every commit would limit the throughput of the whole database,
-- so one producer answers each request: the one that gets its lock, which is held until the commit and never waited
-- for. If that producer rolls back, no notification is sent; a worker asks again after its next look.
CREATE OR REPLACE FUNCTION darkroom.send_wake_up() RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    asked bigint := pg_sequence_last_value('darkroom.wake_ups_asked_seq');
BEGIN
    IF asked > coalesce(pg_sequence_last_value('darkroom.wake_ups_sent_seq'), 0)
            AND pg_try_advisory_xact_lock('darkroom.wake_ups_sent_seq'::regclass::oid::integer,
                                          (asked % 2147483647)::integer) THEN
        PERFORM setval('darkroom.wake_ups_sent_seq', asked);
        PERFORM pg_notify('darkroom_bells', {{default queue}}) WHERE darkroom.may_notify();
    END IF;
END $$;

--: each job table whose jobs may wait
-- Set when jobs are due, according to their rows: at a time, or never while they wait for their producer.
CREATE OR REPLACE FUNCTION darkroom.put_off_{{rows}}(ids text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp {{kept plans}} AS $$
BEGIN
    UPDATE darkroom.job_queue q
    SET status = CASE WHEN w.until > now() THEN 'retrying' ELSE 'pending' END, ready = coalesce(w.until <= now(), true),
        scheduled_at = coalesce(w.until, now()), paused_by = NULL
    FROM (SELECT {{id j}} AS id, {{waits until j}} AS until
          FROM {{table}} j WHERE j.{{id column}} = ANY ({{ids from ids}})) w
    WHERE q.job_id = ANY (ids) AND q.job_type IN ({{types}}) AND q.job_id = w.id AND q.status <> 'processing'
      AND (w.until > now() OR q.status = 'retrying');
END $$;

--: end
-- Queue jobs, and wake an idle worker. `pauses` are the operators' present ones (pauses.sql). This writes no row that
-- other producers write too, and above READ COMMITTED reads none: one shared row would make their transactions fail.
CREATE OR REPLACE FUNCTION darkroom.enqueue(jobs darkroom.entering[], pauses jsonb) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    entered integer;
BEGIN
    INSERT INTO darkroom.job_queue
        (job_type, job_id, user_id, tier, queue, stage, position, max_attempts, created_at, ready, paused_by)
    SELECT j.job_type, j.job_id, j.user_id, j.tier, {{default queue}}, j.stage,
           nextval('darkroom.job_queue_position_seq'), j.max_attempts, j.created_at,
           darkroom.pause_of(j.job_type, j.tier, pauses) IS NULL, darkroom.pause_of(j.job_type, j.tier, pauses)
    FROM unnest(jobs) j
    ON CONFLICT (job_type, job_id) DO NOTHING;
    GET DIAGNOSTICS entered = ROW_COUNT;
    --: each job table whose jobs may wait
    PERFORM darkroom.put_off_{{rows}}(ARRAY(SELECT j.job_id FROM unnest(jobs) j WHERE j.job_type IN ({{types}})));
    --: end
    PERFORM darkroom.send_wake_up();
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
BEGIN
    PERFORM darkroom.require_jobs_shown();
    IF mode = 'managed' THEN
        PERFORM darkroom.charge(jobs, prices);
    ELSIF mode = 'producer' THEN
        SELECT j.job_id, j.cost INTO negative FROM unnest(jobs) j WHERE j.cost < 0 LIMIT 1;
        IF FOUND THEN -- a refund of a negative price would take tokens
            RAISE EXCEPTION 'wrong price for job %: given %, expected 0 or more', negative.job_id, negative.cost
                USING ERRCODE = 'P0001', DETAIL = format('given %s, expected 0 or more', negative.cost);
        END IF;
    END IF;
    RETURN darkroom.enqueue(jobs, settings -> 'pauses');
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
EXCEPTION WHEN undefined_column THEN
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
-- BEFORE INSERT of a job that names no pipeline: writes its album's pipeline into the row, so that later changes of the
-- album don't change how the job is treated. If its user may not use that pipeline, or only with a share token, the row
-- is left to the worker, which refuses the job or checks the token. In a serializable transaction every row is left to
-- the worker, because the albums of unrelated users share index pages. Most pictures are in no album, so that is
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
            OR current_setting('transaction_isolation') = 'serializable' THEN
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
    WHERE s.key = ANY ('{mode,models,pauses,prices}');
    {{entering checks}}
    SELECT array_agg(ROW({{type n}}, {{id n}}, {{user n}}, {{tier n}},
                         {{cost n}}, {{first stage n}}, {{max attempts n}}, now())::darkroom.entering
                     ORDER BY {{created n}}, n.{{id column}}),
           max(greatest({{id sizes n}}))
    INTO jobs, longest_bytes FROM entering_rows n WHERE {{is pending n}};
    IF longest_bytes > 200 THEN
        PERFORM darkroom.refuse_id(i.column_name, i.id)
        FROM entering_rows n CROSS JOIN LATERAL (VALUES {{named ids n}}) i (column_name, id)
        WHERE {{is pending n}} AND octet_length(i.id) > 200;
    END IF;
    IF jobs IS NOT NULL THEN  -- rows of finished jobs are neither queued nor charged
        queued := darkroom.enter(jobs, settings);
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
