-- Small functions that every other one leans on. Their names are bound when they are created, so no search_path can
-- bend them, and without one of their own PostgreSQL can inline them.
--
-- What reads the application's columns or types has a body in a string: PostgreSQL records no dependency for it, so
-- that the application's own migrations aren't refused because of us. Its names are bound when it runs, so it has a
-- search_path of its own, or, where it is inlined, names its operators' schema or is called by functions of ours alone.

-- The time now in UTC, without a zone, as the application's columns hold it.
CREATE OR REPLACE FUNCTION darkroom.utc_now() RETURNS timestamp LANGUAGE sql STABLE
RETURN now() AT TIME ZONE 'utc';

-- An id in the shape of the application's own (cuid: 'c' and 24 characters of [0-9a-z]).
CREATE OR REPLACE FUNCTION darkroom.new_id() RETURNS text LANGUAGE sql VOLATILE
RETURN 'c' || left(replace(gen_random_uuid()::text, '-', ''), 24);

-- The value of a key of darkroom.settings; NULL where it isn't recorded.
CREATE OR REPLACE FUNCTION darkroom.setting(name text) RETURNS jsonb LANGUAGE sql STABLE
RETURN (SELECT s.value FROM darkroom.settings s WHERE s.key = name);

-- Who moves tokens: 'managed' (Darkroom charges and refunds), 'producer' (the application charges, Darkroom refunds the
-- failures that it decides) or 'external' (Darkroom moves none). Not recorded yet means managed, as on tables that we
-- made.
CREATE OR REPLACE FUNCTION darkroom.money_mode() RETURNS text LANGUAGE sql STABLE
RETURN coalesce(darkroom.setting('mode') #>> '{}', 'managed');

-- What a job of a tier costs in tokens; NULL where there is no such tier.
CREATE OR REPLACE FUNCTION darkroom.price(tier text) RETURNS integer LANGUAGE sql STABLE
RETURN (coalesce(darkroom.setting('prices'), {{prices}}) ->> tier)::integer;

-- Whether a job of this status is over. The status is given as text, or as the application's enum: to name that type
-- here would keep the application from changing it.
CREATE OR REPLACE FUNCTION darkroom.is_terminal(status anyelement) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT status::text OPERATOR(pg_catalog.=) ANY ('{COMPLETED,FAILED,REFUNDED,CANCELLED}'::text[])
$$;

-- Whether a message can be queued. A queue that is full refuses the commit, so near its end messages are left out: who
-- waits for one looks by itself, too. Asking also lets PostgreSQL drop what every listener has read.
CREATE OR REPLACE FUNCTION darkroom.may_notify() RETURNS boolean LANGUAGE sql VOLATILE
RETURN pg_notification_queue_usage() < 0.75;

-- Refuse a change that a trigger or a rule of the application's has silently undone: a claim or an end that isn't in the
-- row didn't happen.
CREATE OR REPLACE FUNCTION darkroom.refuse_change(job_id text, status text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'job % did not become %: a trigger or rule kept its row as it was', left(job_id, 200), status
        USING ERRCODE = '27000';
END $$;

-- One message on channel darkroom_jobs, delivered if and when the transaction commits. PostgreSQL refuses a payload of
-- 8,000 bytes or more; an id that is too long for one is left out, because half an id would name another job. Whoever
-- calls it for thousands has custom plans, which would mean a plan for each message.
CREATE OR REPLACE FUNCTION darkroom.notify_job(job_type text, job_id text, status text, stage text) RETURNS void
LANGUAGE sql VOLATILE SET plan_cache_mode = auto
RETURN (SELECT pg_notify('darkroom_jobs', CASE WHEN octet_length(m.payload) < 8000 THEN m.payload
                                               ELSE (m.message::jsonb || '{"id": null}')::text END)
        FROM (SELECT b.message, b.message::text AS payload
              FROM (SELECT json_build_object('id', job_id, 'type', job_type, 'status', status, 'stage', stage)
                        AS message) b) m
        WHERE darkroom.may_notify());
