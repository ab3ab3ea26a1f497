-- Whose job is next: start-time fair queueing by user, weights, head starts, and caps on users' running jobs.
--
-- A job's position is its start tag, in millionths of a token: the later of its user's last finish tag and virtual time.
-- Its finish tag is the start tag plus its cost divided by its user's weight. Claims take the lowest start tag. Virtual
-- time follows the jobs that are claimed, and is kept in a sequence, which no transaction locks and none conflicts over.
--
-- A cap says how many jobs of a user may run. As long as there are caps, a job gets a slot before it can be claimed: the
-- jobs of a user that run or can be claimed are never more than the cap. All others are held (held_by), out of the
-- index of claims. Only darkroom.admit gives slots, in short transactions of claimers, under a lock of the user's that
-- no other program takes; so no producer and no end of a job ever waits for it. Decision records 0195 and 0196.

-- Return virtual time in a queue. Each queue has its own, and its own head start.
CREATE OR REPLACE FUNCTION darkroom.virtual_time(of_queue text DEFAULT 'default') RETURNS bigint LANGUAGE sql VOLATILE
RETURN coalesce(pg_sequence_last_value(
    CASE of_queue WHEN 'default' THEN 'darkroom.virtual_time_seq'::regclass
                  ELSE darkroom.sequence_of(of_queue, 'virtual_time_seq') END), 1000000000000);

-- Return up to where head starts have been given away in a queue.
CREATE OR REPLACE FUNCTION darkroom.head_starts_given(of_queue text DEFAULT 'default') RETURNS bigint LANGUAGE sql VOLATILE
RETURN coalesce(pg_sequence_last_value(
    CASE of_queue WHEN 'default' THEN 'darkroom.head_start_seq'::regclass
                  ELSE darkroom.sequence_of(of_queue, 'head_start_seq') END), 0);

