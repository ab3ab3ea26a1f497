-- Keys of users, which the queue has: ids are the applications' own, and two applications may have users with the same id.
-- models/queue/user_keys.py makes and reads the same keys.

-- Return the key of the user of a job: the id for users of `pictures`, and APPLICATION/ID for all others.
CREATE OR REPLACE FUNCTION darkroom.user_key(job_type text, user_id text) RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE WHEN strpos(job_type, '.') > 0 THEN split_part(job_type, '.', 1) || '/' ELSE '' END || user_id;

-- Return the id that the application of a job's type gave to the user with a key.
CREATE OR REPLACE FUNCTION darkroom.user_of_key(job_type text, key text) RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE WHEN starts_with(key, darkroom.user_key(job_type, ''))
       THEN substr(key, length(darkroom.user_key(job_type, '')) + 1) ELSE key END;

-- Return jobs that enter with their users' keys instead of the ids.
CREATE OR REPLACE FUNCTION darkroom.with_user_keys(jobs darkroom.entering[]) RETURNS darkroom.entering[]
LANGUAGE sql IMMUTABLE
RETURN ARRAY(SELECT ROW(j.job_type, j.job_id, darkroom.user_key(j.job_type, j.user_id), j.tier, j.cost, j.stage,
                        j.max_attempts, j.created_at)::darkroom.entering
             FROM unnest(jobs) WITH ORDINALITY j ORDER BY j.ordinality);

-- Let the queue follow users whose ids changed: their jobs of some types, and turns and freed slots in the applications of
-- these types. What was kept of earlier users with the new ids, who are deleted, is dropped. Two users may have exchanged
-- their ids, so turns are taken out before any is written. darkroom.follow_user does the same for users of `pictures`.
CREATE OR REPLACE FUNCTION darkroom.follow_users(types text[], ids_before text[], ids text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp {{kept plans}} AS $$
DECLARE
    befores text[];
    afters text[];
    turns darkroom.turns[];
BEGIN
    SELECT array_agg(k.prefix || m.before ORDER BY k.prefix, m.ordinality),
           array_agg(k.prefix || m.after ORDER BY k.prefix, m.ordinality)
    INTO befores, afters
    FROM (SELECT DISTINCT darkroom.user_key(t.type, '') AS prefix FROM unnest(types) t (type)) k
    CROSS JOIN unnest(ids_before, ids) WITH ORDINALITY m (before, after);
    UPDATE darkroom.job_queue q SET user_id = m.after FROM unnest(befores, afters) m (before, after)
    WHERE q.user_id = ANY (befores) AND q.user_id = m.before AND q.job_type = ANY (types);
    UPDATE darkroom.freed_slots f SET user_id = m.after FROM unnest(befores, afters) m (before, after)
    WHERE f.user_id = ANY (befores) AND f.user_id = m.before;
    WITH gone AS (DELETE FROM darkroom.turns t WHERE t.user_id = ANY (befores || afters) RETURNING t)
    SELECT array_agg(g.t) INTO turns FROM gone g;
    INSERT INTO darkroom.turns (queue, user_id, finish)
    SELECT t.queue, m.after, t.finish FROM unnest(turns) t JOIN unnest(befores, afters) m (before, after) ON m.before = t.user_id
    ORDER BY 1, 2 ON CONFLICT DO NOTHING;
END $$;
