-- Small functions that all others use. Names in them are resolved when they are created, so that no search_path can
-- redirect them, and without a search_path of their own PostgreSQL can inline them.
--
-- Functions that read the application's columns or types have a body in a string: PostgreSQL records no dependency for
-- it, so that the application's migrations aren't refused because of us. Names in such a body are resolved when it
-- runs, so these functions have a search_path of their own, or, where they are inlined, name their operators' schema or
-- are only called by our functions.

-- Return the time now in UTC, without a zone, as the application's columns hold it.
CREATE OR REPLACE FUNCTION darkroom.utc_now() RETURNS timestamp LANGUAGE sql STABLE
RETURN now() AT TIME ZONE 'utc';

-- Return a new id in the form of the application's own (cuid: 'c' and 24 characters of [0-9a-z]).
CREATE OR REPLACE FUNCTION darkroom.new_id() RETURNS text LANGUAGE sql VOLATILE
RETURN 'c' || left(replace(gen_random_uuid()::text, '-', ''), 24);

-- Return the value of a key of darkroom.settings; NULL if it isn't recorded.
CREATE OR REPLACE FUNCTION darkroom.setting(name text) RETURNS jsonb LANGUAGE sql STABLE
RETURN (SELECT s.value FROM darkroom.settings s WHERE s.key = name);

-- Return the mode of money: 'managed' (Darkroom charges and refunds), 'producer' (the application charges, Darkroom
-- refunds the failures that it decides) or 'external' (Darkroom moves no tokens). If none is recorded, it is managed,
-- as on tables that Darkroom made.
CREATE OR REPLACE FUNCTION darkroom.money_mode() RETURNS text LANGUAGE sql STABLE
RETURN coalesce(darkroom.setting('mode') #>> '{}', 'managed');

-- Return what a job of a tier costs in tokens; NULL if there is no such tier.
CREATE OR REPLACE FUNCTION darkroom.price(tier text) RETURNS integer LANGUAGE sql STABLE
RETURN (coalesce(darkroom.setting('prices'), '{"FREE": 0, "TIER_1K": 2, "TIER_2K": 5, "TIER_4K": 10}') ->> tier)::integer;

-- Whether a status is terminal. It is given as text, or as the application's enum: naming that type here would keep the
-- application from changing it.
CREATE OR REPLACE FUNCTION darkroom.is_terminal(status anyelement) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT status::text OPERATOR(pg_catalog.=) ANY ('{COMPLETED,FAILED,REFUNDED,CANCELLED}'::text[])
$$;

-- Whether a notification can be queued. A full queue refuses the commit, so notifications are left out when it is
-- nearly full; every process that waits for one also looks by itself. Calling this also lets PostgreSQL remove what all
-- listeners have read.
CREATE OR REPLACE FUNCTION darkroom.may_notify() RETURNS boolean LANGUAGE sql VOLATILE
RETURN pg_notification_queue_usage() < 0.75;

-- Raise an error for a change that a trigger or a rule of the application has silently undone: a claim or an end that
-- isn't in the row didn't happen.
CREATE OR REPLACE FUNCTION darkroom.refuse_change(job_id text, status text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'job % did not become %: a trigger or rule kept its row as it was', left(job_id, 200), status
        USING ERRCODE = '27000';
END $$;

-- Notify one change on channel darkroom_jobs; it is delivered when the transaction commits. PostgreSQL refuses a
-- payload of 8,000 bytes or more, so an id that is too long is left out, because half an id would name another job.
-- PostgreSQL inlines this function: as a statement of its own, it would cost more than the notification.
CREATE OR REPLACE FUNCTION darkroom.notify_job(job_type text, job_id text, status text, stage text) RETURNS void
LANGUAGE sql VOLATILE
RETURN CASE WHEN darkroom.may_notify() THEN
    pg_notify('darkroom_jobs', json_build_object(
        'id', CASE WHEN octet_length(to_json(job_id)::text) < 7000 THEN job_id END,
        'type', job_type, 'status', status, 'stage', stage)::text) END;
