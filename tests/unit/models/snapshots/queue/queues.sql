-- Queues by stage: setting `stage_queues` names the queues of stages; all other stages have queue `default`. A job waits in
-- the queue of its next stage, and whoever reaches a stage of another queue hands it over
-- (models/queue/transition_statements.py). Decision record 0203.

-- Return the queue of a stage; `stage_queues` is the setting, NULL where none is recorded.
CREATE OR REPLACE FUNCTION darkroom.queue_of(stage text, stage_queues jsonb) RETURNS text LANGUAGE sql IMMUTABLE
RETURN coalesce(stage_queues ->> stage, 'default');

-- Return all queues that jobs may enter.
CREATE OR REPLACE FUNCTION darkroom.queues() RETURNS SETOF text LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT 'default' AS queue UNION SELECT s.value FROM jsonb_each_text(darkroom.setting('stage_queues')) s;
END;

-- Return a queue's own sequence, by the name of that of queue `default`; NULL for a queue that db upgrade doesn't know.
CREATE OR REPLACE FUNCTION darkroom.sequence_of(of_queue text, name text) RETURNS regclass LANGUAGE sql STABLE
RETURN to_regclass(CASE of_queue WHEN 'default' THEN format('darkroom.%I', name)
                                 ELSE format('darkroom.%I', name || ':' || of_queue) END);

-- Make the sequences of all queues that jobs may enter. Producers read only sequences, so that no two of them conflict.
CREATE OR REPLACE FUNCTION darkroom.make_queues() RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    made record;
BEGIN
    FOR made IN SELECT q AS queue, k.kind, format('%s:%s', k.kind, q) AS name, k.options
                FROM darkroom.queues() q CROSS JOIN (VALUES
                    ('virtual_time_seq', 'START WITH 1000000000000'),
                    ('head_start_seq', 'INCREMENT BY 1000000 START WITH 1000000000000'),
                    ('wake_ups_asked_seq', ''), ('wake_ups_sent_seq', '')) k (kind, options)
                WHERE darkroom.sequence_of(q, k.kind) IS NULL LOOP
        EXECUTE format('CREATE SEQUENCE darkroom.%I %s', made.name, made.options);
        EXECUTE format('COMMENT ON SEQUENCE darkroom.%I IS %L', made.name,
                       format('As darkroom.%s, of queue %s.', made.kind, made.queue));
    END LOOP;
END $$;

-- Move waiting jobs into the queues of their stages; return how many weren't there. They get a new tag there, which a
-- claimer gives them (fair.sql). Rows that others have locked are left: their writers know their queues.
CREATE OR REPLACE FUNCTION darkroom.move_to_queues(ids bigint[]) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    stage_queues jsonb := darkroom.setting('stage_queues');
    moved integer := 0;
    changed integer;
BEGIN
    UPDATE darkroom.job_queue q
    SET queue = darkroom.queue_of(q.stage, stage_queues), ready = false, paused_by = NULL, held_by = 'tag',
        -- a refused job is claimed before it gets a tag, and virtual time moves to the position of what is claimed
        position = darkroom.virtual_time(darkroom.queue_of(q.stage, stage_queues)),
        units = darkroom.fair_cost(q.tier, (j."tokensCost")::integer) * 1000000
    FROM public.image_enhancement_jobs j
    WHERE q.id = ANY (ARRAY(
              SELECT w.id FROM darkroom.job_queue w
              WHERE w.id = ANY (ids) AND w.job_type IN ('enhance', 'blend') AND w.status <> 'processing'
                AND w.queue <> darkroom.queue_of(w.stage, stage_queues)
              ORDER BY w.id FOR UPDATE SKIP LOCKED))
      AND j.id = q.job_id;
    GET DIAGNOSTICS changed = ROW_COUNT;
    moved := moved + changed;
    UPDATE darkroom.job_queue q
    SET queue = darkroom.queue_of(q.stage, stage_queues), ready = false, paused_by = NULL, held_by = 'tag',
        -- a refused job is claimed before it gets a tag, and virtual time moves to the position of what is claimed
        position = darkroom.virtual_time(darkroom.queue_of(q.stage, stage_queues)),
        units = darkroom.fair_cost(q.tier, (j."tokensCost")::integer) * 1000000
    FROM public.mcp_generation_jobs j
    WHERE q.id = ANY (ARRAY(
              SELECT w.id FROM darkroom.job_queue w
              WHERE w.id = ANY (ids) AND w.job_type IN ('generate', 'modify') AND w.status <> 'processing'
                AND w.queue <> darkroom.queue_of(w.stage, stage_queues)
              ORDER BY w.id FOR UPDATE SKIP LOCKED))
      AND j.id = q.job_id;
    GET DIAGNOSTICS changed = ROW_COUNT;
    moved := moved + changed;
    IF moved > 0 THEN
        PERFORM darkroom.send_wake_up(q) FROM darkroom.queues() q;
    END IF;
    RETURN moved;
END $$;

-- Move jobs that could be claimed out of queues that jobs don't enter any more, up to so many of each: of producers and
-- workers that still knew these queues. The index of claims is read once for each queue. A job that the database has
-- refused to start isn't in that index, but is tried again in its queue.
CREATE OR REPLACE FUNCTION darkroom.empty_old_queues(most integer DEFAULT 1000) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    of_queue text := (SELECT min(q.queue) FROM darkroom.job_queue q WHERE q.ready AND q.status = 'pending');
    moved integer := darkroom.move_to_queues(ARRAY(
        SELECT q.id FROM darkroom.job_queue q
        WHERE q.refused_since IS NOT NULL AND q.status = 'retrying' AND q.queue NOT IN (SELECT darkroom.queues())
        ORDER BY q.refused_since LIMIT most));
BEGIN
    WHILE of_queue IS NOT NULL LOOP
        IF of_queue NOT IN (SELECT darkroom.queues()) THEN
            moved := moved + darkroom.move_to_queues(ARRAY(
                SELECT q.id FROM darkroom.job_queue q WHERE q.queue = of_queue AND q.ready AND q.status = 'pending'
                ORDER BY q.position, q.id LIMIT most));
        END IF;
        of_queue := (SELECT min(q.queue) FROM darkroom.job_queue q
                     WHERE q.ready AND q.status = 'pending' AND q.queue > of_queue);
    END LOOP;
    RETURN moved;
END $$;

-- Return the queues from which no live worker takes jobs although jobs enter them or are there, and how many wait, without
-- those that wait for a time.
CREATE OR REPLACE FUNCTION darkroom.unserved_queues(OUT queue text, OUT waiting bigint) RETURNS SETOF record
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT k.queue, coalesce(w.waiting, 0)
    FROM (SELECT q AS queue FROM darkroom.queues() q UNION SELECT j.queue FROM darkroom.job_queue j) k
    LEFT JOIN (SELECT j.queue, count(*) AS waiting FROM darkroom.job_queue j WHERE j.status = 'pending'
               GROUP BY j.queue) w ON w.queue = k.queue
    WHERE NOT EXISTS (SELECT FROM darkroom.workers l WHERE l.lease_expires_at > now() AND k.queue = ANY (l.queues))
    ORDER BY k.queue;
END;
