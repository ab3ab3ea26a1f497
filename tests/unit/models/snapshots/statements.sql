-- claim up to eight jobs
WITH pauses AS MATERIALIZED (
        SELECT darkroom.setting('pauses') AS now, set_config('lock_timeout', '100', true)),
    picked AS MATERIALIZED (
        SELECT q.ctid AS queue_at, q.id, q.job_type, q.job_id, q.tier, q.position, q.units,
               q.run_token AS earlier_token
        FROM darkroom.job_queue q
        WHERE q.queue = $1 AND q.ready AND q.status = 'pending' AND q.suspect_of IS NULL
          AND (SELECT coalesce(NOT s.now ? ('queue:' || $1::text), true) FROM pauses s)
          AND EXISTS (SELECT FROM darkroom.workers w WHERE w.id = $3 AND w.lease_expires_at > now())
        ORDER BY q.position, q.id LIMIT 8 FOR UPDATE SKIP LOCKED),
    due AS MATERIALIZED (
        SELECT p.* FROM picked p CROSS JOIN pauses s WHERE darkroom.pause_of(p.job_type, p.tier, s.now) IS NULL),
    enhancements AS MATERIALIZED (
        SELECT p.*, l.job_at, l.job_in FROM due p CROSS JOIN LATERAL (
            SELECT j.ctid AS job_at, j.tableoid AS job_in FROM public.image_enhancement_jobs j
            WHERE j.id = p.job_id AND p.job_type IN ('enhance', 'blend')
              AND j.status NOT IN ('CANCELLED', 'COMPLETED', 'FAILED', 'REFUNDED')
            FOR NO KEY UPDATE SKIP LOCKED) l
        WHERE EXISTS (SELECT FROM public.image_enhancement_jobs s WHERE s.ctid = l.job_at AND s.tableoid = l.job_in)),
    generations AS MATERIALIZED (
        SELECT p.*, l.job_at, l.job_in FROM due p CROSS JOIN LATERAL (
            SELECT j.ctid AS job_at, j.tableoid AS job_in FROM public.mcp_generation_jobs j
            WHERE j.id = p.job_id AND p.job_type IN ('generate', 'modify')
              AND j.status NOT IN ('CANCELLED', 'COMPLETED', 'FAILED', 'REFUNDED')
            FOR NO KEY UPDATE SKIP LOCKED) l
        WHERE EXISTS (SELECT FROM public.mcp_generation_jobs s WHERE s.ctid = l.job_at AND s.tableoid = l.job_in)),
    free AS MATERIALIZED (SELECT * FROM enhancements UNION ALL SELECT * FROM generations),
    taken AS MATERIALIZED (
        SELECT f.*, (left((SELECT gen_random_uuid()::text), 24) || lpad(to_hex(f.id), 12, '0'))::uuid AS token
        FROM free f ORDER BY f.position, f.id LIMIT $2),
    advanced AS MATERIALIZED (
        SELECT darkroom.advance(max(t.position + least(t.units, 1000000)), (SELECT count(*) FROM picked) < 8, $1)
        FROM taken t
        HAVING count(*) > 0),
    claimed AS (
        UPDATE darkroom.job_queue q
        SET status = 'processing', ready = false, worker_id = $3, lease_token = taken.token, run_token = taken.token,
            attempts = least(q.attempts, 2147483646) + 1, started_at = now(),
            claimed_at = coalesce(q.claimed_at, now()),
            refusals = 0, refused_since = NULL, refused_state = NULL,
            notified_at = CASE WHEN q.notified_at > now() - interval '1 second' THEN q.notified_at ELSE now() END,
            deadline_at = now() + make_interval(secs => ($4::jsonb ->> q.stage)::float8)
        FROM taken WHERE q.ctid = taken.queue_at
        RETURNING q.*, taken.earlier_token, taken.job_at, taken.job_in),
    stepped_aside AS (
        UPDATE darkroom.job_queue q
        SET status = 'retrying', ready = false, scheduled_at = now() + interval '1 second'
        FROM due p WHERE q.ctid = p.queue_at AND p.id NOT IN (SELECT f.id FROM free f)
        RETURNING q.id),
    started_enhancements AS (
        UPDATE public.image_enhancement_jobs j
        SET status = 'PROCESSING',
            "currentStage" = CASE WHEN c.stage IN ('ANALYZING', 'CROPPING', 'PROMPTING', 'GENERATING') THEN c.stage::public."PipelineStage" ELSE j."currentStage" END,
            "workflowRunId" = CASE WHEN coalesce(j."workflowRunId", '') IN ('', c.earlier_token::text)
                                 THEN c.lease_token::text ELSE j."workflowRunId" END,
            "processingStartedAt" = coalesce(j."processingStartedAt", darkroom.utc_now()),
            "updatedAt" = darkroom.utc_now()
        FROM claimed c WHERE j.ctid = c.job_at AND j.tableoid = c.job_in AND c.job_type IN ('enhance', 'blend')
        RETURNING c.id, j.status = 'PROCESSING' AS is_started),
    started_generations AS (
        UPDATE public.mcp_generation_jobs j
        SET status = 'PROCESSING',
            "processingStartedAt" = coalesce(j."processingStartedAt", darkroom.utc_now()),
            "updatedAt" = darkroom.utc_now()
        FROM claimed c WHERE j.ctid = c.job_at AND j.tableoid = c.job_in AND c.job_type IN ('generate', 'modify')
        RETURNING c.id, j.status = 'PROCESSING' AS is_started),
    history AS (
        INSERT INTO darkroom.stage_runs (job_type, job_id, event, stage, attempt, worker_id, output)
        SELECT c.job_type, c.job_id, 'claimed', c.stage, c.attempts, c.worker_id, nullif(c.payload, '{}')
        FROM claimed c)
SELECT c.id, c.job_type, c.job_id, c.user_id, c.queue, c.stage, c.attempts, c.max_attempts, c.worker_id,
       c.lease_token, c.created_at, c.tier,
       CASE WHEN c.claimed_at = c.started_at
            THEN extract(epoch FROM c.claimed_at - greatest(c.created_at, c.run_at))::float8 END AS first_wait_s,
       aside.is_any AS has_stepped_aside,
       (SELECT count(*) FROM picked) > (SELECT count(*) FROM due) AS has_paused, (
    EXISTS (SELECT FROM darkroom.job_queue a WHERE a.held_by = 'tag' AND a.status = 'pending')
    OR (SELECT f.id FROM darkroom.freed_slots f ORDER BY f.id LIMIT 1) IS NOT NULL) AS has_asking,
       CASE WHEN c.notified_at = now() THEN darkroom.notify_job(c.job_type, c.job_id, 'PROCESSING', c.stage) END,
       CASE WHEN c.id IS NOT NULL AND c.id NOT IN (SELECT s.id FROM (SELECT s.id FROM started_enhancements s WHERE s.is_started UNION ALL SELECT s.id FROM started_generations s WHERE s.is_started) s)
            THEN darkroom.refuse_change(c.job_id, 'PROCESSING') END,
       set_config('lock_timeout', '800', true)
FROM (SELECT count(*) > 0 AS is_any FROM stepped_aside) aside CROSS JOIN (SELECT count(*) FROM advanced) moved
LEFT JOIN claimed c ON true
ORDER BY c.position, c.id

