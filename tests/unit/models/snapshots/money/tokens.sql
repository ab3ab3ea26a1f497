-- Balances and the ledger of jobs that are paid in tokens. A database without such a job table has none of this.

-- Raise an error if a balance isn't what was just written. Balances are read again, because a trigger may change one
-- after the statement that wrote it has returned it.
CREATE OR REPLACE FUNCTION darkroom.require_balances(users text[], expected bigint[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_nestloop = off
SET enable_mergejoin = off SET enable_bitmapscan = off SET jit = off AS $$
BEGIN
    PERFORM darkroom.require_booked('balances', coalesce(cardinality(users), 0), (
        SELECT count(*) FROM unnest(users, expected) e (user_id, balance)
        JOIN public.user_token_balances b ON b."userId" = e.user_id AND b.balance = e.balance
        WHERE b."userId" = ANY (users)));
END $$;

-- Insert a balance of 0 for users without one. If a rule prevents that, the code that adds to the balance notices it.
CREATE OR REPLACE FUNCTION darkroom.open_balances(users text[]) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off AS $$
    INSERT INTO public.user_token_balances (id, "userId", balance, "updatedAt")
    SELECT darkroom.new_id(), u.id, 0, darkroom.utc_now() FROM unnest(users) u (id)
    WHERE NOT EXISTS (SELECT FROM public.user_token_balances b WHERE b."userId" = u.id OFFSET 0)
    ORDER BY u.id ON CONFLICT DO NOTHING
$$;

-- Lock the balances of users in the order of the ids, so that they can't change any more, and return them; raise an
-- error if one is too small. `needed` and the result are objects with the tokens of each user. In a serializable
-- transaction, users without a balance get one of 0, which is rolled back with the statement that is refused: looking
-- for a missing row would lock an index page, which unrelated users share; an INSERT that meets an existing row needs no
-- such lock. Only darkroom.charge calls this, and its plans are kept, too.
CREATE OR REPLACE FUNCTION darkroom.held_balances(users text[], needed jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    available jsonb;
    held bigint;
    large_enough bigint;
    poor record;
BEGIN
    IF current_setting('transaction_isolation') = 'serializable' THEN
        WITH held AS (
            INSERT INTO public.user_token_balances AS b (id, "userId", balance, "updatedAt")
            SELECT darkroom.new_id(), u.id, 0, darkroom.utc_now() FROM unnest(users) u (id) ORDER BY u.id
            ON CONFLICT ("userId") DO UPDATE SET "updatedAt" = excluded."updatedAt"
            RETURNING b."userId", b.balance)
        SELECT jsonb_object_agg(h."userId", h.balance), count(*),
               count(*) FILTER (WHERE h.balance >= (needed ->> h."userId")::bigint)
        INTO available, held, large_enough FROM held h;
        PERFORM darkroom.require_booked('balances', cardinality(users), held);
    ELSE
        SELECT jsonb_object_agg(h."userId", h.balance),
               count(*) FILTER (WHERE h.balance >= (needed ->> h."userId")::bigint)
        INTO available, large_enough
        FROM (SELECT b."userId", b.balance FROM public.user_token_balances b WHERE b."userId" = ANY (users)
              ORDER BY b."userId" FOR NO KEY UPDATE) h;
    END IF;
    IF large_enough < cardinality(users) THEN
        SELECT u.id, needed ->> u.id AS needed, coalesce(available ->> u.id, '0') AS available INTO poor
        FROM unnest(users) u (id)
        WHERE coalesce((available ->> u.id)::bigint, 0) < (needed ->> u.id)::bigint ORDER BY u.id LIMIT 1;
        RAISE EXCEPTION 'too few tokens for user %: needed %, available %', poor.id, poor.needed, poor.available
            USING ERRCODE = 'P0001', DETAIL = format('needed %s, available %s', poor.needed, poor.available);
    END IF;
    RETURN available;
END $$;

-- Subtract tokens from balances that the caller has locked and that are large enough; return how many of them are then as
-- they should be, because a trigger may change one. `needed` and `available` are objects with the tokens of each user.
-- Only darkroom.charge calls this, and its plans are kept, too.
CREATE OR REPLACE FUNCTION darkroom.take_tokens(users text[], needed jsonb, available jsonb) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    kept bigint;
BEGIN
    IF current_setting('transaction_isolation') = 'serializable' THEN
        WITH taken AS (
            INSERT INTO public.user_token_balances AS b (id, "userId", balance, "updatedAt")
            SELECT darkroom.new_id(), u.id, 0, darkroom.utc_now() FROM unnest(users) u (id) ORDER BY u.id
            -- not computed from excluded, the row that this INSERT proposes, whose balance a trigger may set for new users
            ON CONFLICT ("userId") DO UPDATE
            SET balance = b.balance - (needed ->> b."userId")::bigint, "updatedAt" = excluded."updatedAt"
            RETURNING b."userId", b.balance)
        SELECT count(*) INTO kept FROM taken t
        WHERE t.balance = (available ->> t."userId")::bigint - (needed ->> t."userId")::bigint;
    ELSE
        UPDATE public.user_token_balances b
        SET balance = b.balance - (needed ->> b."userId")::bigint, "updatedAt" = darkroom.utc_now()
        WHERE b."userId" = ANY (users);
        -- read again, because a trigger may change a balance after the statement that wrote it
        SELECT count(*) INTO kept FROM public.user_token_balances b
        WHERE b."userId" = ANY (users)
          AND b.balance = (available ->> b."userId")::bigint - (needed ->> b."userId")::bigint;
    END IF;
    RETURN kept;
END $$;

-- BEFORE UPDATE or DELETE of a ledger row: raises an error while Darkroom manages the money, because the ledger is
-- append-only. The row is read as JSON: a cached plan with a column's type would fail in this session after the
-- application changes that type.
CREATE OR REPLACE FUNCTION darkroom.guard_ledger() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF darkroom.money_mode() <> 'managed' THEN
        RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
    END IF;
    IF TG_OP = 'DELETE' THEN
        IF NOT EXISTS (SELECT FROM public.users u WHERE u.id = to_jsonb(OLD) ->> 'userId') THEN
            RETURN OLD; -- the user was deleted in this transaction
        END IF;
    ELSIF pg_trigger_depth() > 1 AND to_jsonb(NEW) - 'userId' = to_jsonb(OLD) - 'userId' THEN
        RETURN NEW; -- the user's id changed, and the foreign key follows it
    END IF;
    RAISE EXCEPTION 'token_transactions is append-only: % of row % refused', lower(TG_OP), to_jsonb(OLD) ->> 'id'
        USING ERRCODE = '23514', HINT = 'correct a ledger with a new row';
END $$;

-- AFTER INSERT of a balance: its opening balance is what its ledger doesn't explain. Deferred to the commit, so that an
-- application may write the balance and its first ledger row in either order.
CREATE OR REPLACE FUNCTION darkroom.record_opening_balance() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off AS $$
BEGIN
    INSERT INTO darkroom.opening_balances AS o (user_id, balance)
    SELECT b."userId", b.balance - coalesce((SELECT sum(t.amount) FROM public.token_transactions t
                                             WHERE t."userId" = b."userId"), 0)
    FROM public.user_token_balances b WHERE b.id = to_jsonb(NEW) ->> 'id'
    ON CONFLICT (user_id) DO UPDATE SET balance = excluded.balance, recorded_at = now();
    RETURN NULL;
END $$;

-- Record an opening balance for every user who has none recorded, because the balance is older than the trigger. Return
-- how many were recorded.
CREATE OR REPLACE FUNCTION darkroom.record_opening_balances() RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
    WITH ledger AS (SELECT t."userId" AS user_id, sum(t.amount) AS total FROM public.token_transactions t GROUP BY 1),
    recorded AS (
        INSERT INTO darkroom.opening_balances (user_id, balance)
        SELECT b."userId", b.balance - coalesce(l.total, 0)
        FROM public.user_token_balances b LEFT JOIN ledger l ON l.user_id = b."userId"
        ON CONFLICT DO NOTHING RETURNING 1)
    SELECT count(*) FROM recorded
$$;
