-- The functions for producers in any language. Each runs with the migrating role's rights and checks its arguments.

-- Submit a picture to be enhanced, or two to be blended, and return the job's id; a repeated idempotency key returns
-- the id of the first job. A job without a tier gets its pipeline's, else its album's default. A pipeline with
-- visibility LINK needs its share token. That the token was shown is recorded in darkroom.pipeline_links, because the
-- job's row has no column for it.
CREATE OR REPLACE FUNCTION darkroom.submit_enhancement(user_id text, image_id text, tier text,
                                                       pipeline_id text DEFAULT NULL,
                                                       source_image_id text DEFAULT NULL,
                                                       idempotency_key text DEFAULT NULL,
                                                       pipeline_token text DEFAULT NULL,
                                                       run_at timestamptz DEFAULT NULL)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off AS $$
#variable_conflict use_variable
DECLARE
    new_job text := darkroom.new_id();
    found_job text;
    job_tier text;
    album_pipeline text;
    said_before text;
    written record;
BEGIN
    IF run_at IS NOT NULL THEN
        PERFORM darkroom.check_run_at(run_at);
    END IF;
    found_job := darkroom.reserve_submission(
        user_id, idempotency_key, CASE WHEN source_image_id IS NULL THEN 'enhance' ELSE 'blend' END, new_job,
        jsonb_build_object('image_id', image_id, 'tier', tier, 'pipeline_id', pipeline_id,
                           'source_image_id', source_image_id,
                           'run_at', CASE WHEN run_at IS NOT NULL THEN darkroom.time_argument(run_at) END));
    IF found_job <> new_job THEN
        RETURN found_job;
    END IF;
    PERFORM darkroom.check_picture(user_id, image_id);
    IF source_image_id IS NOT NULL THEN
        PERFORM darkroom.check_picture(user_id, source_image_id);
    END IF;
    IF pipeline_id IS NOT NULL THEN
        PERFORM darkroom.check_pipeline(user_id, pipeline_id);
        PERFORM darkroom.check_link(user_id, pipeline_id, pipeline_token);
        PERFORM darkroom.check_references(pipeline_id);
    ELSE
        album_pipeline := darkroom.album_pipeline(user_id, image_id);
        IF album_pipeline IS NOT NULL THEN
            PERFORM darkroom.check_pipeline(user_id, album_pipeline);
            PERFORM darkroom.check_references(album_pipeline);
            IF darkroom.link_pipelines() <> 'trust' THEN
                PERFORM darkroom.check_link(user_id, album_pipeline, pipeline_token);
            END IF;
        END IF;
    END IF;
    job_tier := coalesce(tier, darkroom.default_tier(user_id, image_id, pipeline_id));
    PERFORM darkroom.check_tier(job_tier);
    IF run_at IS NOT NULL THEN
        said_before := darkroom.describe_entering(run_at);
    END IF;
    INSERT INTO public.image_enhancement_jobs
        (id, "imageId", "userId", tier, "tokensCost", status, "createdAt", "updatedAt", "pipelineId", "sourceImageId",
         "isBlend")
    VALUES (new_job, image_id, user_id, job_tier::public."EnhancementTier", darkroom.price(job_tier), 'PENDING',
            darkroom.utc_now(), darkroom.utc_now(), coalesce(pipeline_id, album_pipeline), source_image_id,
            source_image_id IS NOT NULL)
    RETURNING id::text, status::text INTO written;
    IF run_at IS NOT NULL THEN
        PERFORM set_config('darkroom.entering', said_before, true);
    END IF;
    PERFORM darkroom.require_entered(new_job, written.id, written.status);
    IF pipeline_token IS NOT NULL THEN
        INSERT INTO darkroom.pipeline_links (job_id, pipeline_id)
        SELECT new_job, p.id FROM public.enhancement_pipelines p
        WHERE p.id = coalesce(pipeline_id, album_pipeline) AND p.visibility = 'LINK';
    END IF;
    RETURN new_job;
END $$;