-- claim one job
WITH pauses AS MATERIALIZED (
        SELECT darkroom.setting('pauses') AS now, set_config('lock_timeout', '100', true)),
    picked AS MATERIALIZED (
        SELECT q.ctid AS queue_at, q.id, q.job_type, q.job_id, q.tier, q.position, q.units,
               q.run_token AS earlier_token
        FROM darkroom.job_queue q
        WHERE q.queue = $1 AND q.id = $5 AND (q.ready AND q.status = 'pending'
                          OR q.refused_since IS NOT NULL AND q.status = 'retrying' AND q.scheduled_at <= now()) AND q.suspect_of IS NULL
          AND (SELECT coalesce(NOT s.now ? ('queue:' || $1::text), true) FROM pauses s)
          AND EXISTS (SELECT FROM darkroom.workers w WHERE w.id = $3 AND w.lease_expires_at > now())
        ORDER BY q.position, q.id LIMIT 1 FOR UPDATE SKIP LOCKED),
    due AS MATERIALIZED (
        SELECT p.* FROM picked p CROSS JOIN pauses s WHERE darkroom.pause_of(p.job_type, p.tier, s.now) IS NULL),
    enhancements AS MATERIALIZED (
        SELECT p.*, l.job_at, l.job_in FROM due p CROSS JOIN LATERAL (
            SELECT j.ctid AS job_at, j.tableoid AS job_in FROM public.image_enhancement_jobs j
            WHERE j.id = p.job_id AND p.job_type IN ('enhance', 'blend')
              AND j.status NOT IN ('CANCELLED', 'COMPLETED', 'FAILED', 'REFUNDED')
            FOR NO KEY UPDATE SKIP LOCKED) l
        WHERE EXISTS (SELECT FROM public.image_enhancement_jobs s WHERE s.ctid = l.job_at AND s.tableoid = l.job_in)),
    generations AS MATERIALIZED (
        SELECT p.*, l.job_at, l.job_in FROM due p CROSS JOIN LATERAL (
            SELECT j.ctid AS job_at, j.tableoid AS job_in FROM public.mcp_generation_jobs j
            WHERE j.id = p.job_id AND p.job_type IN ('generate', 'modify')
              AND j.status NOT IN ('CANCELLED', 'COMPLETED', 'FAILED', 'REFUNDED')
            FOR NO KEY UPDATE SKIP LOCKED) l
        WHERE EXISTS (SELECT FROM public.mcp_generation_jobs s WHERE s.ctid = l.job_at AND s.tableoid = l.job_in)),
    free AS MATERIALIZED (SELECT * FROM enhancements UNION ALL SELECT * FROM generations),
    taken AS MATERIALIZED (
        SELECT f.*, (left((SELECT gen_random_uuid()::text), 24) || lpad(to_hex(f.id), 12, '0'))::uuid AS token
        FROM free f ORDER BY f.position, f.id LIMIT $2),
    advanced AS MATERIALIZED (
        SELECT darkroom.advance(max(t.position + least(t.units, 1000000)), false, $1)
        FROM taken t
        HAVING count(*) > 0),
    claimed AS (
        UPDATE darkroom.job_queue q
        SET status = 'processing', ready = false, worker_id = $3, lease_token = taken.token, run_token = taken.token,
            attempts = least(q.attempts, 2147483646) + 1, started_at = now(),
            claimed_at = coalesce(q.claimed_at, now()),
            refusals = 0, refused_since = NULL, refused_state = NULL,
            notified_at = CASE WHEN q.notified_at > now() - interval '1 second' THEN q.notified_at ELSE now() END,
            deadline_at = now() + make_interval(secs => ($4::jsonb ->> q.stage)::float8)
        FROM taken WHERE q.ctid = taken.queue_at
        RETURNING q.*, taken.earlier_token, taken.job_at, taken.job_in),
    stepped_aside AS (
        UPDATE darkroom.job_queue q
        SET status = 'retrying', ready = false, scheduled_at = now() + interval '1 second'
        FROM due p WHERE q.ctid = p.queue_at AND p.id NOT IN (SELECT f.id FROM free f)
        RETURNING q.id),
    started_enhancements AS (
        UPDATE public.image_enhancement_jobs j
        SET status = 'PROCESSING',
            "currentStage" = CASE WHEN c.stage IN ('ANALYZING', 'CROPPING', 'PROMPTING', 'GENERATING') THEN c.stage::public."PipelineStage" ELSE j."currentStage" END,
            "workflowRunId" = CASE WHEN coalesce(j."workflowRunId", '') IN ('', c.earlier_token::text)
                                 THEN c.lease_token::text ELSE j."workflowRunId" END,
            "processingStartedAt" = coalesce(j."processingStartedAt", darkroom.utc_now()),
            "updatedAt" = darkroom.utc_now()
        FROM claimed c WHERE j.ctid = c.job_at AND j.tableoid = c.job_in AND c.job_type IN ('enhance', 'blend')
        RETURNING c.id, j.status = 'PROCESSING' AS is_started),
    started_generations AS (
        UPDATE public.mcp_generation_jobs j
        SET status = 'PROCESSING',
            "processingStartedAt" = coalesce(j."processingStartedAt", darkroom.utc_now()),
            "updatedAt" = darkroom.utc_now()
        FROM claimed c WHERE j.ctid = c.job_at AND j.tableoid = c.job_in AND c.job_type IN ('generate', 'modify')
        RETURNING c.id, j.status = 'PROCESSING' AS is_started),
    history AS (
        INSERT INTO darkroom.stage_runs (job_type, job_id, event, stage, attempt, worker_id, output)
        SELECT c.job_type, c.job_id, 'claimed', c.stage, c.attempts, c.worker_id, nullif(c.payload, '{}')
        FROM claimed c)
SELECT c.id, c.job_type, c.job_id, c.user_id, c.queue, c.stage, c.attempts, c.max_attempts, c.worker_id,
       c.lease_token, c.created_at, c.tier,
       CASE WHEN c.claimed_at = c.started_at
            THEN extract(epoch FROM c.claimed_at - greatest(c.created_at, c.run_at))::float8 END AS first_wait_s,
       aside.is_any AS has_stepped_aside,
       (SELECT count(*) FROM picked) > (SELECT count(*) FROM due) AS has_paused, (
    EXISTS (SELECT FROM darkroom.job_queue a WHERE a.held_by = 'tag' AND a.status = 'pending')
    OR (SELECT f.id FROM darkroom.freed_slots f ORDER BY f.id LIMIT 1) IS NOT NULL) AS has_asking,
       CASE WHEN c.notified_at = now() THEN darkroom.notify_job(c.job_type, c.job_id, 'PROCESSING', c.stage) END,
       CASE WHEN c.id IS NOT NULL AND c.id NOT IN (SELECT s.id FROM (SELECT s.id FROM started_enhancements s WHERE s.is_started UNION ALL SELECT s.id FROM started_generations s WHERE s.is_started) s)
            THEN darkroom.refuse_change(c.job_id, 'PROCESSING') END,
       set_config('lock_timeout', '800', true)
