-- Batches: the pictures of an album, submitted, counted, cancelled and tried again together.

-- Raise an error that names the pictures that a user may not enhance, or that can't be read.
CREATE OR REPLACE FUNCTION darkroom.check_pictures(user_id text, pictures text[]) RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off AS $$
#variable_conflict use_variable
DECLARE
    foreign_ids text[];
    unreadable record;
BEGIN
    foreign_ids := ARRAY(
        SELECT p.id FROM unnest(pictures) WITH ORDINALITY p (id, place) JOIN public.enhanced_images i ON i.id = p.id
        WHERE i."userId" <> user_id AND NOT i."isPublic" ORDER BY p.place);
    IF cardinality(foreign_ids) > 0 THEN
        RAISE EXCEPTION 'not yours: picture %', array_to_string(foreign_ids[1:10], ', ')
            || CASE WHEN cardinality(foreign_ids) > 10 THEN format(' and %s more', cardinality(foreign_ids) - 10) ELSE '' END
            USING ERRCODE = '42501';
    END IF;
    SELECT p.id, f.fault INTO unreadable
    FROM unnest(pictures) WITH ORDINALITY p (id, place) JOIN public.enhanced_images i ON i.id = p.id
    CROSS JOIN LATERAL (SELECT darkroom.key_fault(i."originalR2Key") AS fault) f
    WHERE f.fault IS NOT NULL ORDER BY p.place LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'picture % can''t be read: its originalR2Key is no key: %', unreadable.id, unreadable.fault
            USING ERRCODE = '22023';
    END IF;
END $$;