-- Return the head start of users with priority, in millionths of a token.
CREATE OR REPLACE FUNCTION darkroom.head_start() RETURNS bigint LANGUAGE sql STABLE
RETURN (coalesce((darkroom.setting('priority_head_start') #>> '{}')::numeric, 60) * 1000000)::bigint;

-- Move virtual time to a tag: of a job that was claimed, its start tag, and of that job's own turn at most a token's worth
-- more, so that virtual time advances with service even while every newcomer has the same tag. A queue that has been
-- drained forgets what was given away as head starts, since nobody waits behind it. Two claimers may move it at once;
-- then the lower tag may be written last, and the next claim moves it on.
CREATE OR REPLACE FUNCTION darkroom.advance(claimed bigint, is_drained boolean, of_queue text DEFAULT 'default')
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    before bigint := darkroom.virtual_time(of_queue);
    ahead bigint;
    after bigint;
BEGIN
    IF is_drained THEN
        ahead := darkroom.head_start();
        after := greatest(before, claimed, darkroom.head_starts_given(of_queue) + ahead);
    ELSE
        after := greatest(before, claimed);
    END IF;
    IF after > before THEN
        PERFORM setval(darkroom.sequence_of(of_queue, 'virtual_time_seq'), after);
        after := after - coalesce(ahead, darkroom.head_start());
        IF darkroom.head_starts_given(of_queue) < after THEN
            PERFORM setval(darkroom.sequence_of(of_queue, 'head_start_seq'), after);
        END IF;
    END IF;
END $$;

-- Put virtual time and head starts right, as at an upgrade: after a restore without sequences virtual time may be behind
-- everything that waits, so that newcomers would go first for long; and the head start may have been changed.
CREATE OR REPLACE FUNCTION darkroom.settle_virtual_time() RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    one text;
    lowest bigint;
    given bigint;
BEGIN
    FOR one IN SELECT darkroom.queues() LOOP
        lowest := (SELECT q.position FROM darkroom.job_queue q WHERE q.queue = one AND q.ready AND q.status = 'pending'
                   ORDER BY q.position, q.id LIMIT 1);
        -- where no job can be claimed, those that are held or paused tell, or else the turns of users who had jobs
        lowest := coalesce(lowest,
            (SELECT min(q.position) FROM darkroom.job_queue q
             WHERE q.queue = one AND q.status = 'pending' AND q.held_by IS DISTINCT FROM 'tag'),
            (SELECT max(t.finish) FROM darkroom.turns t WHERE t.queue = one));
        given := darkroom.head_starts_given(one);
        IF lowest > darkroom.virtual_time(one) + darkroom.head_start() THEN
            PERFORM setval(darkroom.sequence_of(one, 'virtual_time_seq'), lowest);
        END IF;
        IF given NOT BETWEEN darkroom.virtual_time(one) - darkroom.head_start() AND darkroom.virtual_time(one) THEN
            PERFORM setval(darkroom.sequence_of(one, 'head_start_seq'),
                           darkroom.virtual_time(one) - darkroom.head_start());
        END IF;
    END LOOP;
END $$;

-- Return what a job costs in the fair order, in tokens: its price, or a number by tier where users pay in another way; at
-- least 1. Prices above 10,000 count as 10,000, so that no tag leaves its range.
CREATE OR REPLACE FUNCTION darkroom.fair_cost(tier text, cost integer) RETURNS bigint LANGUAGE sql IMMUTABLE
RETURN least(greatest(coalesce(cost, CASE tier WHEN 'TIER_2K' THEN 2 WHEN 'TIER_4K' THEN 5 END, 1), 1), 10000)::bigint;

-- Return how far a job moves its user's turn, in millionths of a token: its cost by the weight of its user's tier.
CREATE OR REPLACE FUNCTION darkroom.fair_units(tier text, cost integer, weights jsonb, user_tier text) RETURNS bigint
LANGUAGE sql IMMUTABLE
RETURN darkroom.fair_cost(tier, cost) * 1000000
    / coalesce((coalesce(weights, '{"FREE": 1, "BASIC": 2, "STANDARD": 4, "PREMIUM": 8}') ->> coalesce(user_tier, 'FREE'))::bigint, 1);

-- Return whether there are tables of subscriptions of `pictures` that may be read. They are looked up anew each time,
-- since a table may be made later, and rights may be given.
CREATE OR REPLACE FUNCTION darkroom.may_read_subscriptions() RETURNS boolean LANGUAGE sql VOLATILE
RETURN
    coalesce(has_table_privilege(to_regclass('public.subscriptions')::oid, 'SELECT')
                AND has_table_privilege(to_regclass('public.subscription_plans')::oid, 'SELECT'), false)
;

-- Return whether the application has subscriptions, and plans with priority, that may be read.
CREATE OR REPLACE FUNCTION darkroom.has_subscriptions() RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF NOT darkroom.may_read_subscriptions() THEN
        RETURN false;
    END IF;
    RETURN darkroom.missing_column('public.subscriptions'::regclass, '"userId" = ''''::text, "stripePriceId", status') IS NULL
       AND darkroom.missing_column('public.subscription_plans'::regclass, '"stripePriceId", bool_or(priority) OVER ()') IS NULL;
END $$;

-- Return the users who have priority: an active subscription to a plan with priority. Without such tables nobody has.
CREATE OR REPLACE FUNCTION darkroom.users_with_priority(users text[]) RETURNS text[]
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT darkroom.has_subscriptions() THEN
        RETURN '{}';
    END IF;
    RETURN ARRAY(SELECT s."userId"::text FROM public.subscriptions s
                 WHERE s."userId" = ANY (users) AND s.status::text IN ('ACTIVE', 'TRIALING')
                   AND (SELECT bool_or(p.priority) FROM public.subscription_plans p
                        WHERE p."stripePriceId" = s."stripePriceId"));
END $$;

-- Return the tiers of users by their balances, as an object; a user without a balance isn't in it.
CREATE OR REPLACE FUNCTION darkroom.tiers_of(users text[]) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF darkroom.missing_column('public.user_token_balances'::regclass, '"userId", tier') IS NULL THEN
        RETURN coalesce((SELECT jsonb_object_agg(b."userId"::text, b.tier::text) FROM public.user_token_balances b
                         WHERE b."userId" = ANY (users)), '{}');
    END IF;
    RETURN '{}';
END $$;

-- Return whether this transaction may make a user's first turn: an INSERT would wait for another one that has made it and
-- isn't committed, and two that make those of two users would deadlock. Locks are a thousand for all users, as in
-- lock_slots.
CREATE OR REPLACE FUNCTION darkroom.may_make_turn(of_user text) RETURNS boolean LANGUAGE sql VOLATILE
RETURN pg_try_advisory_xact_lock('darkroom.turns'::regclass::oid::integer, (hashtext(of_user) & 1023) + 1);

-- Make a user's first turn, which says nothing yet; return whether that was done. It isn't tried where there is one: an
-- INSERT would wait for a transaction that has changed it.
CREATE OR REPLACE FUNCTION darkroom.make_turn(of_queue text, of_user text) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO darkroom.turns (queue, user_id, finish) SELECT of_queue, of_user, 0
    WHERE NOT EXISTS (SELECT FROM darkroom.turns t WHERE t.queue = of_queue AND t.user_id = of_user)
      AND darkroom.may_make_turn(of_user)
    ON CONFLICT DO NOTHING;
    RETURN FOUND;
END $$;

-- Return the start tags of jobs that enter a queue, in their order, and the cost of each by its user's weight. A tag is
-- NULL if another transaction is giving tags to the same user: nobody waits for that, so no producers can deadlock.
-- Only enqueue and admit call this, and its plans are kept, too.
CREATE OR REPLACE FUNCTION darkroom.tag_jobs(of_queue text, jobs darkroom.entering[], terms jsonb,
                                             OUT tags bigint[], OUT units bigint[])
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    users text[] := ARRAY(SELECT DISTINCT j.user_id FROM unnest(jobs) j ORDER BY j.user_id);
    weights jsonb := terms -> 'weights';
    tiers jsonb := darkroom.tiers_of(users);
    now_at bigint := darkroom.virtual_time(of_queue);
    head_starts regclass;
    most_ahead bigint := coalesce((terms #>> '{priority_head_start}')::numeric, 60) * 1000000;
    ahead text[] := '{}';  -- users with priority
    tokens bigint;  -- how many tokens of their jobs get a head start
    begins bigint;  -- where their head start begins
    reaches bigint;  -- and up to where it reaches
BEGIN
    IF most_ahead > 0 THEN
        ahead := darkroom.users_with_priority(users);
    END IF;
    IF cardinality(ahead) > 0 THEN
        -- All users with priority share one head start, so that everyone else waits at most for that much work, however
        -- many such users there are. Taking a part of it is nextval, which adds without a lock.
        head_starts := darkroom.sequence_of(of_queue, 'head_start_seq');
        IF darkroom.head_starts_given(of_queue) < now_at - most_ahead THEN
            PERFORM setval(head_starts, now_at - most_ahead);
        END IF;
        tokens := least((SELECT sum(darkroom.fair_cost(j.tier, j.cost)) FROM unnest(jobs) j WHERE j.user_id = ANY (ahead)),
                        (now_at - darkroom.head_starts_given(of_queue) + 999999) / 1000000);
        SELECT max(nextval(head_starts)) INTO reaches FROM generate_series(1, tokens);
        begins := reaches - tokens * 1000000;
    END IF;
    WITH job AS MATERIALIZED (
            SELECT j.ordinality AS n, j.user_id, darkroom.fair_cost(j.tier, j.cost) * 1000000 AS work,
                   darkroom.fair_units(j.tier, j.cost, weights, tiers ->> j.user_id) AS units,
                   j.user_id = ANY (ahead) AS has_priority
            FROM unnest(jobs) WITH ORDINALITY j),
        seen AS MATERIALIZED (
            SELECT t.user_id FROM darkroom.turns t WHERE t.queue = of_queue AND t.user_id = ANY (users)),
        held AS MATERIALIZED (
            SELECT t.user_id, t.finish FROM darkroom.turns t WHERE t.queue = of_queue AND t.user_id = ANY (users)
            ORDER BY t.user_id FOR NO KEY UPDATE SKIP LOCKED),
        last AS MATERIALIZED (
            SELECT h.user_id, h.finish, true AS is_held FROM held h
            UNION ALL
            SELECT u.user_id, 0, false FROM unnest(users) u (user_id)
            WHERE u.user_id NOT IN (SELECT s.user_id FROM seen s)),
        -- jobs with a head start stand one behind the other, as far apart as their work, up to where it reaches
        parted AS MATERIALIZED (
            SELECT p.*, coalesce(p.head_at < now_at AND p.head_at < reaches, false) AS is_ahead
            FROM (SELECT j.*, l.finish, l.is_held,
                         CASE WHEN j.has_priority THEN greatest(l.finish, begins - j.work + sum(j.work)
                             FILTER (WHERE j.has_priority) OVER (ORDER BY j.n)) END AS head_at
                  FROM job j JOIN last l ON l.user_id = j.user_id) p),
        tagged AS MATERIALIZED (
            SELECT p.n, p.user_id, p.units, p.is_held,
                   (CASE WHEN p.is_ahead THEN p.head_at
                         ELSE greatest(p.finish, now_at) - p.units + sum(p.units) FILTER (WHERE NOT p.is_ahead)
                                  OVER (PARTITION BY p.user_id ORDER BY p.n) END)::bigint AS tag
            FROM parted p),
        ends AS MATERIALIZED (
            SELECT t.user_id, max(t.tag + t.units) AS finish, bool_or(t.is_held) AS is_held FROM tagged t GROUP BY t.user_id),
        moved AS (
            UPDATE darkroom.turns t SET finish = e.finish FROM ends e
            WHERE t.queue = of_queue AND t.user_id = ANY (users) AND t.user_id = e.user_id AND e.is_held
            RETURNING t.user_id),
        made AS (
            INSERT INTO darkroom.turns (queue, user_id, finish)
            SELECT of_queue, e.user_id, e.finish FROM ends e
            WHERE NOT e.is_held AND darkroom.may_make_turn(e.user_id) ORDER BY e.user_id
            ON CONFLICT DO NOTHING RETURNING user_id),
        settled AS (SELECT m.user_id FROM moved m UNION ALL SELECT m.user_id FROM made m)
    SELECT array_agg(CASE WHEN s.user_id IS NOT NULL THEN t.tag END ORDER BY j.n), array_agg(j.units ORDER BY j.n)
    INTO tags, units
    FROM job j LEFT JOIN tagged t ON t.n = j.n LEFT JOIN settled s ON s.user_id = j.user_id;
END $$;

-- Return whether jobs need a slot to be claimed.
CREATE OR REPLACE FUNCTION darkroom.has_caps() RETURNS boolean LANGUAGE sql STABLE
RETURN coalesce(darkroom.setting('user_caps'), '{}') <> '{}';

-- Lock the slots of some users until the end of the transaction; return those users whose slots nobody else has locked.
-- There are a thousand locks for all users, because PostgreSQL's table of locks is small.
CREATE OR REPLACE FUNCTION darkroom.lock_slots(users text[]) RETURNS text[] LANGUAGE sql VOLATILE
RETURN ARRAY(SELECT u.user_id FROM (SELECT d.user_id FROM unnest(users) d (user_id) ORDER BY 1) u
             WHERE pg_try_advisory_xact_lock('darkroom.freed_slots'::regclass::oid::integer,
                                             hashtext(u.user_id) & 1023));

-- Return how many jobs of a user run or can be claimed.
CREATE OR REPLACE FUNCTION darkroom.slots_taken(of_user text) RETURNS bigint LANGUAGE sql VOLATILE
RETURN (SELECT count(*) FROM darkroom.job_queue q WHERE q.user_id = of_user AND q.status = 'processing')
     + (SELECT count(*) FROM darkroom.job_queue q WHERE q.user_id = of_user AND q.status = 'pending' AND q.ready);

-- Return the same, and one more if a job that the database refused to start is to be tried again: it is claimed out of
-- turn (models/queue/refusals.py), and would never find a free slot beside a backlog of its user's.
CREATE OR REPLACE FUNCTION darkroom.slots_wanted(of_user text) RETURNS bigint LANGUAGE sql VOLATILE
RETURN darkroom.slots_taken(of_user)
     + EXISTS (SELECT FROM darkroom.job_queue q WHERE q.user_id = of_user AND q.status = 'retrying'
               AND q.refused_since IS NOT NULL AND q.scheduled_at <= now()
               AND darkroom.pause_of(q.job_type, q.tier, coalesce(darkroom.setting('pauses'), '{}')) IS NULL)::integer;

-- Settle the positions of up to so many jobs that have none yet, and give free slots to users' held jobs. A claimer calls
-- this in a transaction of its own, as soon as a claim has seen that there is something to settle. Return how many jobs can
-- be claimed now that couldn't before.
CREATE OR REPLACE FUNCTION darkroom.admit(most integer DEFAULT 1000) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_nestloop = off
SET enable_mergejoin = off SET enable_bitmapscan = off SET jit = off AS $$
DECLARE
    terms jsonb := (SELECT jsonb_object_agg(s.key, s.value) FROM darkroom.settings s
                    WHERE s.key = ANY ('{user_caps,weights,priority_head_start,pauses}'));
    caps jsonb := coalesce(terms -> 'user_caps', '{}');
    pauses jsonb := coalesce(terms -> 'pauses', '{}');
    freed text[];
    mine text[];
    tiers jsonb;
    chosen bigint[];
    admitted integer := darkroom.settle_tags(most, terms);
    changed integer;
BEGIN
    WITH gone AS (
        DELETE FROM darkroom.freed_slots f
        WHERE f.id = ANY (ARRAY(SELECT w.id FROM darkroom.freed_slots w ORDER BY w.id LIMIT most
                                FOR UPDATE SKIP LOCKED))
        RETURNING f.user_id)
    SELECT array_agg(DISTINCT g.user_id) INTO freed FROM gone g;
    IF freed IS NULL THEN
        RETURN admitted;
    END IF;
    mine := darkroom.lock_slots(freed);
    INSERT INTO darkroom.freed_slots (user_id)
    SELECT f.user_id FROM unnest(freed) f (user_id) WHERE f.user_id <> ALL (mine);

    -- each statement from here on sees what other claimers have committed before their users were locked
    tiers := CASE WHEN caps = '{}' THEN '{}' ELSE darkroom.tiers_of(mine) END;
    WITH room AS MATERIALIZED (
        SELECT u.user_id, coalesce((caps ->> coalesce(tiers ->> u.user_id, 'FREE'))::bigint
                                       - darkroom.slots_wanted(u.user_id), most) AS free
        FROM unnest(mine) u (user_id)),
    surplus AS ( -- a cap was lowered, or a producer had read an earlier one
        UPDATE darkroom.job_queue q SET ready = false, held_by = 'cap'
        WHERE q.id = ANY (ARRAY(
            SELECT s.id FROM room r CROSS JOIN LATERAL (
                SELECT c.id FROM darkroom.job_queue c
                WHERE c.user_id = r.user_id AND c.status = 'pending' AND c.ready
                ORDER BY c.position DESC, c.id DESC LIMIT greatest(-r.free, 0) FOR UPDATE SKIP LOCKED) s
            WHERE r.free < 0)))
    -- jobs that have begun come first: positions in several queues say nothing of each other
    SELECT array_agg(n.id) INTO chosen FROM room r CROSS JOIN LATERAL (
        SELECT h.id FROM darkroom.job_queue h WHERE h.user_id = r.user_id AND h.held_by = 'cap'
        ORDER BY h.started_at IS NULL, h.position, h.id LIMIT greatest(r.free, 0) FOR UPDATE SKIP LOCKED) n
    WHERE r.free > 0;
    IF chosen IS NOT NULL THEN
        -- a job whose type or tier an operator has paused needs no slot
        UPDATE darkroom.job_queue q
        SET held_by = NULL, paused_by = darkroom.pause_of(q.job_type, q.tier, pauses),
            ready = darkroom.pause_of(q.job_type, q.tier, pauses) IS NULL
        WHERE q.id = ANY (chosen);
        GET DIAGNOSTICS changed = ROW_COUNT;
        admitted := admitted + changed;
    END IF;
    -- a user with a free slot and a held job is looked at again: another program has locked the job, it is paused, or
    -- there were too many for one look
    INSERT INTO darkroom.freed_slots (user_id)
    SELECT u.user_id FROM unnest(mine) u (user_id)
    WHERE EXISTS (SELECT FROM darkroom.job_queue h WHERE h.user_id = u.user_id AND h.held_by = 'cap')
      AND coalesce((caps ->> coalesce(tiers ->> u.user_id, 'FREE'))::bigint > darkroom.slots_wanted(u.user_id), true);
    RETURN admitted;
END $$;

-- Settle the positions of up to so many jobs that have none yet; return how many of them can be claimed now. Only admit
-- calls this, and its plans are kept, too.
CREATE OR REPLACE FUNCTION darkroom.settle_tags(most integer, terms jsonb) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    needs_slot boolean := coalesce(terms -> 'user_caps', '{}') <> '{}';
    pauses jsonb := coalesce(terms -> 'pauses', '{}');
    picked bigint[] := ARRAY(SELECT q.id FROM darkroom.job_queue q
                             WHERE q.held_by = 'tag' AND q.status = 'pending'
                             ORDER BY q.id LIMIT most FOR UPDATE SKIP LOCKED);
    one record;
    tagged record;
    settled integer := 0;
    changed integer;
BEGIN
    IF cardinality(picked) = 0 THEN
        RETURN 0;
    END IF;
    FOR one IN
        SELECT q.queue, array_agg(q.id ORDER BY q.id) AS ids,
               array_agg(ROW(q.job_type, q.job_id, q.user_id, q.tier, q.units / 1000000, q.stage, q.max_attempts,
                             q.created_at)::darkroom.entering ORDER BY q.id) AS jobs
        FROM darkroom.job_queue q WHERE q.id = ANY (picked) GROUP BY q.queue ORDER BY q.queue
    LOOP
        SELECT t.* INTO tagged FROM darkroom.tag_jobs(one.queue, one.jobs, terms) t;
        IF array_position(tagged.tags, NULL) IS NOT NULL THEN
            -- A transaction that stays open keeps its user's turn. After a second the user's other jobs line up behind
            -- all that can be seen of that user: at virtual time, all of them would go before everybody else's.
            WITH job AS MATERIALIZED (
                    SELECT j.ordinality AS n, j.user_id, j.created_at, j.tag, j.units
                    FROM unnest(one.jobs, tagged.tags, tagged.units) WITH ORDINALITY
                        j (job_type, job_id, user_id, tier, cost, stage, max_attempts, created_at, tag, units, ordinality)),
                late AS MATERIALIZED (
                    SELECT j.n, j.user_id, sum(j.units) OVER (PARTITION BY j.user_id ORDER BY j.n) - j.units AS before_it
                    FROM job j WHERE j.tag IS NULL AND j.created_at < now() - interval '1 second'),
                starts AS MATERIALIZED (
                    SELECT u.user_id, greatest(
                        darkroom.virtual_time(one.queue),
                        (SELECT t.finish FROM darkroom.turns t WHERE t.queue = one.queue AND t.user_id = u.user_id),
                        (SELECT max(q.position + q.units) FROM darkroom.job_queue q
                         WHERE q.user_id = u.user_id AND q.queue = one.queue AND q.held_by IS DISTINCT FROM 'tag')) AS at
                    FROM (SELECT DISTINCT l.user_id FROM late l) u)
            SELECT array_agg(coalesce(j.tag, s.at + l.before_it)::bigint ORDER BY j.n) INTO tagged.tags
            FROM job j LEFT JOIN late l ON l.n = j.n LEFT JOIN starts s ON s.user_id = l.user_id;
        END IF;
        UPDATE darkroom.job_queue q
        SET position = t.tag, units = t.units,
            paused_by = darkroom.pause_of(q.job_type, q.tier, pauses),
            ready = NOT needs_slot AND darkroom.pause_of(q.job_type, q.tier, pauses) IS NULL,
            held_by = CASE WHEN needs_slot AND darkroom.pause_of(q.job_type, q.tier, pauses) IS NULL THEN 'cap' END
        FROM unnest(one.ids, tagged.tags, tagged.units) t (id, tag, units)
        WHERE q.id = ANY (one.ids) AND q.id = t.id AND t.tag IS NOT NULL;
        GET DIAGNOSTICS changed = ROW_COUNT;
        settled := settled + changed;
        IF needs_slot THEN
            INSERT INTO darkroom.freed_slots (user_id) SELECT DISTINCT j.user_id FROM unnest(one.jobs) j;
        END IF;
    END LOOP;
    RETURN settled;
END $$;

-- Have the slots of users looked at who have more jobs that run or can be claimed than the smallest cap; and, if the whole
-- is asked for, those of users with a held job and a free slot, as after a change of their tier, which no trigger follows.
-- If the caps have changed, that is recorded here.
CREATE OR REPLACE FUNCTION darkroom.check_slots(whole boolean DEFAULT true) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    caps jsonb := coalesce(darkroom.setting('user_caps'), '{}');
    least_cap bigint := (SELECT min(c.value::bigint) FROM jsonb_each_text(caps) c);
BEGIN
    IF NOT pg_try_advisory_xact_lock('darkroom.turns'::regclass::oid::integer, 0) THEN
        RETURN;  -- another process is at it
    END IF;
    INSERT INTO darkroom.freed_slots (user_id)
    WITH RECURSIVE held AS (
        (SELECT q.user_id FROM darkroom.job_queue q WHERE whole AND q.held_by = 'cap' ORDER BY q.user_id LIMIT 1)
        UNION ALL
        SELECT (SELECT q.user_id FROM darkroom.job_queue q WHERE q.held_by = 'cap' AND q.user_id > h.user_id
                ORDER BY q.user_id LIMIT 1) FROM held h WHERE h.user_id IS NOT NULL)
    SELECT h.user_id FROM held h
    CROSS JOIN (SELECT CASE WHEN whole AND caps <> '{}' THEN darkroom.tiers_of(ARRAY(
                           SELECT u.user_id FROM held u WHERE u.user_id IS NOT NULL)) END AS by_user) tiers
    WHERE h.user_id IS NOT NULL
      AND coalesce((caps ->> coalesce(tiers.by_user ->> h.user_id, 'FREE'))::bigint > darkroom.slots_wanted(h.user_id), true)
    UNION
    SELECT q.user_id FROM darkroom.job_queue q
    WHERE least_cap IS NOT NULL AND (q.status = 'processing' OR q.ready AND q.status = 'pending')
    GROUP BY q.user_id HAVING count(*) > least_cap;
    IF whole AND caps <> coalesce(darkroom.setting('user_caps_checked'), '{}') THEN
        INSERT INTO darkroom.settings (key, value) VALUES ('user_caps_checked', caps)
        ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = now();
    END IF;
END $$;

-- BEFORE UPDATE of a queue row that becomes claimable, or is claimed out of its turn: as long as there are caps it is held
-- until a claimer has given it a slot. Whatever statement writes the row, that of an earlier release too.
CREATE OR REPLACE FUNCTION darkroom.ask_for_slot() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF OLD.held_by IS NOT NULL AND NEW.held_by IS DISTINCT FROM OLD.held_by THEN
        RETURN NEW;  -- darkroom.admit has settled its position, or given it a slot
    END IF;
    IF NEW.status <> 'pending' THEN
        -- a job that waits for its time gets its position once that has come
        IF NEW.status = 'processing' OR NEW.held_by = 'cap' THEN
            NEW.held_by := NULL;
        END IF;
        IF NEW.status = 'processing' AND darkroom.has_caps() AND NOT darkroom.has_room(NEW.user_id) THEN
            RETURN NULL;
        END IF;
    ELSIF NEW.held_by IS NOT NULL THEN
        NEW.ready := false;
    ELSIF darkroom.has_caps() THEN
        NEW.ready := false;
        NEW.held_by := 'cap';
        INSERT INTO darkroom.freed_slots (user_id) VALUES (NEW.user_id);
    END IF;
    RETURN NEW;
END $$;

-- Return whether one more job of a user may run, and lock its slots until the end of the transaction if so.
CREATE OR REPLACE FUNCTION darkroom.has_room(of_user text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
    cap bigint;
BEGIN
    IF cardinality(darkroom.lock_slots(ARRAY[of_user])) = 0 THEN
        RETURN false;
    END IF;
    cap := (darkroom.setting('user_caps')
            ->> coalesce(darkroom.tiers_of(ARRAY[of_user]) ->> of_user, 'FREE'))::bigint;
    RETURN cap IS NULL OR darkroom.slots_taken(of_user) < cap;
END $$;

-- AFTER UPDATE of a queue row that leaves its slot, as for a retry, a pause or another queue, or changes its user.
CREATE OR REPLACE FUNCTION darkroom.free_slot() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF darkroom.has_caps() THEN
        INSERT INTO darkroom.freed_slots (user_id) VALUES (NEW.user_id);
    END IF;
    RETURN NULL;
END $$;

-- AFTER DELETE of queue rows, per statement: the ends of jobs leave their slots.
CREATE OR REPLACE FUNCTION darkroom.free_slots() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF darkroom.has_caps() THEN
        INSERT INTO darkroom.freed_slots (user_id)
        SELECT DISTINCT g.user_id FROM gone g WHERE g.ready OR g.status = 'processing';
    END IF;
    RETURN NULL;
END $$;

-- Make the triggers on darkroom.job_queue that are missing; return their names.
CREATE OR REPLACE FUNCTION darkroom.make_queue_triggers() RETURNS SETOF text
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    made record;
BEGIN
    FOR made IN SELECT * FROM (VALUES
        ('ask_for_slot', $$BEFORE UPDATE ON darkroom.job_queue FOR EACH ROW
            WHEN (OLD.held_by IS NOT NULL
                  OR (NEW.ready OR NEW.status = 'processing') AND NOT (OLD.ready OR OLD.status = 'processing'))
            EXECUTE FUNCTION darkroom.ask_for_slot()$$),
        ('free_slot', $$AFTER UPDATE ON darkroom.job_queue FOR EACH ROW
            WHEN ((OLD.ready OR OLD.status = 'processing') AND NEW.held_by IS DISTINCT FROM 'cap'
                  AND (NOT (NEW.ready OR NEW.status = 'processing') OR NEW.user_id <> OLD.user_id))
            EXECUTE FUNCTION darkroom.free_slot()$$),
        ('free_slots', $$AFTER DELETE ON darkroom.job_queue REFERENCING OLD TABLE AS gone
            FOR EACH STATEMENT EXECUTE FUNCTION darkroom.free_slots()$$)) m (name, definition)
    WHERE NOT EXISTS (SELECT FROM pg_trigger t
                      WHERE t.tgrelid = 'darkroom.job_queue'::regclass AND t.tgname = m.name AND t.tgenabled IN ('O', 'A')) LOOP
        EXECUTE format('CREATE OR REPLACE TRIGGER %I %s', made.name, made.definition);
        RETURN NEXT made.name;
    END LOOP;
END $body$;