FROM (SELECT count(*) > 0 AS is_any FROM stepped_aside) aside CROSS JOIN (SELECT count(*) FROM advanced) moved
LEFT JOIN claimed c ON true
ORDER BY c.position, c.id

-- enhancements: lock the rows of a claim
WITH job AS MATERIALIZED (SELECT j.id FROM public.image_enhancement_jobs j WHERE j.id = $1 FOR NO KEY UPDATE)
SELECT q.lease_token FROM darkroom.job_queue q JOIN job ON job.id = q.job_id
WHERE q.id = $2 AND q.lease_token = $3 FOR UPDATE OF q

-- enhancements: lock the rows of a job without a claim
WITH job AS MATERIALIZED (SELECT j.id FROM public.image_enhancement_jobs j WHERE j.id = $1 FOR NO KEY UPDATE SKIP LOCKED)
SELECT q.lease_token FROM darkroom.job_queue q JOIN job ON job.id = q.job_id
WHERE q.id = $2 AND q.attempts = $3 FOR UPDATE OF q SKIP LOCKED

-- enhancements: checkpoint of one claim
WITH writes AS MATERIALIZED (
        SELECT w.*
        FROM jsonb_to_recordset($1) w (
            n integer, job_id text, queue_id bigint, lease_token uuid, kind text, began_at text, following text,
            shown text, deadline_s float8, delay_s float8, is_suspect boolean, reason text, columns jsonb,
            history jsonb, kept jsonb, artifact jsonb)),
    job AS MATERIALIZED (
        SELECT w.*, locked.at AS row_at, locked.relation AS row_in
        FROM writes w
        CROSS JOIN LATERAL (
            SELECT j.ctid AS at, j.tableoid AS relation FROM public.image_enhancement_jobs j
            WHERE j.id = w.job_id FOR NO KEY UPDATE SKIP LOCKED) locked
        WHERE EXISTS (
            SELECT FROM public.image_enhancement_jobs seen WHERE seen.ctid = locked.at AND seen.tableoid = locked.relation)),
    held AS MATERIALIZED (
        SELECT job.*, locked.at AS queue_at, locked.job_type, locked.user_id, locked.stage, locked.attempts,
               locked.status AS queue_status, locked.worker_id, locked.notified_at
        FROM job
        CROSS JOIN LATERAL (
            SELECT q.ctid AS at, q.job_type, q.user_id, q.stage, q.attempts, q.status, q.worker_id, q.notified_at
            FROM darkroom.job_queue q
            WHERE q.id = job.queue_id AND q.job_id = job.job_id
              AND q.lease_token IS NOT DISTINCT FROM job.lease_token
            FOR UPDATE SKIP LOCKED) locked
        WHERE EXISTS (SELECT FROM darkroom.job_queue seen WHERE seen.ctid = locked.at)),
    reached AS (
        UPDATE public.image_enhancement_jobs j
        SET "currentStage" = CASE WHEN held.shown IN ('ANALYZING', 'CROPPING', 'PROMPTING', 'GENERATING') THEN held.shown::public."PipelineStage" ELSE j."currentStage" END,
            "errorMessage" = NULL,
            "updatedAt" = darkroom.utc_now()
        FROM held WHERE held.kind = 'checkpoint' AND j.ctid = held.row_at AND j.tableoid = held.row_in
        RETURNING held.n, j.status AS label, CASE WHEN held.notified_at < now() - interval '1 second'
                  THEN darkroom.notify_job(held.job_type, held.job_id, 'PROCESSING', held.following) END),
    queue_reached AS (
        UPDATE darkroom.job_queue q
        SET stage = held.following, deadline_at = now() + make_interval(secs => held.deadline_s), last_error = NULL,
            suspect_of = NULL,
            notified_at = CASE WHEN held.notified_at < now() - interval '1 second' THEN now() ELSE q.notified_at END
        FROM held JOIN reached USING (n) WHERE q.ctid = held.queue_at),
    written AS (
        SELECT n, label::text FROM reached),
    history AS (
        INSERT INTO darkroom.stage_runs
            (job_type, job_id, event, stage, attempt, worker_id, duration_ms, output, error)
        SELECT held.job_type, held.job_id, h.row ->> 0, h.row ->> 1, held.attempts, held.worker_id,
               (h.row ->> 2)::integer, nullif(h.row -> 3, 'null'), h.row ->> 4
        FROM written JOIN held USING (n) CROSS JOIN LATERAL jsonb_array_elements(held.history) h (row)
        -- If the statement is repeated after a lost answer, the claim still holds, and no stage must finish twice
        WHERE (held.kind <> 'checkpoint' OR held.stage = held.began_at)
          AND (held.kind <> 'completed' OR written.label = 'COMPLETED'))
SELECT n, label FROM (SELECT n, label FROM written ORDER BY n) every

-- enhancements: failed of one claim
WITH writes AS MATERIALIZED (
        SELECT w.*
        FROM jsonb_to_recordset($1) w (
            n integer, job_id text, queue_id bigint, lease_token uuid, kind text, began_at text, following text,
            shown text, deadline_s float8, delay_s float8, is_suspect boolean, reason text, columns jsonb,
            history jsonb, kept jsonb, artifact jsonb)),
    job AS MATERIALIZED (
        SELECT w.*, locked.at AS row_at, locked.relation AS row_in
        FROM writes w
        CROSS JOIN LATERAL (
            SELECT j.ctid AS at, j.tableoid AS relation FROM public.image_enhancement_jobs j
            WHERE j.id = w.job_id FOR NO KEY UPDATE SKIP LOCKED) locked
        WHERE EXISTS (
            SELECT FROM public.image_enhancement_jobs seen WHERE seen.ctid = locked.at AND seen.tableoid = locked.relation)),
    held AS MATERIALIZED (
        SELECT job.*, locked.at AS queue_at, locked.job_type, locked.user_id, locked.stage, locked.attempts,
               locked.status AS queue_status, locked.worker_id, locked.notified_at
        FROM job
        CROSS JOIN LATERAL (
            SELECT q.ctid AS at, q.job_type, q.user_id, q.stage, q.attempts, q.status, q.worker_id, q.notified_at
            FROM darkroom.job_queue q
            WHERE q.id = job.queue_id AND q.job_id = job.job_id
              AND q.lease_token IS NOT DISTINCT FROM job.lease_token
            FOR UPDATE SKIP LOCKED) locked
        WHERE EXISTS (SELECT FROM darkroom.job_queue seen WHERE seen.ctid = locked.at)),
    failed AS (
        UPDATE public.image_enhancement_jobs j
        SET status = darkroom.label_of_failure(held.job_type, held.job_id, j."userId", held.reason)::public."JobStatus",
            "errorMessage" = CASE WHEN held.kind = 'released' THEN j."errorMessage" ELSE held.reason END,
            "retryCount" = j."retryCount" + CASE
            WHEN held.kind IN ('failed', 'retried') AND held.queue_status = 'processing' AND j."retryCount" < 2147483647
            THEN 1 ELSE 0 END,
            "updatedAt" = darkroom.utc_now()
        FROM held WHERE held.kind = 'failed' AND j.ctid = held.row_at AND j.tableoid = held.row_in
        RETURNING held.n, j.status AS label),
    written AS (
        SELECT n, label::text FROM failed),
    history AS (
        INSERT INTO darkroom.stage_runs
            (job_type, job_id, event, stage, attempt, worker_id, duration_ms, output, error)
        SELECT held.job_type, held.job_id, h.row ->> 0, h.row ->> 1, held.attempts, held.worker_id,
               (h.row ->> 2)::integer, nullif(h.row -> 3, 'null'), h.row ->> 4
        FROM written JOIN held USING (n) CROSS JOIN LATERAL jsonb_array_elements(held.history) h (row)
        -- If the statement is repeated after a lost answer, the claim still holds, and no stage must finish twice
        WHERE (held.kind <> 'checkpoint' OR held.stage = held.began_at)
          AND (held.kind <> 'completed' OR written.label = 'COMPLETED'))
