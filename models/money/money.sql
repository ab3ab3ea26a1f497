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
    --: if a job table is paid in tokens
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
    --: end
    --: if no job table is paid in tokens
    RETURN 0;
    --: end
END $$;

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
    --: if a job table is paid in tokens
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
    --: end
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

-- Write what opens the accounts of users who have none yet, because their balances are older than the triggers; return
-- how many were opened. Balances of an application's own that no trigger watches yet are left out: what is changed before
-- the trigger stands would be missed.
CREATE OR REPLACE FUNCTION darkroom.record_openings() RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    recorded bigint := 0;
BEGIN
    --: if a job table is paid in tokens
    recorded := recorded + darkroom.record_opening_balances();
    --: end
    --: each job table that opens accounts
    IF EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = to_regclass('{{balances}}')
                                          AND t.tgname = 'darkroom_follow_balances_of_{{account}}') THEN
        recorded := recorded + darkroom.open_accounts_of_{{account}}(ARRAY(
            SELECT b.user_id FROM darkroom.balances_of_{{account}}() b
            WHERE NOT EXISTS (SELECT FROM darkroom.token_entries e
                              WHERE e.application = {{application}} AND e.user_id = b.user_id AND e.kind = 'opening')));
    END IF;
    --: end
    RETURN recorded;
END $$;

--: if a job table whose ids come again
-- Return the charges and refunds of all jobs, also of those whose ids later jobs have. Inlined into the calling query.
CREATE OR REPLACE FUNCTION darkroom.money_moves()
RETURNS TABLE (job_type text, job_id text, kind text, amount integer, at timestamptz)
LANGUAGE sql STABLE AS $$
    SELECT m.job_type, m.job_id, m.kind, m.amount, m.at FROM darkroom.job_money m
    UNION ALL SELECT e.job_type, e.job_id, e.kind, e.amount, e.at FROM darkroom.earlier_money e
$$;

--: end
-- Return every violation of the money promises, one row each; empty means that I3 and I7 hold. `darkroom tokens audit
-- --repair` can repair opening_missing, refund_missing, balance_low and what is wrong about accounts, but for a negative
-- balance: no user loses a token by that.
CREATE OR REPLACE FUNCTION darkroom.violations_found()
RETURNS TABLE (promise text, violation text, user_id text, job_type text, job_id text, finding text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
--: if a job table is paid in tokens
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
--: end
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
--: if a job table is paid in tokens
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
--: end
UNION ALL
SELECT 'I4', 'completed_refunded', j."userId", j.type, j.id, 'completed and refunded'
FROM darkroom.job_rows('{COMPLETED}') j
JOIN darkroom.job_money r ON r.job_type = j.type AND r.job_id = j.id AND r.kind = 'refund'
--: if a job table that opens accounts
UNION ALL
SELECT 'I7', a.violation, a.user_id, NULL, NULL, a.finding FROM darkroom.unsettled_accounts() a
--: end
--: each job table that opens accounts
UNION ALL
-- Counted, because jobs of several tables may share an id. In producer mode a charge, which is the application's own, is
-- recorded with its refund and has no entry.
SELECT 'I3', 'entry_missing', NULL, m.job_type, m.job_id,
       format('%s: %s of %s recorded %s times, %s entries', {{application}}, m.kind, m.amount, m.times, e.times)
FROM (SELECT c.job_id, c.kind, c.amount, count(*) AS times, min(c.job_type) AS job_type FROM darkroom.money_moves() c
      WHERE c.job_type IN ({{account types}})
        AND NOT (c.kind = 'charge' AND EXISTS (
            SELECT FROM darkroom.money_moves() r
            WHERE r.job_type = c.job_type AND r.job_id = c.job_id AND r.kind = 'refund' AND r.at = c.at))
      GROUP BY 1, 2, 3) m
CROSS JOIN LATERAL (SELECT count(*) AS times FROM darkroom.token_entries t
                    WHERE t.application = {{application}} AND t.job_id = m.job_id AND t.kind = m.kind
                      AND abs(t.amount) = m.amount) e
WHERE m.times > e.times
UNION ALL
SELECT 'I3', 'entry_unmatched', e.user_id, NULL, e.job_id,
       format('%s: %s entries of %s %s, recorded %s times', {{application}}, e.times, e.kind, e.amount, m.times)
FROM (SELECT t.job_id, t.kind, t.amount, count(*) AS times, min(t.user_id) AS user_id FROM darkroom.token_entries t
      WHERE t.application = {{application}} AND t.kind IN ('charge', 'refund') GROUP BY 1, 2, 3) e
CROSS JOIN LATERAL (SELECT count(*) AS times FROM darkroom.money_moves() c
                    WHERE c.job_type IN ({{account types}}) AND c.job_id = e.job_id AND c.kind = e.kind
                      AND c.amount = abs(e.amount)) m
WHERE e.times > m.times
--: end
$$;

-- Every violation of the promises about money; empty if there is none.
CREATE OR REPLACE VIEW darkroom.money_violations AS SELECT v.* FROM darkroom.violations_found() v;
