-- Charges and refunds: each at most once, by the primary key of job_money, in one transaction with balance and ledger.
-- Lock order of all programs: job row, queue row, user row, balance row; rows of one kind by id.

-- Raise an error if a trigger or a rule of the application has silently dropped or changed rows that were just written:
-- a balance that the ledger doesn't explain would give tokens to users, or take them.
CREATE OR REPLACE FUNCTION darkroom.require_booked(what text, wanted bigint, booked bigint) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF booked IS DISTINCT FROM wanted THEN
        RAISE EXCEPTION '% of % % are not there as they were written: a trigger or rule kept them away or changed them',
            wanted - coalesce(booked, 0), wanted, what USING ERRCODE = '27000';
    END IF;
END $$;

-- Raise an error if a balance isn't what was just written. Balances are read again, because a trigger may change one
-- after the statement that wrote it has returned it.
CREATE OR REPLACE FUNCTION darkroom.require_balances(users text[], expected bigint[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp {{kept plans}} AS $$
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

--: each job table with a balance of its own
-- Charge the jobs of one statement that are paid from {{balances}}, all or none. There is no ledger; the price is in
-- the row.
CREATE OR REPLACE FUNCTION darkroom.charge_{{rows}}(jobs darkroom.entering[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp {{kept plans}} AS $$
DECLARE
    wrong record;
    users text[];
    needed bigint[];
    available bigint[];
    kept bigint;
BEGIN
    SELECT j.job_id, j.cost INTO wrong FROM unnest(jobs) j
    WHERE j.job_type IN ({{types}}) AND coalesce(j.cost < 0, true) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'wrong price for job %: given %, expected 0 or more', wrong.job_id, wrong.cost
            USING ERRCODE = 'P0001', DETAIL = format('given %s, expected 0 or more', wrong.cost);
    END IF;
    SELECT array_agg(d.user_id ORDER BY d.user_id), array_agg(d.needed ORDER BY d.user_id) INTO users, needed
    FROM (SELECT j.user_id, sum(j.cost) AS needed FROM unnest(jobs) j
          WHERE j.job_type IN ({{types}}) AND j.cost > 0 GROUP BY j.user_id) d;
    IF users IS NULL THEN
        RETURN;
    END IF;
    PERFORM 1 FROM {{balances}} b WHERE b.{{payer column}} = ANY ({{payers from users}})
    ORDER BY b.{{payer column}} FOR NO KEY UPDATE;
    available := ARRAY(
        SELECT coalesce(b.{{balance column}}, 0)::bigint FROM unnest(users) WITH ORDINALITY u (id, place)
        LEFT JOIN {{balances}} b
            ON b.{{payer column}} = ANY ({{payers from users}}) AND b.{{payer column}} = {{payer from u.id}}
        ORDER BY u.place);

    SELECT d.user_id, d.needed, d.available INTO wrong
    FROM unnest(users, needed, available) d (user_id, needed, available)
    WHERE d.available < d.needed ORDER BY d.user_id LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'too few tokens for user %: needed %, available %', wrong.user_id, wrong.needed, wrong.available
            USING ERRCODE = 'P0001', DETAIL = format('needed %s, available %s', wrong.needed, wrong.available);
    END IF;

    INSERT INTO darkroom.job_money (job_type, job_id, kind, amount)
    SELECT j.job_type, j.job_id, 'charge', j.cost FROM unnest(jobs) j WHERE j.job_type IN ({{types}}) AND j.cost > 0;
    UPDATE {{balances}} b SET {{balance column}} = b.{{balance column}} - d.needed
    FROM unnest(users, needed) d (user_id, needed)
    WHERE b.{{payer column}} = ANY ({{payers from users}}) AND b.{{payer column}} = {{payer from d.user_id}};
    -- the balances are read again, because a trigger or rule may have kept or changed one
    SELECT count(*) INTO kept FROM unnest(users, needed, available) d (user_id, needed, available)
    JOIN {{balances}} b ON b.{{payer column}} = {{payer from d.user_id}} AND b.{{balance column}} = d.available - d.needed
    WHERE b.{{payer column}} = ANY ({{payers from users}});
    PERFORM darkroom.require_booked('balances', cardinality(users), kept);
END $$;

--: end
-- Charge the jobs of one statement, all of them or none; return how many had a price. All jobs are charged by one set
-- of statements, because ten thousand may arrive at once. A session keeps the plans of these statements by the settings
-- of darkroom.enter, which calls this: see KEPT_PLANS in models/schema/terms.py.
CREATE OR REPLACE FUNCTION darkroom.charge(jobs darkroom.entering[], prices jsonb) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    wrong record;
    has_wrong_price boolean;
    users text[];
    needed jsonb;
    available jsonb;
    charged bigint;
    entered bigint;
    kept bigint;
    missing text;
BEGIN
    --: each job table with a balance of its own
    PERFORM darkroom.charge_{{rows}}(jobs);
    --: end
    {{keep jobs that are paid in tokens}}
    SELECT array_agg(d.user_id) FILTER (WHERE d.needed > 0), jsonb_object_agg(d.user_id, d.needed),
           bool_or(d.has_wrong_price), sum(d.charged)
    INTO users, needed, has_wrong_price, charged
    FROM (SELECT j.user_id, sum(j.cost) AS needed, count(*) FILTER (WHERE j.cost > 0) AS charged,
                 bool_or(j.cost IS DISTINCT FROM (prices ->> j.tier)::integer) AS has_wrong_price
          FROM unnest(jobs) j GROUP BY j.user_id) d;
    IF has_wrong_price THEN
        SELECT j.job_id, j.tier, j.cost, prices ->> j.tier AS price INTO wrong
        FROM unnest(jobs) j WHERE j.cost IS DISTINCT FROM (prices ->> j.tier)::integer LIMIT 1;
        RAISE EXCEPTION 'wrong price for job %: given %, expected %', wrong.job_id, wrong.cost, wrong.price
            USING ERRCODE = 'P0001', DETAIL = format('given %s, expected %s', wrong.cost, wrong.price),
                  HINT = format('a job of tier %s costs %s tokens', wrong.tier, wrong.price);
    END IF;
    IF users IS NULL THEN
        RETURN 0; -- all jobs are free
    END IF;
    missing := coalesce(
        darkroom.missing_column('public.user_token_balances'::regclass, 'id, "userId", balance, "updatedAt"'),
        darkroom.missing_column('public.token_transactions'::regclass,
                                'id, "userId", amount, type, source, "sourceId", "balanceAfter", "createdAt"'));
    IF missing IS NOT NULL THEN  -- a migration of the application may have dropped or renamed a column
        RAISE EXCEPTION 'no job can be charged: %', missing
            USING ERRCODE = '42703', HINT = 'darkroom db check says what is missing and what to do';
    END IF;
    available := darkroom.held_balances(users, needed);

    -- a charge is recorded for each row that is in the ledger as it was written
    WITH entered AS (
        INSERT INTO public.token_transactions
            (id, "userId", amount, type, source, "sourceId", "balanceAfter", "createdAt")
        SELECT darkroom.new_id(), j.user_id, -j.cost,
               ({{spend type of j.job_type}})
                   ::public."TokenTransactionType",
               {{source of j.job_type}},
               j.job_id, (available ->> j.user_id)::bigint
                   - sum(j.cost) OVER (PARTITION BY j.user_id ORDER BY j.ordinality),
               clock_timestamp() AT TIME ZONE 'utc' -- the balance is locked: times follow the order of balances
        FROM unnest(jobs) WITH ORDINALITY j WHERE j.cost > 0
        RETURNING "userId", "sourceId", amount)
    INSERT INTO darkroom.job_money (job_type, job_id, kind, amount)
    SELECT j.job_type, j.job_id, 'charge', j.cost FROM entered e
    JOIN unnest(jobs) j ON j.job_id = e."sourceId" AND j.user_id = e."userId" AND j.cost = -e.amount;
    GET DIAGNOSTICS entered = ROW_COUNT;
    kept := darkroom.take_tokens(users, needed, available);
    -- compared here first, because a PERFORM starts a query
    IF entered IS DISTINCT FROM charged OR kept IS DISTINCT FROM cardinality(users) THEN
        PERFORM darkroom.require_booked('charges in the ledger', charged, entered),
                darkroom.require_booked('balances', cardinality(users), kept);
    END IF;
    RETURN charged;
END $$;

--: each job table with a balance of its own
-- Refund the jobs that were paid from {{balances}}, each once and by the amount of its charge.
CREATE OR REPLACE FUNCTION darkroom.pay_back_{{rows}}(ended darkroom.change[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp {{kept plans}} AS $$
DECLARE
    payees text[] := ARRAY(SELECT DISTINCT e.user_id FROM unnest(ended) e WHERE e.job_type IN ({{types}}) ORDER BY 1);
    due bigint[];
    expected numeric;
    found_now numeric;
BEGIN
    IF cardinality(payees) = 0 THEN
        RETURN;
    END IF;
    -- a hidden charge or balance must not be treated as a missing one
    PERFORM darkroom.require_rows_shown(ARRAY['{{balances}}', 'darkroom.job_money']::regclass[]::oid[]);
    PERFORM 1 FROM {{balances}} b WHERE b.{{payer column}} = ANY ({{payers from payees}})
    ORDER BY b.{{payer column}} FOR NO KEY UPDATE;
    SELECT sum(b.{{balance column}}) INTO expected FROM {{balances}} b
    WHERE b.{{payer column}} = ANY ({{payers from payees}});
    WITH paid AS (
        INSERT INTO darkroom.job_money (job_type, job_id, kind, amount)
        SELECT m.job_type, m.job_id, 'refund', m.amount
        FROM unnest(ended) e
        CROSS JOIN LATERAL (SELECT c.* FROM darkroom.job_money c
                            WHERE c.job_type = e.job_type AND c.job_id = e.job_id AND c.kind = 'charge' OFFSET 0) m
        WHERE e.job_type IN ({{types}})
          AND EXISTS (SELECT FROM {{balances}} b WHERE b.{{payer column}} = {{payer from e.user_id}} OFFSET 0)
        ORDER BY m.job_type, m.job_id
        ON CONFLICT DO NOTHING
        RETURNING job_type, job_id, amount)
    SELECT array_agg(t.total ORDER BY t.place) INTO due
    FROM (SELECT u.place, coalesce(sum(paid.amount), 0) AS total FROM unnest(payees) WITH ORDINALITY u (id, place)
          LEFT JOIN unnest(ended) e ON e.user_id = u.id
          LEFT JOIN paid ON paid.job_type = e.job_type AND paid.job_id = e.job_id GROUP BY u.place) t;
    UPDATE {{balances}} b SET {{balance column}} = b.{{balance column}} + d.total
    FROM unnest(payees, due) d (user_id, total)
    WHERE b.{{payer column}} = ANY ({{payers from payees}}) AND d.total > 0
      AND b.{{payer column}} = {{payer from d.user_id}};
    SELECT sum(b.{{balance column}}) INTO found_now FROM {{balances}} b
    WHERE b.{{payer column}} = ANY ({{payers from payees}});
    IF found_now IS DISTINCT FROM expected + (SELECT sum(d.total) FROM unnest(due) d (total)) THEN
        PERFORM darkroom.require_booked('balances', cardinality(payees), NULL);
    END IF;
END $$;

--: end
-- Refund jobs, each once and by the amount of its charge. Jobs that were never charged, that were refunded before, or
-- whose user is deleted are left out. Only darkroom.refund calls this, and records the refunds that are refused here.
-- The plans are kept. A charge is found by its whole key, in a subquery for each job, which OFFSET 0 keeps apart.
CREATE OR REPLACE FUNCTION darkroom.pay_back(ended darkroom.change[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp {{kept plans}} AS $$
DECLARE
    payees text[];
    holders text[];
    balances bigint[];
    booked record;
BEGIN
    --: each job table with a balance of its own
    PERFORM darkroom.pay_back_{{rows}}(ended);
    --: end
    {{keep ends that are paid in tokens}}
    -- a hidden charge or user must not be treated as a missing one
    PERFORM darkroom.require_rows_shown(ARRAY['public.users', 'public.user_token_balances', 'public.token_transactions',
                                              'darkroom.job_money']::regclass[]::oid[]);
    payees := ARRAY(SELECT e.user_id FROM unnest(ended) e);
    payees := ARRAY(SELECT u.id FROM public.users u WHERE u.id = ANY (payees) ORDER BY u.id FOR KEY SHARE);
    PERFORM darkroom.open_balances(payees);
    SELECT array_agg(h."userId"), array_agg(h.balance) INTO holders, balances
    FROM (SELECT b."userId", b.balance FROM public.user_token_balances b WHERE b."userId" = ANY (payees)
          ORDER BY b."userId" FOR NO KEY UPDATE) h;

    WITH paid AS (
        INSERT INTO darkroom.job_money (job_type, job_id, kind, amount)
        SELECT m.job_type, m.job_id, 'refund', m.amount
        FROM unnest(ended) e
        JOIN unnest(payees) p (id) ON p.id = e.user_id
        CROSS JOIN LATERAL (SELECT c.* FROM darkroom.job_money c
                            WHERE c.job_type = e.job_type AND c.job_id = e.job_id AND c.kind = 'charge' OFFSET 0) m
        ORDER BY m.job_type, m.job_id
        ON CONFLICT DO NOTHING
        RETURNING job_type, job_id, amount),
    due AS MATERIALIZED (
        SELECT e.*, paid.amount,
               sum(paid.amount) OVER (PARTITION BY e.user_id) AS total,
               sum(paid.amount) OVER (PARTITION BY e.user_id ORDER BY e.ordinality) AS so_far
        FROM paid JOIN unnest(ended) WITH ORDINALITY e ON e.job_type = paid.job_type AND e.job_id = paid.job_id),
    totals AS (SELECT DISTINCT d.user_id, d.total FROM due d),
    credited AS (
        UPDATE public.user_token_balances b SET balance = b.balance + t.total, "updatedAt" = darkroom.utc_now()
        FROM totals t WHERE b."userId" = ANY (payees) AND b."userId" = t.user_id
        RETURNING b."userId", b.balance),
    entered AS (
        INSERT INTO public.token_transactions
            (id, "userId", amount, type, source, "sourceId", "balanceAfter", metadata, "createdAt")
        SELECT darkroom.new_id(), d.user_id, d.amount, 'REFUND',
               {{source of d.job_type}}
                   || CASE WHEN d.status IN ('CANCELLED', 'DELETED') THEN '_cancelled' ELSE '_failed' END,
               d.job_id, c.balance - d.total + d.so_far, jsonb_build_object('reason', d.reason),
               clock_timestamp() AT TIME ZONE 'utc'
        FROM due d JOIN credited c ON c."userId" = d.user_id RETURNING "userId", "sourceId", amount)
    SELECT (SELECT count(*) FROM due) AS due,
           (SELECT count(*) FROM entered e
            WHERE EXISTS (SELECT FROM due d WHERE d.job_id = e."sourceId" AND d.user_id = e."userId"
                                              AND d.amount = e.amount)) AS entered,
           (SELECT array_agg(t.user_id ORDER BY t.user_id) FROM totals t) AS users,
           (SELECT array_agg(h.balance + t.total ORDER BY t.user_id)
            FROM totals t LEFT JOIN unnest(holders, balances) h (user_id, balance) ON h.user_id = t.user_id) AS expected
    INTO booked;
    PERFORM darkroom.require_booked('refunds in the ledger', booked.due, booked.entered);
    PERFORM darkroom.require_balances(booked.users, booked.expected);
END $$;

-- Return the label for a failure that Darkroom decides itself: REFUNDED if the job was charged, else FAILED. In
-- producer mode, also pay the refund. In managed mode, the trigger of the statement that writes the label pays it,
-- whichever program writes it.
CREATE OR REPLACE FUNCTION darkroom.label_of_failure(failed_type text, failed_id text, payee text, reason text)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    cost integer;
BEGIN
    PERFORM darkroom.require_jobs_shown();
    CASE darkroom.money_mode()
    WHEN 'managed' THEN
        IF EXISTS (SELECT FROM darkroom.job_money m
                   WHERE m.job_type = failed_type AND m.job_id = failed_id AND m.kind = 'charge') THEN
            RETURN 'REFUNDED';
        END IF;
    WHEN 'producer' THEN
        SELECT j."tokensCost" INTO cost FROM darkroom.jobs_of(ARRAY[failed_id]) j WHERE j.type = failed_type;
        IF cost > 0 THEN
            -- the charge that the application made, recorded before it is refunded
            INSERT INTO darkroom.job_money VALUES (failed_type, failed_id, 'charge', cost) ON CONFLICT DO NOTHING;
            PERFORM darkroom.refund(
                ARRAY[ROW(failed_type, failed_id, payee, 'REFUNDED', NULL, reason)::darkroom.change]);
            RETURN 'REFUNDED';
        END IF;
    ELSE
        NULL;
    END CASE;
    RETURN 'FAILED';
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

-- Return every violation of the money promises, one row each; empty means that I3 and I7 hold. `darkroom tokens audit
-- --repair` can repair opening_missing, refund_missing and balance_low: no user loses a token by that.
CREATE OR REPLACE FUNCTION darkroom.violations_found()
RETURNS TABLE (promise text, violation text, user_id text, job_type text, job_id text, finding text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
SELECT 'I7' AS promise,
       CASE WHEN o.balance IS NULL THEN 'opening_missing'
            WHEN b.balance < o.balance + coalesce(l.total, 0) THEN 'balance_low'
            WHEN b.balance > o.balance + coalesce(l.total, 0) THEN 'balance_high'
            ELSE 'balance_negative' END AS violation,
       b."userId"::text AS user_id, NULL::text AS job_type, NULL::text AS job_id,
       format('balance %s, opening balance %s plus ledger %s', b.balance, coalesce(o.balance::text, 'not recorded'),
              coalesce(l.total, 0)) AS finding
FROM public.user_token_balances b
LEFT JOIN darkroom.opening_balances o ON o.user_id = b."userId"
LEFT JOIN (SELECT "userId", sum(amount) AS total FROM public.token_transactions GROUP BY 1) l ON l."userId" = b."userId"
WHERE darkroom.money_mode() = 'managed'
  AND (b.balance < 0 OR b.balance IS DISTINCT FROM o.balance + coalesce(l.total, 0))
UNION ALL
SELECT 'I3', 'refund_unmatched', NULL, r.job_type, r.job_id,
       format('refund of %s without a charge of that amount', r.amount)
FROM darkroom.job_money r
LEFT JOIN darkroom.job_money c ON c.job_type = r.job_type AND c.job_id = r.job_id AND c.kind = 'charge'
WHERE r.kind = 'refund' AND darkroom.money_mode() = 'managed' AND c.amount IS DISTINCT FROM r.amount
UNION ALL
SELECT 'I3', 'refund_missing', j."userId", j.type, j.id, format('charged, ended as %s, never refunded', j.status)
FROM darkroom.job_rows('{FAILED,REFUNDED,CANCELLED}') j
JOIN darkroom.job_money c ON c.job_type = j.type AND c.job_id = j.id AND c.kind = 'charge'
LEFT JOIN darkroom.job_money r ON r.job_type = c.job_type AND r.job_id = c.job_id AND r.kind = 'refund'
WHERE r.job_id IS NULL AND darkroom.money_mode() = 'managed'
  AND {{payer exists of j.type, j."userId"}} -- a job's row may outlast the user who paid for it
  -- a refund that the database refused to pay is owed (darkroom.refunds_owed), which is no violation
  AND NOT EXISTS (SELECT FROM darkroom.refused_ends e
                  WHERE e.job_type = c.job_type AND e.job_id = c.job_id AND e.owed > 0)
UNION ALL
-- A ledger row that another program wrote in addition to ours is found by the job's id alone, because jobs of both
-- tables may share an id. Jobs that the application charged by itself aren't checked.
SELECT 'I3', 'ledger_doubled', t."userId"::text, min(c.job_type), t."sourceId"::text,
       format('%s %s rows in the ledger, %s recorded', count(DISTINCT t.id), s.kind, count(DISTINCT k.job_type))
FROM public.token_transactions t
CROSS JOIN LATERAL (SELECT CASE WHEN t.type = 'REFUND' THEN 'refund' ELSE 'charge' END AS kind) s
JOIN darkroom.job_money c ON c.job_id = t."sourceId" AND c.kind = 'charge'
    AND c.job_type IN ({{types paid in tokens}})
LEFT JOIN darkroom.job_money k ON k.job_id = t."sourceId" AND k.kind = s.kind
    AND k.job_type IN ({{types paid in tokens}})
WHERE t.type IN ({{spend types}}, 'REFUND') AND darkroom.money_mode() = 'managed'
GROUP BY t."userId", t."sourceId", s.kind
HAVING count(DISTINCT t.id) > count(DISTINCT k.job_type)
UNION ALL
SELECT 'I4', 'completed_refunded', j."userId", j.type, j.id, 'completed and refunded'
FROM darkroom.job_rows('{COMPLETED}') j
JOIN darkroom.job_money r ON r.job_type = j.type AND r.job_id = j.id AND r.kind = 'refund'
$$;

-- Every violation of the promises about money; empty if there is none.
CREATE OR REPLACE VIEW darkroom.money_violations AS SELECT v.* FROM darkroom.violations_found() v;