SELECT n, label FROM (SELECT n, label FROM written ORDER BY n) every

-- enhancements: all kinds of writes of a group
WITH writes AS MATERIALIZED (
        SELECT w.*
        FROM (SELECT set_config('lock_timeout', '100', true)) brief CROSS JOIN jsonb_to_recordset($1) w (
            n integer, job_id text, queue_id bigint, lease_token uuid, kind text, began_at text, following text,
            shown text, deadline_s float8, delay_s float8, is_suspect boolean, reason text, columns jsonb,
            history jsonb, kept jsonb, artifact jsonb)),
    job AS MATERIALIZED (
        SELECT w.*, locked.at AS row_at, locked.relation AS row_in,
               jsonb_populate_record(locked.whole, w.columns) AS filled
        FROM writes w
        CROSS JOIN LATERAL (
            SELECT j.ctid AS at, j.tableoid AS relation, j AS whole FROM public.image_enhancement_jobs j
            WHERE j.id = w.job_id FOR NO KEY UPDATE SKIP LOCKED) locked
        WHERE EXISTS (
            SELECT FROM public.image_enhancement_jobs seen WHERE seen.ctid = locked.at AND seen.tableoid = locked.relation)),
    held AS MATERIALIZED (
        SELECT job.*, locked.at AS queue_at, locked.job_type, locked.user_id, locked.stage, locked.attempts,
               locked.status AS queue_status, locked.worker_id, locked.notified_at
        FROM job
        CROSS JOIN LATERAL (
            SELECT q.ctid AS at, q.job_type, q.user_id, q.stage, q.attempts, q.status, q.worker_id, q.notified_at
            FROM darkroom.job_queue q
            WHERE q.id = job.queue_id AND q.job_id = job.job_id
              AND q.lease_token IS NOT DISTINCT FROM job.lease_token
            FOR UPDATE SKIP LOCKED) locked
        WHERE EXISTS (SELECT FROM darkroom.job_queue seen WHERE seen.ctid = locked.at)),
    reached AS (
        UPDATE public.image_enhancement_jobs j
        SET "currentStage" = CASE WHEN held.shown IN ('ANALYZING', 'CROPPING', 'PROMPTING', 'GENERATING') THEN held.shown::public."PipelineStage" ELSE j."currentStage" END,
            "errorMessage" = NULL,
            "analysisResult" = CASE WHEN held.columns ? 'analysisResult' THEN (held.filled)."analysisResult" ELSE j."analysisResult" END,
            "analysisSource" = CASE WHEN held.columns ? 'analysisSource' THEN (held.filled)."analysisSource" ELSE j."analysisSource" END,
            "cropDimensions" = CASE WHEN held.columns ? 'cropDimensions' THEN (held.filled)."cropDimensions" ELSE j."cropDimensions" END,
            "wasCropped" = CASE WHEN held.columns ? 'wasCropped' THEN (held.filled)."wasCropped" ELSE j."wasCropped" END,
            "geminiPrompt" = CASE WHEN held.columns ? 'geminiPrompt' THEN (held.filled)."geminiPrompt" ELSE j."geminiPrompt" END,
            "updatedAt" = darkroom.utc_now()
        FROM held WHERE held.kind = 'checkpoint' AND j.ctid = held.row_at AND j.tableoid = held.row_in
        RETURNING held.n, j.status AS label, CASE WHEN held.notified_at < now() - interval '1 second'
                  THEN darkroom.notify_job(held.job_type, held.job_id, 'PROCESSING', held.following) END),
    queue_reached AS (
        UPDATE darkroom.job_queue q
        SET stage = held.following, deadline_at = now() + make_interval(secs => held.deadline_s), last_error = NULL,
            suspect_of = NULL,
            notified_at = CASE WHEN held.notified_at < now() - interval '1 second' THEN now() ELSE q.notified_at END
        FROM held JOIN reached USING (n) WHERE q.ctid = held.queue_at),
    completed AS (
        UPDATE public.image_enhancement_jobs j
        SET status = 'COMPLETED',
            "errorMessage" = NULL,
            "processingCompletedAt" = darkroom.utc_now(),
            "currentStage" = NULL,
            "analysisResult" = CASE WHEN held.columns ? 'analysisResult' THEN (held.filled)."analysisResult" ELSE j."analysisResult" END,
            "analysisSource" = CASE WHEN held.columns ? 'analysisSource' THEN (held.filled)."analysisSource" ELSE j."analysisSource" END,
            "cropDimensions" = CASE WHEN held.columns ? 'cropDimensions' THEN (held.filled)."cropDimensions" ELSE j."cropDimensions" END,
            "wasCropped" = CASE WHEN held.columns ? 'wasCropped' THEN (held.filled)."wasCropped" ELSE j."wasCropped" END,
            "geminiPrompt" = CASE WHEN held.columns ? 'geminiPrompt' THEN (held.filled)."geminiPrompt" ELSE j."geminiPrompt" END,
            "enhancedUrl" = CASE WHEN held.columns ? 'enhancedUrl' THEN (held.filled)."enhancedUrl" ELSE j."enhancedUrl" END,
            "enhancedR2Key" = CASE WHEN held.columns ? 'enhancedR2Key' THEN (held.filled)."enhancedR2Key" ELSE j."enhancedR2Key" END,
            "enhancedWidth" = CASE WHEN held.columns ? 'enhancedWidth' THEN (held.filled)."enhancedWidth" ELSE j."enhancedWidth" END,
            "enhancedHeight" = CASE WHEN held.columns ? 'enhancedHeight' THEN (held.filled)."enhancedHeight" ELSE j."enhancedHeight" END,
            "enhancedSizeBytes" = CASE WHEN held.columns ? 'enhancedSizeBytes' THEN (held.filled)."enhancedSizeBytes" ELSE j."enhancedSizeBytes" END,
            "geminiModel" = CASE WHEN held.columns ? 'geminiModel' THEN (held.filled)."geminiModel" ELSE j."geminiModel" END,
            "geminiTemp" = CASE WHEN held.columns ? 'geminiTemp' THEN (held.filled)."geminiTemp" ELSE j."geminiTemp" END,
            "updatedAt" = darkroom.utc_now()
        FROM held WHERE held.kind = 'completed' AND j.ctid = held.row_at AND j.tableoid = held.row_in
        RETURNING held.n, j.status AS label),
    waits AS (
        UPDATE public.image_enhancement_jobs j
        SET status = (CASE held.kind WHEN 'retried' THEN 'PENDING' ELSE 'PENDING' END)::public."JobStatus",
            "errorMessage" = CASE WHEN held.kind = 'released' THEN j."errorMessage" ELSE held.reason END,
            "retryCount" = j."retryCount" + CASE
            WHEN held.kind IN ('failed', 'retried') AND held.queue_status = 'processing' AND j."retryCount" < 2147483647
            THEN 1 ELSE 0 END,
            "updatedAt" = darkroom.utc_now()
        FROM held WHERE held.kind IN ('retried', 'snoozed', 'released') AND j.ctid = held.row_at AND j.tableoid = held.row_in
        RETURNING held.n, j.status AS label),
    queue_waits AS (
        UPDATE darkroom.job_queue q
        SET worker_id = NULL, lease_token = NULL, deadline_at = NULL, ready = held.delay_s <= 0,
            status = CASE WHEN held.delay_s > 0 THEN 'retrying' ELSE 'pending' END,
            scheduled_at = now() + make_interval(secs => held.delay_s),
            last_error = CASE WHEN held.kind = 'released' THEN q.last_error ELSE held.reason END,
            attempts = q.attempts - CASE WHEN held.kind = 'retried' THEN 0 ELSE 1 END,
            suspect_of = CASE WHEN held.is_suspect THEN coalesce(q.suspect_of, q.worker_id) ELSE q.suspect_of END
        FROM held JOIN waits USING (n) WHERE q.ctid = held.queue_at),
    written AS (
        SELECT n, label::text FROM reached
        UNION ALL SELECT n, label::text FROM completed
        UNION ALL SELECT n, label::text FROM waits
        UNION ALL SELECT n, NULL AS label FROM held WHERE held.kind = 'artifact'),
    history AS (
        INSERT INTO darkroom.stage_runs
            (job_type, job_id, event, stage, attempt, worker_id, duration_ms, output, error)
        SELECT held.job_type, held.job_id, h.row ->> 0, h.row ->> 1, held.attempts, held.worker_id,
               (h.row ->> 2)::integer, nullif(h.row -> 3, 'null'), h.row ->> 4
        FROM written JOIN held USING (n) CROSS JOIN LATERAL jsonb_array_elements(held.history) h (row)
        -- If the statement is repeated after a lost answer, the claim still holds, and no stage must finish twice
        WHERE (held.kind <> 'checkpoint' OR held.stage = held.began_at)
          AND (held.kind <> 'completed' OR written.label = 'COMPLETED')),
    kept AS (
        INSERT INTO darkroom.checkpoints (job_type, job_id, stage, output)
        SELECT held.job_type, held.job_id, k.stage, k.output
        FROM written JOIN held USING (n) CROSS JOIN LATERAL jsonb_to_recordset(held.kept) k (stage text, output jsonb)
        -- a statement that is repeated after a lost answer writes the same row again
        ON CONFLICT (job_type, job_id, stage) DO UPDATE SET output = excluded.output, at = now()),
    artifacts AS (
        INSERT INTO darkroom.artifacts
            (job_type, job_id, user_id, input_hash, key, sha256, bytes, width, height, model, temperature, treatments)
        SELECT held.job_type, held.job_id, held.user_id, a.input_hash, a.key, a.sha256, a.size_bytes, a.width_px,
               a.height_px, a.model, a.temperature, a.treatments
        FROM held CROSS JOIN LATERAL jsonb_to_record(held.artifact) a (
            input_hash text, key text, sha256 text, size_bytes bigint, width_px integer, height_px integer, model text,
            temperature float8, treatments text[])
        WHERE held.artifact IS NOT NULL
        ON CONFLICT (job_type, job_id) DO UPDATE
        SET input_hash = excluded.input_hash, key = excluded.key, sha256 = excluded.sha256, bytes = excluded.bytes,
            width = excluded.width, height = excluded.height, model = excluded.model,
            temperature = excluded.temperature, treatments = excluded.treatments, created_at = now(),
            user_id = excluded.user_id)
