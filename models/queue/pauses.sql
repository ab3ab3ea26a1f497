-- Operators' pauses, named 'queue:default', 'type:enhance', 'tier:TIER_4K', 'provider:gemini'. Present pauses are kept
-- in darkroom.settings under 'pauses' (name -> actor, reason, at), where claims and the gate read them as soon as they
-- are committed; the kill switch is a setting of its own, 'buying'. Past pauses are kept too, because the maximum wait
-- doesn't count their time.

-- Every pause by an operator; resumed_at is NULL for a present one.
CREATE OR REPLACE VIEW darkroom.pauses AS
SELECT p.key AS name, (p.value ->> 'at')::timestamptz AS paused_at, NULL::timestamptz AS resumed_at,
       p.value ->> 'actor' AS actor, p.value ->> 'reason' AS reason
FROM jsonb_each(darkroom.setting('pauses')) p
UNION ALL
SELECT s.key, s.updated_at, NULL, s.value ->> 'actor', s.value ->> 'reason'
FROM darkroom.settings s WHERE s.key = 'buying' AND (s.value ->> 'stopped')::boolean
UNION ALL
SELECT p.name, p.paused_at, p.resumed_at, p.actor, p.reason FROM darkroom.past_pauses p;

-- Return the pause that keeps a job from being claimed, whatever its queue; NULL if none does.
CREATE OR REPLACE FUNCTION darkroom.pause_of(job_type text, tier text, pauses jsonb) RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE WHEN pauses ? ('type:' || job_type) THEN 'type:' || job_type
            WHEN pauses ? ('tier:' || tier) THEN 'tier:' || tier END;

-- Return whether an operator has paused a provider: then kind and reason tell it, and wait_s when to ask again; else
-- NULLs.
CREATE OR REPLACE FUNCTION darkroom.pause_wait(provider text, OUT wait_s float8, OUT kind text, OUT reason text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    pause jsonb := darkroom.setting('pauses') -> ('provider:' || provider);
BEGIN
    IF pause IS NOT NULL THEN
        wait_s := 5;
        kind := 'stopped';
        reason := 'an operator paused it' || coalesce(': ' || nullif(pause ->> 'reason', ''), '');
    END IF;
END $$;

-- Return the times at which operators' pauses kept jobs of a queue, a type and a tier from running. Pauses of all queues
-- count, because a job passes several. `stops` has, for each configured provider, the names of the pauses that stop it:
-- these count only while every provider is stopped.
CREATE OR REPLACE FUNCTION darkroom.paused_times(queue text, job_type text, tier text, stops jsonb) RETURNS tstzmultirange
LANGUAGE sql STABLE
RETURN coalesce((SELECT range_agg(tstzrange(p.paused_at, p.resumed_at)) FROM darkroom.pauses p
                 WHERE p.name IN ('queue:' || queue, 'type:' || job_type, 'tier:' || tier)
                    OR p.name IN (SELECT 'queue:' || q FROM darkroom.queues() q)), '{}')
    + coalesce((SELECT range_intersect_agg(one.times) FROM (
        SELECT coalesce(range_agg(tstzrange(p.paused_at, p.resumed_at)) FILTER (WHERE p.name IS NOT NULL),
                        '{}'::tstzmultirange) AS times
        FROM jsonb_array_elements(stops) WITH ORDINALITY s (names, number)
        LEFT JOIN darkroom.pauses p ON s.names ? p.name GROUP BY s.number) one), '{}');

-- Return how many seconds of a set of times lie after a moment.
CREATE OR REPLACE FUNCTION darkroom.paused_s(times tstzmultirange, since timestamptz) RETURNS float8 LANGUAGE sql STABLE
RETURN (SELECT coalesce(sum(extract(epoch FROM upper(r) - lower(r))), 0)::float8
        FROM unnest(times * tstzmultirange(tstzrange(since, greatest(since, now())))) r);