-- Submit a job that makes a picture from words (GENERATE) or changes one by words (MODIFY), and return the job's id; a
-- repeated idempotency key returns the id of the first job. What a worker would refuse without looking at a picture is
-- refused here, before it is charged. The job doesn't begin before run_at.
CREATE OR REPLACE FUNCTION darkroom.submit_generation(user_id text, type text, tier text, prompt text,
                                                      input_key text DEFAULT NULL, input_url text DEFAULT NULL,
                                                      api_key_id text DEFAULT NULL,
                                                      idempotency_key text DEFAULT NULL,
                                                      run_at timestamptz DEFAULT NULL)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off AS $$
#variable_conflict use_variable
DECLARE
    new_job text := darkroom.new_id();
    found_job text;
    said_before text;
    written record;
BEGIN
    IF run_at IS NOT NULL THEN
        PERFORM darkroom.check_run_at(run_at);
    END IF;
    input_key := nullif(input_key, '');
    input_url := nullif(input_url, '');
    -- a prompt may be private and a URL may be signed, so only their hashes are kept, to compare a repeated submission
    found_job := darkroom.reserve_submission(
        user_id, idempotency_key, lower(type), new_job,
        jsonb_build_object('type', type, 'tier', tier, 'prompt', darkroom.digest(prompt), 'input_key', input_key,
                           'input_url', darkroom.digest(input_url), 'api_key_id', api_key_id,
                           'run_at', CASE WHEN run_at IS NOT NULL THEN darkroom.time_argument(run_at) END));
    IF found_job <> new_job THEN
        RETURN found_job;
    END IF;
    PERFORM darkroom.check_tier(tier);
    PERFORM darkroom.check_generation(type, prompt, input_key, input_url);
    IF type = 'MODIFY' AND input_key IS NOT NULL THEN
        PERFORM darkroom.check_input_key(user_id, input_key);
    END IF;
    IF api_key_id IS NOT NULL THEN
        PERFORM darkroom.check_api_key(user_id, api_key_id);
    END IF;
    IF run_at IS NOT NULL THEN
        said_before := darkroom.describe_entering(run_at);
    END IF;
    INSERT INTO public.mcp_generation_jobs
        (id, "userId", "apiKeyId", type, tier, "tokensCost", status, prompt, "inputImageUrl", "inputImageR2Key",
         "createdAt", "updatedAt")
    VALUES (new_job, user_id, api_key_id, type::public."McpJobType", tier::public."EnhancementTier",
            darkroom.price(tier), 'PENDING', prompt, input_url, input_key, darkroom.utc_now(), darkroom.utc_now())
    RETURNING id::text, status::text INTO written;
    IF run_at IS NOT NULL THEN
        PERFORM set_config('darkroom.entering', said_before, true);
    END IF;
    PERFORM darkroom.require_entered(new_job, written.id, written.status);
    RETURN new_job;
END $$;

-- Say when the jobs begin that the caller's next INSERT inserts, and of which batch they are; without a time they begin as
-- in a transaction of which nothing is said. Return what the caller sets `darkroom.entering` to directly after that INSERT.
-- It is a setting of the transaction, because job rows have no column for either, and because a row of the queue that was
-- just inserted can't be looked up without reading what unrelated serializable transactions write. The depth of triggers
-- tells that INSERT from those of the application's triggers, which run before it ends.
CREATE OR REPLACE FUNCTION darkroom.describe_entering(run_at timestamptz, batch_id uuid DEFAULT NULL) RETURNS text
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    said_before text := coalesce(current_setting('darkroom.entering', true), '');
BEGIN
    PERFORM set_config('darkroom.entering', jsonb_build_object(
        'depth', pg_trigger_depth() + 1, 'run_at', run_at, 'batch_id', batch_id)::text, true);
    RETURN said_before;
END $$;