SELECT n, label, set_config('lock_timeout', '800', true) FROM (SELECT n, label FROM written ORDER BY n) every

-- enhancements: carry what stages left to another job
UPDATE public.image_enhancement_jobs j SET "currentStage" = CASE WHEN $3::text IN ('ANALYZING', 'CROPPING', 'PROMPTING', 'GENERATING') THEN $3::text::public."PipelineStage" ELSE j."currentStage" END, "analysisResult" = o."analysisResult", "analysisSource" = o."analysisSource", "cropDimensions" = o."cropDimensions", "wasCropped" = o."wasCropped", "updatedAt" = darkroom.utc_now()
FROM public.image_enhancement_jobs o WHERE j.id = $2 AND o.id = $1 AND $3::text IS NOT NULL

-- enhancements: begin at another stage
WITH job AS MATERIALIZED (SELECT j.id FROM public.image_enhancement_jobs j WHERE j.id = $1 FOR NO KEY UPDATE),
    held AS MATERIALIZED (
        SELECT q.id, q.job_id FROM darkroom.job_queue q JOIN job ON job.id = q.job_id
        WHERE q.id = $2 AND q.lease_token = $3 FOR UPDATE OF q),
    queue AS (
        UPDATE darkroom.job_queue q
        SET stage = $4::text, deadline_at = now() + make_interval(secs => $5::float8)
        FROM held WHERE q.id = held.id)
UPDATE public.image_enhancement_jobs j SET "currentStage" = CASE WHEN $4::text IN ('ANALYZING', 'CROPPING', 'PROMPTING', 'GENERATING') THEN $4::text::public."PipelineStage" ELSE j."currentStage" END, "updatedAt" = darkroom.utc_now()
FROM held WHERE j.id = held.job_id RETURNING held.id

-- enhancements: inputs
SELECT j.tier::text, j."analysisResult", j."analysisSource", j."wasCropped", j."cropDimensions", j."geminiPrompt",
       i.id AS image_id, i."originalR2Key" AS image_key, i."userId" = j."userId" OR i."isPublic" AS image_is_allowed,
       j."isBlend" AS is_blend,
       s.id AS source_id, s."originalR2Key" AS source_key, s."userId" = j."userId" OR s."isPublic" AS source_is_allowed,
       p.id AS pipeline_id, p."userId" AS pipeline_owner_id,
       p.visibility = 'PUBLIC' OR p."userId" IS NULL OR p."userId" = j."userId"
           OR p.visibility = 'LINK' AND (darkroom.link_pipelines() = 'trust' OR EXISTS (
               SELECT FROM darkroom.pipeline_links l WHERE l.job_id = j.id AND l.pipeline_id = p.id OFFSET 0))
           AS pipeline_is_allowed,
       p.visibility = 'LINK' AS pipeline_is_shared_by_link, j."pipelineId" IS NULL AS pipeline_is_albums,
       p."analysisConfig", p."autoCropConfig", p."promptConfig", p."generationConfig", q.payload ->> 'model' AS model,
       coalesce((q.payload ->> 'is_redone')::boolean, false) AS is_redone