-- Submit pictures as one batch: all of its jobs and charges, or none. The jobs are claimed in the order of the pictures:
-- the trigger orders the rows of a statement by their ids. With `redo` a worker doesn't reuse an earlier result.
CREATE OR REPLACE FUNCTION darkroom.enter_batch(batch darkroom.batches, pictures text[], pipelines text[], redo boolean,
                                                run_at timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET jit = off AS $$
#variable_conflict use_variable
DECLARE
    jobs text[] := ARRAY(SELECT n.id FROM (SELECT darkroom.new_id() AS id FROM unnest(pictures)) n ORDER BY n.id);
    said_before text;
    entered bigint;
BEGIN
    INSERT INTO darkroom.batches (id, user_id, label, album_id, tier, job_ids)
    VALUES (batch.id, batch.user_id, batch.label, batch.album_id, batch.tier, jobs);
    IF cardinality(jobs) = 0 THEN
        PERFORM darkroom.finish_batch(batch.id);
        RETURN;
    END IF;
    said_before := darkroom.describe_entering(run_at, batch.id);
    WITH written AS (
        INSERT INTO public.image_enhancement_jobs
            (id, "imageId", "userId", tier, "tokensCost", status, "createdAt", "updatedAt", "pipelineId",
             "sourceImageId", "isBlend")
        SELECT n.id, n.picture, batch.user_id, batch.tier::public."EnhancementTier", darkroom.price(batch.tier), 'PENDING',
               darkroom.utc_now(), darkroom.utc_now(), n.pipeline, NULL, false
        FROM unnest(jobs, pictures, pipelines) n (id, picture, pipeline)
        RETURNING status::text AS status)
    SELECT count(*) FILTER (WHERE w.status = 'PENDING') INTO entered FROM written w;
    PERFORM set_config('darkroom.entering', said_before, true);
    PERFORM darkroom.require_booked('jobs of the album', cardinality(jobs), entered);
    IF redo THEN
        UPDATE darkroom.job_queue q SET payload = q.payload || '{"is_redone": true}' WHERE q.batch_id = batch.id;
    END IF;
END $$;

-- Submit the pictures of an album that aren't done or under way at a tier, and return the batch: a repeated idempotency
-- key returns the first one. Jobs that failed don't count; with `redo`, neither do those that are done. Without a tier
-- the pipeline's is taken, else the album's; without a pipeline, the album's. All jobs and charges are one statement.
CREATE OR REPLACE FUNCTION darkroom.submit_album(user_id text, album_id text, tier text, pipeline_id text DEFAULT NULL,
                                                 redo boolean DEFAULT false, idempotency_key text DEFAULT NULL,
                                                 run_at timestamptz DEFAULT NULL)
RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off AS $$
#variable_conflict use_variable
DECLARE
    batch darkroom.batches;
    first_batch text;
    album record;
    chosen text;
    pictures text[];
    pipelines text[];
BEGIN
    PERFORM darkroom.require_jobs_shown();  -- a hidden job must not be treated as one that isn't there
    IF run_at IS NOT NULL THEN
        PERFORM darkroom.check_run_at(run_at);
    END IF;
    redo := coalesce(redo, false);
    batch.id := gen_random_uuid();
    first_batch := darkroom.reserve_submission(
        user_id, idempotency_key, 'album', batch.id::text,
        jsonb_build_object('album_id', album_id, 'tier', tier, 'pipeline_id', pipeline_id, 'redo', redo,
                           'run_at', CASE WHEN run_at IS NOT NULL THEN darkroom.time_argument(run_at) END));
    IF first_batch <> batch.id::text THEN
        RETURN first_batch::uuid;
    END IF;
    SELECT a."userId"::text AS owner, a.name::text AS name, a."pipelineId"::text AS pipeline,
           to_jsonb(a) ->> 'defaultTier' AS tier
    INTO album FROM public.albums a WHERE a.id = album_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'album % not found', album_id USING ERRCODE = 'P0002';
    ELSIF album.owner <> user_id THEN
        RAISE EXCEPTION 'album % is not yours', album_id USING ERRCODE = '42501';
    END IF;
    chosen := coalesce(pipeline_id, album.pipeline);
    IF chosen IS NOT NULL THEN
        PERFORM darkroom.check_pipeline(user_id, chosen);
        PERFORM darkroom.check_references(chosen);
        IF pipeline_id IS NOT NULL OR darkroom.link_pipelines() <> 'trust' THEN
            PERFORM darkroom.check_link(user_id, chosen, NULL);
        END IF;
    END IF;
    batch.tier := coalesce(tier, CASE WHEN pipeline_id IS NOT NULL THEN darkroom.default_tier(user_id, NULL, pipeline_id)
                                      ELSE album.tier END, 'TIER_1K');
    PERFORM darkroom.check_tier(batch.tier);

    INSERT INTO darkroom.album_batches AS a (album_id, batch_id) VALUES (album_id, batch.id)
    ON CONFLICT ON CONSTRAINT album_batches_pkey DO UPDATE SET batch_id = excluded.batch_id, at = now();
    -- a query of its own, which sees what an earlier submission has committed in the meantime; OFFSET 0 keeps the jobs of
    -- a picture from being looked for among all jobs of the user, which without statistics looks as cheap
    pictures := ARRAY(
        SELECT m."imageId"::text FROM public.album_images m
        WHERE m."albumId" = album_id AND NOT EXISTS (
            SELECT FROM (SELECT o.* FROM public.image_enhancement_jobs o WHERE o."imageId" = m."imageId" OFFSET 0) j
            WHERE j."userId" = user_id AND j.tier::text = batch.tier AND NOT j."isBlend"
              AND (j.status IN ('PENDING', 'PROCESSING') OR (j.status = 'COMPLETED' AND NOT redo)))
        ORDER BY m."sortOrder", m."addedAt", m.id);
    PERFORM darkroom.check_pictures(user_id, pictures);
    batch.user_id := user_id;
    batch.label := album.name;
    batch.album_id := album_id;
    -- in an album without a pipeline a picture has that of another album, by the rule of darkroom.fill_pipeline
    pipelines := ARRAY(
        SELECT coalesce(chosen, v.id) FROM unnest(pictures) WITH ORDINALITY k (id, place)
        LEFT JOIN LATERAL darkroom.album_pipelines(user_id, k.id) p ON chosen IS NULL
        LEFT JOIN public.enhancement_pipelines v
            ON v.id = p.id AND (v.visibility = 'PUBLIC' OR v."userId" IS NULL OR v."userId" = user_id
                                OR (v.visibility = 'LINK' AND darkroom.link_pipelines() = 'trust'))
        ORDER BY k.place);
    PERFORM darkroom.enter_batch(batch, pictures, pipelines, redo, run_at);
    RETURN batch.id;
END $$;

-- Submit the jobs of a batch that ended without success once more, as a new batch at the same tier, each with the
-- pipeline that it had, and return the new batch. Pictures that are done or under way again since then are left out. A
-- caller that repeats a call whose answer got lost gives the new batch's id, and gets the same batch.
CREATE OR REPLACE FUNCTION darkroom.retry_batch(batch_id uuid, new_id uuid DEFAULT gen_random_uuid()) RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off AS $$
#variable_conflict use_variable
DECLARE
    old darkroom.batches;
    batch darkroom.batches;
    pictures text[];
    pipelines text[];
BEGIN
    PERFORM darkroom.require_jobs_shown();
    PERFORM 1 FROM darkroom.batches b WHERE b.id = new_id;
    IF FOUND THEN
        RETURN new_id;
    END IF;
    batch.id := new_id;
    -- two operators at once wait for each other here
    SELECT b.* INTO old FROM darkroom.batches b WHERE b.id = batch_id FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'batch % not found', batch_id USING ERRCODE = 'P0002';
    END IF;
    IF old.album_id IS NOT NULL THEN  -- submissions of one album wait for each other here, as in submit_album
        INSERT INTO darkroom.album_batches AS a (album_id, batch_id) VALUES (old.album_id, new_id)
        ON CONFLICT ON CONSTRAINT album_batches_pkey DO UPDATE SET batch_id = excluded.batch_id, at = now();
    END IF;
    PERFORM 1 FROM darkroom.batches b WHERE b.id = new_id;  -- once more, as another call may have been first
    IF FOUND THEN
        RETURN new_id;
    END IF;
    SELECT array_agg(j."imageId"::text ORDER BY k.place), array_agg(j."pipelineId"::text ORDER BY k.place)
    INTO pictures, pipelines
    FROM unnest(old.job_ids) WITH ORDINALITY k (id, place) JOIN public.image_enhancement_jobs j ON j.id = k.id
    WHERE j.status IN ('FAILED', 'REFUNDED', 'CANCELLED') AND NOT EXISTS (
        SELECT FROM (SELECT n.* FROM public.image_enhancement_jobs n WHERE n."imageId" = j."imageId" OFFSET 0) o
        WHERE o."userId" = j."userId" AND o.tier = j.tier AND NOT o."isBlend"
          AND (o.status IN ('PENDING', 'PROCESSING') OR (o.status = 'COMPLETED' AND o."createdAt" >= j."createdAt")));
    PERFORM darkroom.check_pictures(old.user_id, coalesce(pictures, '{}'));
    batch.user_id := old.user_id;
    batch.label := old.label;
    batch.album_id := old.album_id;
    batch.tier := old.tier;
    PERFORM darkroom.enter_batch(batch, coalesce(pictures, '{}'), coalesce(pipelines, '{}'), false, NULL);
    IF pictures IS NOT NULL THEN
        UPDATE darkroom.batches b SET retried_as = batch.id WHERE b.id = batch_id;
    END IF;
    RETURN batch.id;
END $$;

-- Return how the jobs of a batch are; no row for a batch that there isn't. A job whose row was deleted counts as
-- cancelled, and finished_at is when the last one ended.
CREATE OR REPLACE FUNCTION darkroom.batch_progress(batch_id uuid)
RETURNS TABLE (total bigint, waiting bigint, running bigint, completed bigint, failed bigint, refunded bigint,
               cancelled bigint, finished_at timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    batch darkroom.batches;
BEGIN
    SELECT b.* INTO batch FROM darkroom.batches b WHERE b.id = batch_progress.batch_id;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    total := cardinality(batch.job_ids);
    IF batch.finished_at IS NOT NULL THEN
        RETURN QUERY SELECT total, 0::bigint, 0::bigint, batch.completed, batch.failed, batch.refunded, batch.cancelled,
                            batch.finished_at;
        RETURN;
    END IF;
    PERFORM darkroom.require_jobs_shown();
    RETURN QUERY
    SELECT total, s.waiting, s.running, s.completed, s.failed, s.refunded,
           total - s.waiting - s.running - s.completed - s.failed - s.refunded,
           CASE WHEN s.waiting + s.running = 0 THEN coalesce(s.ended AT TIME ZONE 'utc', batch.created_at) END
    FROM (SELECT count(*) FILTER (WHERE j.status = 'PENDING') AS waiting,
                 count(*) FILTER (WHERE j.status = 'PROCESSING') AS running,
                 count(*) FILTER (WHERE j.status = 'COMPLETED') AS completed,
                 count(*) FILTER (WHERE j.status = 'FAILED') AS failed,
                 count(*) FILTER (WHERE j.status = 'REFUNDED') AS refunded, max(j.ended) AS ended
          FROM (SELECT coalesce(e.label, r.status) AS status, coalesce(r."processingCompletedAt", r."updatedAt") AS ended
                FROM darkroom.jobs_of(batch.job_ids) r
                LEFT JOIN darkroom.refused_ends e ON e.job_type = r.type AND e.job_id = r.id
                WHERE r.type IN ('enhance', 'blend')) j) s;  -- another job table may have the same ids
END $$;

-- Cancel the unfinished jobs of a batch, which refunds them, and return how many were cancelled. If the database refuses
-- to change one of them, they are cancelled one by one.
CREATE OR REPLACE FUNCTION darkroom.cancel_batch(batch_id uuid) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off AS $$
#variable_conflict use_variable
DECLARE
    jobs text[];
    cancelled bigint;
    one text;
BEGIN
    PERFORM darkroom.require_jobs_shown();
    SELECT b.job_ids INTO jobs FROM darkroom.batches b WHERE b.id = batch_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'batch % not found', batch_id USING ERRCODE = 'P0002';
    END IF;
    BEGIN
        WITH unfinished AS MATERIALIZED (
                SELECT j.id FROM public.image_enhancement_jobs j JOIN unnest(jobs) k (id) ON j.id = k.id
                WHERE j.status IN ('PENDING', 'PROCESSING') ORDER BY j.id FOR NO KEY UPDATE OF j),
            ended AS (
                UPDATE public.image_enhancement_jobs j SET status = 'CANCELLED' FROM unfinished u WHERE j.id = u.id
                RETURNING j.status::text AS status)
        SELECT count(*) FILTER (WHERE e.status = 'CANCELLED') INTO cancelled FROM ended e;
        RETURN cancelled;
    EXCEPTION WHEN OTHERS OR assert_failure THEN
        IF darkroom.is_contention(SQLSTATE) THEN
            RAISE;
        END IF;
    END;
    cancelled := 0;
    FOR one IN SELECT j.id FROM public.image_enhancement_jobs j JOIN unnest(jobs) k (id) ON j.id = k.id
               WHERE j.status IN ('PENDING', 'PROCESSING') ORDER BY j.id LOOP
        -- another job table may have the same id
        IF darkroom.cancel_job('public.image_enhancement_jobs/' || one) = 'CANCELLED' THEN
            cancelled := cancelled + 1;
        END IF;
    END LOOP;
    RETURN cancelled;
END $$;

-- Record how the jobs of a batch ended and notify its end, once, if all of them are over; return whether they are. The
-- caller has locked the batch, or made it.
CREATE OR REPLACE FUNCTION darkroom.finish_batch(batch_id uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    progress record;
BEGIN
    SELECT p.* INTO progress FROM darkroom.batch_progress(batch_id) p;
    IF progress.finished_at IS NULL THEN
        RETURN false;
    END IF;
    UPDATE darkroom.batches b
    SET completed = progress.completed, failed = progress.failed, refunded = progress.refunded,
        cancelled = progress.cancelled, finished_at = progress.finished_at
    WHERE b.id = batch_id AND b.finished_at IS NULL;
    IF FOUND THEN
        PERFORM darkroom.notify_job('batch', batch_id::text, 'COMPLETED', NULL);
    END IF;
    RETURN FOUND;
END $$;

-- Finish batches without a job in the queue, and return how many were finished. Which ones is left to chance: those with
-- jobs whose queue rows were lost and made anew, without their batch, must not hide others. Ending a job doesn't do this:
-- two jobs that end at once don't see each other's end, and all jobs of a batch would wait for its row.
CREATE OR REPLACE FUNCTION darkroom.finish_batches(most integer DEFAULT 100) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    over uuid[];
BEGIN
    over := ARRAY(SELECT b.id FROM darkroom.batches b
                  WHERE b.finished_at IS NULL AND NOT EXISTS (SELECT FROM darkroom.job_queue q WHERE q.batch_id = b.id)
                  ORDER BY random() LIMIT most FOR UPDATE SKIP LOCKED);
    RETURN (SELECT count(*) FILTER (WHERE darkroom.finish_batch(o.id)) FROM unnest(over) o (id));
END $$;