-- Raise an error if a trigger or a rule of the application dropped or changed the row of a submission: its producer
-- would wait for a job that doesn't exist.
CREATE OR REPLACE FUNCTION darkroom.require_entered(job_id text, written_id text, written_status text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF written_id IS DISTINCT FROM job_id OR written_status <> 'PENDING' THEN
        PERFORM darkroom.refuse_change(job_id, 'PENDING');
    END IF;
END $$;

-- Return the job id for an idempotency key: the given one, or that of the first submission with the key. Waits for a
-- first submission that isn't committed yet. Raises an error if the key's first submission had other arguments, which
-- is a mistake of the producer.
CREATE OR REPLACE FUNCTION darkroom.reserve_submission(user_id text, idempotency_key text, job_type text, job_id text,
                                                       arguments jsonb) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    first darkroom.submissions;
    differing text;
BEGIN
    PERFORM 1 FROM public.users u WHERE u.id = user_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'user % not found', user_id USING ERRCODE = 'P0002';
    END IF;
    IF idempotency_key IS NULL THEN
        RETURN job_id;
    END IF;
    INSERT INTO darkroom.submissions (user_id, idempotency_key, job_type, job_id, arguments)
    VALUES (user_id, idempotency_key, job_type, job_id, arguments) ON CONFLICT DO NOTHING;
    IF FOUND THEN
        -- not read back, because a serializable transaction would also lock the page of other users' keys
        RETURN job_id;
    END IF;
    SELECT s.* INTO first FROM darkroom.submissions s
    WHERE s.user_id = reserve_submission.user_id AND s.idempotency_key = reserve_submission.idempotency_key;
    differing := darkroom.differing_arguments(first, job_type, arguments);
    IF differing IS NOT NULL THEN
        RAISE EXCEPTION 'idempotency key % was used for % % with another %', idempotency_key,
            CASE first.job_type WHEN 'album' THEN 'batch' ELSE 'job' END, first.job_id, differing
            USING ERRCODE = '22023';
    END IF;
    RETURN first.job_id;
END $$;

-- Raise an error for a picture that doesn't exist, or is another user's and not public.
CREATE OR REPLACE FUNCTION darkroom.check_picture(user_id text, image_id text) RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    picture record;
BEGIN
    SELECT (i."userId" = user_id OR i."isPublic")::boolean AS may_use, darkroom.key_fault(i."originalR2Key") AS fault
    INTO picture
    FROM public.enhanced_images i WHERE i.id = image_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'picture % not found', image_id USING ERRCODE = 'P0002';
    ELSIF NOT picture.may_use THEN
        RAISE EXCEPTION 'picture % is not yours', image_id USING ERRCODE = '42501';
    ELSIF picture.fault IS NOT NULL THEN
        RAISE EXCEPTION 'picture % can''t be read: its originalR2Key is no key: %', image_id, picture.fault
            USING ERRCODE = '22023';
    END IF;
END $$;

-- Raise an error for a pipeline that doesn't exist, is another user's and private, or breaks a rule.
CREATE OR REPLACE FUNCTION darkroom.check_pipeline(user_id text, pipeline_id text) RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- of fixed types, because a cached plan with the columns' types would fail in this session after a change of them
    pipeline record;
    fault text;
BEGIN
    SELECT p.visibility::text AS visibility, p."userId"::text AS owner, p."analysisConfig"::jsonb AS analysis,
           p."autoCropConfig"::jsonb AS crop, p."promptConfig"::jsonb AS prompt, p."generationConfig"::jsonb AS generation
    INTO pipeline FROM public.enhancement_pipelines p WHERE p.id = pipeline_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'pipeline % not found', pipeline_id USING ERRCODE = 'P0002';
    ELSIF pipeline.visibility = 'PRIVATE' AND pipeline.owner <> user_id THEN
        RAISE EXCEPTION 'pipeline % is not yours', pipeline_id USING ERRCODE = '42501';
    END IF;
    fault := darkroom.pipeline_fault(jsonb_build_object(
        'analysisConfig', pipeline.analysis, 'autoCropConfig', pipeline.crop,
        'promptConfig', pipeline.prompt, 'generationConfig', pipeline.generation));
    fault := coalesce(fault, darkroom.pipeline_model_fault(pipeline.analysis, pipeline.generation));
    IF fault IS NOT NULL THEN
        RAISE EXCEPTION 'pipeline % is invalid: %', pipeline_id, fault USING ERRCODE = '22023';
    END IF;
END $$;