FROM public.image_enhancement_jobs j
LEFT JOIN darkroom.job_queue q ON q.id = $2
CROSS JOIN LATERAL (SELECT i.* FROM public.enhanced_images i WHERE i.id = j."imageId" OFFSET 0) i
LEFT JOIN LATERAL (
    SELECT s.* FROM public.enhanced_images s WHERE j."isBlend" AND s.id = j."sourceImageId" OFFSET 0) s ON true
CROSS JOIN LATERAL (
    SELECT coalesce(j."pipelineId", (
        SELECT a.id FROM darkroom.album_pipelines(j."userId", j."imageId") a)) AS id OFFSET 0) used
LEFT JOIN LATERAL (SELECT p.* FROM public.enhancement_pipelines p WHERE p.id = used.id OFFSET 0) p ON true
WHERE j.id = $1

-- generations: lock the rows of a claim
WITH job AS MATERIALIZED (SELECT j.id FROM public.mcp_generation_jobs j WHERE j.id = $1 FOR NO KEY UPDATE)
SELECT q.lease_token FROM darkroom.job_queue q JOIN job ON job.id = q.job_id
WHERE q.id = $2 AND q.lease_token = $3 FOR UPDATE OF q

-- generations: lock the rows of a job without a claim
WITH job AS MATERIALIZED (SELECT j.id FROM public.mcp_generation_jobs j WHERE j.id = $1 FOR NO KEY UPDATE SKIP LOCKED)
SELECT q.lease_token FROM darkroom.job_queue q JOIN job ON job.id = q.job_id
WHERE q.id = $2 AND q.attempts = $3 FOR UPDATE OF q SKIP LOCKED

-- generations: checkpoint of one claim
WITH writes AS MATERIALIZED (
        SELECT w.*
        FROM jsonb_to_recordset($1) w (
            n integer, job_id text, queue_id bigint, lease_token uuid, kind text, began_at text, following text,
            shown text, deadline_s float8, delay_s float8, is_suspect boolean, reason text, columns jsonb,
            history jsonb, kept jsonb, artifact jsonb)),
    job AS MATERIALIZED (
        SELECT w.*, locked.at AS row_at, locked.relation AS row_in
        FROM writes w
        CROSS JOIN LATERAL (
            SELECT j.ctid AS at, j.tableoid AS relation FROM public.mcp_generation_jobs j
            WHERE j.id = w.job_id FOR NO KEY UPDATE SKIP LOCKED) locked
        WHERE EXISTS (
            SELECT FROM public.mcp_generation_jobs seen WHERE seen.ctid = locked.at AND seen.tableoid = locked.relation)),
    held AS MATERIALIZED (
        SELECT job.*, locked.at AS queue_at, locked.job_type, locked.user_id, locked.stage, locked.attempts,
               locked.status AS queue_status, locked.worker_id, locked.notified_at
        FROM job
        CROSS JOIN LATERAL (
            SELECT q.ctid AS at, q.job_type, q.user_id, q.stage, q.attempts, q.status, q.worker_id, q.notified_at
            FROM darkroom.job_queue q
            WHERE q.id = job.queue_id AND q.job_id = job.job_id
              AND q.lease_token IS NOT DISTINCT FROM job.lease_token
            FOR UPDATE SKIP LOCKED) locked
        WHERE EXISTS (SELECT FROM darkroom.job_queue seen WHERE seen.ctid = locked.at)),
    reached AS (
        UPDATE public.mcp_generation_jobs j
        SET "errorMessage" = NULL,
            "updatedAt" = darkroom.utc_now()
        FROM held WHERE held.kind = 'checkpoint' AND j.ctid = held.row_at AND j.tableoid = held.row_in
        RETURNING held.n, j.status AS label, CASE WHEN held.notified_at < now() - interval '1 second'
                  THEN darkroom.notify_job(held.job_type, held.job_id, 'PROCESSING', held.following) END),
    queue_reached AS (
        UPDATE darkroom.job_queue q
        SET stage = held.following, deadline_at = now() + make_interval(secs => held.deadline_s), last_error = NULL,
            suspect_of = NULL,
            notified_at = CASE WHEN held.notified_at < now() - interval '1 second' THEN now() ELSE q.notified_at END
        FROM held JOIN reached USING (n) WHERE q.ctid = held.queue_at),
    written AS (
        SELECT n, label::text FROM reached),
    history AS (
        INSERT INTO darkroom.stage_runs
            (job_type, job_id, event, stage, attempt, worker_id, duration_ms, output, error)
        SELECT held.job_type, held.job_id, h.row ->> 0, h.row ->> 1, held.attempts, held.worker_id,
               (h.row ->> 2)::integer, nullif(h.row -> 3, 'null'), h.row ->> 4
        FROM written JOIN held USING (n) CROSS JOIN LATERAL jsonb_array_elements(held.history) h (row)
        -- If the statement is repeated after a lost answer, the claim still holds, and no stage must finish twice
        WHERE (held.kind <> 'checkpoint' OR held.stage = held.began_at)
          AND (held.kind <> 'completed' OR written.label = 'COMPLETED'))
SELECT n, label FROM (SELECT n, label FROM written ORDER BY n) every

-- generations: failed of one claim
WITH writes AS MATERIALIZED (
        SELECT w.*
        FROM jsonb_to_recordset($1) w (
            n integer, job_id text, queue_id bigint, lease_token uuid, kind text, began_at text, following text,
            shown text, deadline_s float8, delay_s float8, is_suspect boolean, reason text, columns jsonb,
            history jsonb, kept jsonb, artifact jsonb)),
    job AS MATERIALIZED (
        SELECT w.*, locked.at AS row_at, locked.relation AS row_in
        FROM writes w
        CROSS JOIN LATERAL (
            SELECT j.ctid AS at, j.tableoid AS relation FROM public.mcp_generation_jobs j
            WHERE j.id = w.job_id FOR NO KEY UPDATE SKIP LOCKED) locked
        WHERE EXISTS (
            SELECT FROM public.mcp_generation_jobs seen WHERE seen.ctid = locked.at AND seen.tableoid = locked.relation)),
    held AS MATERIALIZED (
        SELECT job.*, locked.at AS queue_at, locked.job_type, locked.user_id, locked.stage, locked.attempts,
               locked.status AS queue_status, locked.worker_id, locked.notified_at
        FROM job
        CROSS JOIN LATERAL (
            SELECT q.ctid AS at, q.job_type, q.user_id, q.stage, q.attempts, q.status, q.worker_id, q.notified_at
            FROM darkroom.job_queue q
            WHERE q.id = job.queue_id AND q.job_id = job.job_id
              AND q.lease_token IS NOT DISTINCT FROM job.lease_token
            FOR UPDATE SKIP LOCKED) locked
        WHERE EXISTS (SELECT FROM darkroom.job_queue seen WHERE seen.ctid = locked.at)),
    failed AS (
        UPDATE public.mcp_generation_jobs j
        SET status = darkroom.label_of_failure(held.job_type, held.job_id, j."userId", held.reason)::public."JobStatus",
            "errorMessage" = CASE WHEN held.kind = 'released' THEN j."errorMessage" ELSE held.reason END,
            "updatedAt" = darkroom.utc_now()
        FROM held WHERE held.kind = 'failed' AND j.ctid = held.row_at AND j.tableoid = held.row_in
        RETURNING held.n, j.status AS label),
    written AS (
        SELECT n, label::text FROM failed),
    history AS (
        INSERT INTO darkroom.stage_runs
            (job_type, job_id, event, stage, attempt, worker_id, duration_ms, output, error)
        SELECT held.job_type, held.job_id, h.row ->> 0, h.row ->> 1, held.attempts, held.worker_id,
               (h.row ->> 2)::integer, nullif(h.row -> 3, 'null'), h.row ->> 4
        FROM written JOIN held USING (n) CROSS JOIN LATERAL jsonb_array_elements(held.history) h (row)
        -- If the statement is repeated after a lost answer, the claim still holds, and no stage must finish twice
        WHERE (held.kind <> 'checkpoint' OR held.stage = held.began_at)
          AND (held.kind <> 'completed' OR written.label = 'COMPLETED'))
SELECT n, label FROM (SELECT n, label FROM written ORDER BY n) every

-- generations: all kinds of writes of a group
WITH writes AS MATERIALIZED (
        SELECT w.*
        FROM (SELECT set_config('lock_timeout', '100', true)) brief CROSS JOIN jsonb_to_recordset($1) w (
            n integer, job_id text, queue_id bigint, lease_token uuid, kind text, began_at text, following text,
            shown text, deadline_s float8, delay_s float8, is_suspect boolean, reason text, columns jsonb,
            history jsonb, kept jsonb, artifact jsonb)),
    job AS MATERIALIZED (
        SELECT w.*, locked.at AS row_at, locked.relation AS row_in,
               jsonb_populate_record(locked.whole, w.columns) AS filled
        FROM writes w
        CROSS JOIN LATERAL (
            SELECT j.ctid AS at, j.tableoid AS relation, j AS whole FROM public.mcp_generation_jobs j
            WHERE j.id = w.job_id FOR NO KEY UPDATE SKIP LOCKED) locked
        WHERE EXISTS (
            SELECT FROM public.mcp_generation_jobs seen WHERE seen.ctid = locked.at AND seen.tableoid = locked.relation)),
    held AS MATERIALIZED (
        SELECT job.*, locked.at AS queue_at, locked.job_type, locked.user_id, locked.stage, locked.attempts,
               locked.status AS queue_status, locked.worker_id, locked.notified_at
        FROM job
        CROSS JOIN LATERAL (
            SELECT q.ctid AS at, q.job_type, q.user_id, q.stage, q.attempts, q.status, q.worker_id, q.notified_at
            FROM darkroom.job_queue q
            WHERE q.id = job.queue_id AND q.job_id = job.job_id
              AND q.lease_token IS NOT DISTINCT FROM job.lease_token
            FOR UPDATE SKIP LOCKED) locked
        WHERE EXISTS (SELECT FROM darkroom.job_queue seen WHERE seen.ctid = locked.at)),
    reached AS (
        UPDATE public.mcp_generation_jobs j
        SET "errorMessage" = NULL,
            "updatedAt" = darkroom.utc_now()
        FROM held WHERE held.kind = 'checkpoint' AND j.ctid = held.row_at AND j.tableoid = held.row_in
        RETURNING held.n, j.status AS label, CASE WHEN held.notified_at < now() - interval '1 second'
                  THEN darkroom.notify_job(held.job_type, held.job_id, 'PROCESSING', held.following) END),
    queue_reached AS (
        UPDATE darkroom.job_queue q
        SET stage = held.following, deadline_at = now() + make_interval(secs => held.deadline_s), last_error = NULL,
            suspect_of = NULL,
            notified_at = CASE WHEN held.notified_at < now() - interval '1 second' THEN now() ELSE q.notified_at END
        FROM held JOIN reached USING (n) WHERE q.ctid = held.queue_at),
    completed AS (
        UPDATE public.mcp_generation_jobs j
        SET status = 'COMPLETED',
            "errorMessage" = NULL,
            "processingCompletedAt" = darkroom.utc_now(),
            "outputImageUrl" = CASE WHEN held.columns ? 'outputImageUrl' THEN (held.filled)."outputImageUrl" ELSE j."outputImageUrl" END,
            "outputImageR2Key" = CASE WHEN held.columns ? 'outputImageR2Key' THEN (held.filled)."outputImageR2Key" ELSE j."outputImageR2Key" END,
            "outputWidth" = CASE WHEN held.columns ? 'outputWidth' THEN (held.filled)."outputWidth" ELSE j."outputWidth" END,
            "outputHeight" = CASE WHEN held.columns ? 'outputHeight' THEN (held.filled)."outputHeight" ELSE j."outputHeight" END,
            "outputSizeBytes" = CASE WHEN held.columns ? 'outputSizeBytes' THEN (held.filled)."outputSizeBytes" ELSE j."outputSizeBytes" END,
            "geminiModel" = CASE WHEN held.columns ? 'geminiModel' THEN (held.filled)."geminiModel" ELSE j."geminiModel" END,
            "updatedAt" = darkroom.utc_now()
        FROM held WHERE held.kind = 'completed' AND j.ctid = held.row_at AND j.tableoid = held.row_in
        RETURNING held.n, j.status AS label),
    waits AS (
        UPDATE public.mcp_generation_jobs j
        SET status = (CASE held.kind WHEN 'retried' THEN 'PENDING' ELSE 'PENDING' END)::public."JobStatus",
            "errorMessage" = CASE WHEN held.kind = 'released' THEN j."errorMessage" ELSE held.reason END,
            "updatedAt" = darkroom.utc_now()
        FROM held WHERE held.kind IN ('retried', 'snoozed', 'released') AND j.ctid = held.row_at AND j.tableoid = held.row_in
        RETURNING held.n, j.status AS label),
    queue_waits AS (
        UPDATE darkroom.job_queue q
        SET worker_id = NULL, lease_token = NULL, deadline_at = NULL, ready = held.delay_s <= 0,
            status = CASE WHEN held.delay_s > 0 THEN 'retrying' ELSE 'pending' END,
            scheduled_at = now() + make_interval(secs => held.delay_s),
            last_error = CASE WHEN held.kind = 'released' THEN q.last_error ELSE held.reason END,
            attempts = q.attempts - CASE WHEN held.kind = 'retried' THEN 0 ELSE 1 END,
            suspect_of = CASE WHEN held.is_suspect THEN coalesce(q.suspect_of, q.worker_id) ELSE q.suspect_of END
        FROM held JOIN waits USING (n) WHERE q.ctid = held.queue_at),
    written AS (
        SELECT n, label::text FROM reached
        UNION ALL SELECT n, label::text FROM completed
        UNION ALL SELECT n, label::text FROM waits
        UNION ALL SELECT n, NULL AS label FROM held WHERE held.kind = 'artifact'),
    history AS (
        INSERT INTO darkroom.stage_runs
            (job_type, job_id, event, stage, attempt, worker_id, duration_ms, output, error)
        SELECT held.job_type, held.job_id, h.row ->> 0, h.row ->> 1, held.attempts, held.worker_id,
               (h.row ->> 2)::integer, nullif(h.row -> 3, 'null'), h.row ->> 4
        FROM written JOIN held USING (n) CROSS JOIN LATERAL jsonb_array_elements(held.history) h (row)
        -- If the statement is repeated after a lost answer, the claim still holds, and no stage must finish twice
        WHERE (held.kind <> 'checkpoint' OR held.stage = held.began_at)
          AND (held.kind <> 'completed' OR written.label = 'COMPLETED')),
    kept AS (
        INSERT INTO darkroom.checkpoints (job_type, job_id, stage, output)
        SELECT held.job_type, held.job_id, k.stage, k.output
        FROM written JOIN held USING (n) CROSS JOIN LATERAL jsonb_to_recordset(held.kept) k (stage text, output jsonb)
        -- a statement that is repeated after a lost answer writes the same row again
        ON CONFLICT (job_type, job_id, stage) DO UPDATE SET output = excluded.output, at = now()),
    artifacts AS (
        INSERT INTO darkroom.artifacts
            (job_type, job_id, user_id, input_hash, key, sha256, bytes, width, height, model, temperature, treatments)
        SELECT held.job_type, held.job_id, held.user_id, a.input_hash, a.key, a.sha256, a.size_bytes, a.width_px,
               a.height_px, a.model, a.temperature, a.treatments
        FROM held CROSS JOIN LATERAL jsonb_to_record(held.artifact) a (
            input_hash text, key text, sha256 text, size_bytes bigint, width_px integer, height_px integer, model text,
            temperature float8, treatments text[])
        WHERE held.artifact IS NOT NULL
        ON CONFLICT (job_type, job_id) DO UPDATE
        SET input_hash = excluded.input_hash, key = excluded.key, sha256 = excluded.sha256, bytes = excluded.bytes,
            width = excluded.width, height = excluded.height, model = excluded.model,
            temperature = excluded.temperature, treatments = excluded.treatments, created_at = now(),
            user_id = excluded.user_id)
SELECT n, label, set_config('lock_timeout', '800', true) FROM (SELECT n, label FROM written ORDER BY n) every

-- generations: carry what stages left to another job
UPDATE public.mcp_generation_jobs j SET "updatedAt" = darkroom.utc_now()
FROM public.mcp_generation_jobs o WHERE j.id = $2 AND o.id = $1 AND $3::text IS NOT NULL

-- generations: begin at another stage
WITH job AS MATERIALIZED (SELECT j.id FROM public.mcp_generation_jobs j WHERE j.id = $1 FOR NO KEY UPDATE),
    held AS MATERIALIZED (
        SELECT q.id, q.job_id FROM darkroom.job_queue q JOIN job ON job.id = q.job_id
        WHERE q.id = $2 AND q.lease_token = $3 FOR UPDATE OF q),
    queue AS (
        UPDATE darkroom.job_queue q
        SET stage = $4::text, deadline_at = now() + make_interval(secs => $5::float8)
        FROM held WHERE q.id = held.id)
UPDATE public.mcp_generation_jobs j SET "updatedAt" = darkroom.utc_now()
FROM held WHERE j.id = held.job_id RETURNING held.id

-- generations: inputs
SELECT j.tier::text, j.type = 'MODIFY' AS changes_input, j.prompt, j."inputImageR2Key", j."inputImageUrl",
       q.payload ->> 'aspect' AS aspect, q.payload ->> 'model' AS model,
       coalesce((q.payload ->> 'is_redone')::boolean, false) AS is_redone, k.fault AS api_key_fault
FROM public.mcp_generation_jobs j
CROSS JOIN LATERAL darkroom.api_key_fault(j."userId", j."apiKeyId") k
LEFT JOIN darkroom.job_queue q ON q.id = $2
WHERE j.id = $1

-- enhancements: record the pipeline
WITH job AS MATERIALIZED (SELECT j.id FROM public.image_enhancement_jobs j WHERE j.id = $1 FOR NO KEY UPDATE),
    held AS MATERIALIZED (
        SELECT q.job_id FROM darkroom.job_queue q JOIN job ON job.id = q.job_id
        WHERE q.id = $2 AND q.lease_token = $3 FOR UPDATE OF q)
UPDATE public.image_enhancement_jobs j
SET "pipelineId" = coalesce(j."pipelineId", $4), "updatedAt" = darkroom.utc_now()
FROM held WHERE j.id = held.job_id RETURNING held.job_id

-- objects that no row names
WITH page AS MATERIALIZED (
    SELECT o.* FROM darkroom.objects o WHERE o.key > $1 AND o.written_at <= $2 ORDER BY o.key LIMIT $3)
SELECT p.key, p.sha256, p.size_bytes, p.written_at, 
CASE WHEN p.job_type IN ('enhance', 'blend') THEN EXISTS (
         SELECT FROM public.image_enhancement_jobs j WHERE j.id = p.job_id
         AND (j."enhancedR2Key" = p.key OR j.status IN ('PENDING', 'PROCESSING')))
     WHEN p.job_type IN ('generate', 'modify') THEN EXISTS (
         SELECT FROM public.mcp_generation_jobs j WHERE j.id = p.job_id
         AND (j."outputImageR2Key" = p.key OR j.status IN ('PENDING', 'PROCESSING')))
     WHEN p.job_type = 'original' THEN EXISTS (
         SELECT FROM public.enhanced_images i WHERE i.id = p.job_id AND i."originalR2Key" = p.key)
     WHEN p.job_type IN ('input', 'probe') THEN false
     WHEN strpos(p.job_type, '.') > 0 THEN true -- of an application that isn't drained any more
     ELSE darkroom.unknown_type(p.job_type)::boolean END
 AS is_named FROM page p ORDER BY p.key

-- artifacts that no row names
WITH page AS MATERIALIZED (
    SELECT a.job_type, a.job_id, a.key, a.sha256, a.bytes AS size_bytes, a.created_at AS written_at
    FROM darkroom.artifacts a
    WHERE (a.job_type, a.job_id) > ($1, $2) AND a.created_at <= $3
      AND NOT EXISTS (SELECT FROM darkroom.objects o WHERE o.key = a.key)
      AND NOT EXISTS (SELECT FROM darkroom.orphans r WHERE r.key = a.key AND r.removed_at IS NOT NULL)
    ORDER BY a.job_type, a.job_id LIMIT $4)
SELECT p.job_type, p.job_id, p.key, p.sha256, p.size_bytes, p.written_at, 
CASE WHEN p.job_type IN ('enhance', 'blend') THEN EXISTS (
         SELECT FROM public.image_enhancement_jobs j WHERE j.id = p.job_id
         AND (j."enhancedR2Key" = p.key OR j.status IN ('PENDING', 'PROCESSING')))
     WHEN p.job_type IN ('generate', 'modify') THEN EXISTS (
         SELECT FROM public.mcp_generation_jobs j WHERE j.id = p.job_id
         AND (j."outputImageR2Key" = p.key OR j.status IN ('PENDING', 'PROCESSING')))
     WHEN p.job_type = 'original' THEN EXISTS (
         SELECT FROM public.enhanced_images i WHERE i.id = p.job_id AND i."originalR2Key" = p.key)
     WHEN p.job_type IN ('input', 'probe') THEN false
     WHEN strpos(p.job_type, '.') > 0 THEN true -- of an application that isn't drained any more
     ELSE darkroom.unknown_type(p.job_type)::boolean END
 AS is_named
FROM page p ORDER BY p.job_type, p.job_id
