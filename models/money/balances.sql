-- Charges and refunds of jobs that are paid from balances of an application's own, and darkroom.token_entries, which has
-- every change of these balances: for each user, the sum of the entries is the balance at every commit. An account is a
-- user's balance; job tables that are paid from the same balances share the accounts. Functions that hold SQL of a
-- description have the search_path of that description.

--: each job table with a balance of its own
-- Change balances in {{balances}} that the caller has locked, by amounts that are negative for charges; raise an error
-- if a trigger or rule kept a balance as it was, or changed it otherwise. The caller writes the entries of these changes,
-- so the trigger of the balances is told of them by a setting, from which it takes those that it sees. Whatever triggers
-- of the application change besides, in statements of their own, is seen as any other change.
CREATE OR REPLACE FUNCTION darkroom.change_{{rows}}_balances(of_payers text[], amounts integer[], balances_after bigint[])
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = {{search path}} {{kept plans}} AS $darkroom$
DECLARE
    outer_booking text := coalesce(current_setting('darkroom.booking', true), '');
    booking jsonb;
    kept bigint;
BEGIN
    PERFORM set_config('darkroom.booking', jsonb_build_object(
        '{{account}}', jsonb_build_object('due', jsonb_object(of_payers, amounts::text[])))::text, true);
    UPDATE {{balances}} b SET {{change from d.by_tokens}} FROM unnest(of_payers, amounts) d (of_payer, by_tokens)
    WHERE b.{{payer column}} = ANY ({{payers from of_payers}}) AND b.{{payer column}} = {{payer from d.of_payer}};
    booking := nullif(current_setting('darkroom.booking', true), '')::jsonb -> '{{account}}';
    PERFORM set_config('darkroom.booking', outer_booking, true);
    IF booking ->> 'seen' IS NOT NULL THEN
        kept := cardinality(of_payers) - (SELECT count(*) FROM jsonb_object_keys(booking -> 'due'));
    ELSE  -- the trigger is disabled or gone, or a rule made something else of the UPDATE
        SELECT count(*) INTO kept FROM unnest(of_payers, balances_after) d (of_payer, balance_after)
        JOIN {{balances}} b ON b.{{payer column}} = {{payer from d.of_payer}} AND {{balance}} = d.balance_after
        WHERE b.{{payer column}} = ANY ({{payers from of_payers}});
    END IF;
    PERFORM darkroom.require_booked('balances', cardinality(of_payers), kept);
END $darkroom$;

-- Lock balances in {{balances}} in the order of the ids, and return them in the order of the given ids, which are
-- text; a payer without a balance has 0. Raise an error that says which balance can't be read, or why none can.
CREATE OR REPLACE FUNCTION darkroom.lock_{{rows}}_balances(of_payers text[]) RETURNS bigint[]
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = {{search path}} {{kept plans}} AS $darkroom$
DECLARE
    unreadable text;
BEGIN
    BEGIN
        PERFORM 1 FROM {{balances}} b WHERE b.{{payer column}} = ANY ({{payers from of_payers}})
        ORDER BY b.{{payer column}} FOR NO KEY UPDATE;
        RETURN ARRAY(
            SELECT coalesce({{balance}}, 0)::integer FROM unnest(of_payers) WITH ORDINALITY u (of_payer, place)
            LEFT JOIN {{balances}} b
                ON b.{{payer column}} = ANY ({{payers from of_payers}}) AND b.{{payer column}} = {{payer from u.of_payer}}
            ORDER BY u.place);
    EXCEPTION
        WHEN data_exception THEN
            SELECT b.user_id INTO unreadable FROM darkroom.balances_of_{{account}}(of_payers) b
            WHERE b.balance IS NULL LIMIT 1;
            RAISE EXCEPTION 'balance of user % can''t be read: %', unreadable, SQLERRM
                USING ERRCODE = SQLSTATE, HINT = 'a balance is a whole number up to 2147483647';
        WHEN syntax_error_or_access_rule_violation THEN  -- a migration of the application dropped or renamed a column
            RAISE EXCEPTION 'balances of % can''t be read: %', {{application}}, SQLERRM
                USING ERRCODE = SQLSTATE, HINT = 'darkroom db check says what is missing and what to do';
    END;
END $darkroom$;

-- Charge the jobs of one statement that are paid from {{balances}}, all or none. The price is in the row.
CREATE OR REPLACE FUNCTION darkroom.charge_{{rows}}(jobs darkroom.entering[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp {{kept plans}} AS $$
DECLARE
    kind CONSTANT text := 'charge';
    wrong record;
    users text[];
    needed bigint[];
    available bigint[];
    of_users text[];
    of_jobs text[];
    amounts integer[];
    balances_after integer[];
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
    available := darkroom.lock_{{rows}}_balances(users);
    SELECT d.user_id, d.needed, d.available INTO wrong
    FROM unnest(users, needed, available) d (user_id, needed, available)
    WHERE d.available < d.needed ORDER BY d.user_id LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION {{too few}}, wrong.needed, wrong.available
            USING ERRCODE = 'P0001', DETAIL = format('needed %s, available %s', wrong.needed, wrong.available);
    END IF;

    INSERT INTO darkroom.job_money (job_type, job_id, kind, amount)
    SELECT j.job_type, j.job_id, 'charge', j.cost FROM unnest(jobs) j WHERE j.job_type IN ({{types}}) AND j.cost > 0;
    WITH entered AS (
        INSERT INTO darkroom.token_entries AS e (application, user_id, amount, kind, job_id, balance_after)
        SELECT {{application}}, j.user_id, -j.cost, 'charge', j.job_id,
               a.available - sum(j.cost) OVER (PARTITION BY j.user_id ORDER BY j.ordinality)
        FROM unnest(jobs) WITH ORDINALITY j JOIN unnest(users, available) a (user_id, available) USING (user_id)
        WHERE j.job_type IN ({{types}}) AND j.cost > 0 ORDER BY j.ordinality
        RETURNING e.id, e.user_id, e.amount, e.job_id, e.balance_after)
    SELECT array_agg(e.user_id ORDER BY e.id), array_agg(e.amount ORDER BY e.id), array_agg(e.job_id ORDER BY e.id),
           array_agg(e.balance_after ORDER BY e.id)
    INTO of_users, amounts, of_jobs, balances_after FROM entered e;
    PERFORM darkroom.change_{{rows}}_balances(
        users, ARRAY(SELECT (-n.needed)::integer FROM unnest(needed) WITH ORDINALITY n (needed, place) ORDER BY n.place),
        ARRAY(SELECT d.available - d.needed FROM unnest(available, needed) WITH ORDINALITY d (available, needed, place)
              ORDER BY d.place));
    {{write the ledger}}
END $$;

-- Refund the jobs that were paid from {{balances}}, each once and by the amount of its charge. A payer who has no
-- balance any more gets nothing.
CREATE OR REPLACE FUNCTION darkroom.pay_back_{{rows}}(ended darkroom.change[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp {{kept plans}} AS $$
DECLARE
    kind CONSTANT text := 'refund';
    payees text[] := ARRAY(SELECT DISTINCT e.user_id FROM unnest(ended) e WHERE e.job_type IN ({{types}}) ORDER BY 1);
    held bigint[];
    due record;
    of_users text[];
    of_jobs text[];
    amounts integer[];
    balances_after integer[];
BEGIN
    IF cardinality(payees) = 0 THEN
        RETURN;
    END IF;
    -- a hidden charge or balance must not be treated as a missing one
    PERFORM darkroom.require_rows_shown(ARRAY['{{balances}}', 'darkroom.job_money', 'darkroom.token_entries']
                                            ::regclass[]::oid[]);
    held := darkroom.lock_{{rows}}_balances(payees);
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
        RETURNING job_type, job_id, amount),
    entered AS (
        INSERT INTO darkroom.token_entries AS e (application, user_id, amount, kind, job_id, balance_after)
        SELECT {{application}}, c.user_id, p.amount, 'refund', c.job_id,
               h.held + sum(p.amount) OVER (PARTITION BY c.user_id ORDER BY c.ordinality)
        FROM paid p JOIN unnest(ended) WITH ORDINALITY c ON c.job_type = p.job_type AND c.job_id = p.job_id
        JOIN unnest(payees, held) h (user_id, held) ON h.user_id = c.user_id ORDER BY c.ordinality
        RETURNING e.id, e.user_id, e.amount, e.job_id, e.balance_after)
    SELECT array_agg(e.user_id ORDER BY e.id), array_agg(e.amount ORDER BY e.id), array_agg(e.job_id ORDER BY e.id),
           array_agg(e.balance_after ORDER BY e.id)
    INTO of_users, amounts, of_jobs, balances_after FROM entered e;
    IF of_users IS NULL THEN
        RETURN;
    END IF;
    SELECT array_agg(t.user_id ORDER BY t.user_id) AS users, array_agg(t.total::integer ORDER BY t.user_id) AS totals,
           array_agg(h.held + t.total ORDER BY t.user_id)::bigint[] AS expected
    INTO due
    FROM (SELECT m.user_id, sum(m.amount) AS total FROM unnest(of_users, amounts) m (user_id, amount) GROUP BY 1) t
    JOIN unnest(payees, held) h (user_id, held) ON h.user_id = t.user_id;
    PERFORM darkroom.change_{{rows}}_balances(due.users, due.totals, due.expected);
    {{write the ledger}}
END $$;

--: end
--: each job table with a ledger of its own
-- Record movements of one kind in the application's own ledger, by the statement of the description, once for each.
CREATE OR REPLACE FUNCTION darkroom.write_{{rows}}_ledger(
    of_users text[], amounts integer[], kind text, of_jobs text[], balances_after integer[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = {{search path}} AS $darkroom$
BEGIN
    FOR number IN 1..cardinality(of_users) LOOP
        EXECUTE {{ledger statement}}
            USING of_users[number], amounts[number], kind, of_jobs[number], balances_after[number];
    END LOOP;
END $darkroom$;

--: end
--: each job table that opens accounts
-- Return the balance in a row of {{balances}}, given as JSON; NULL if it can't be read as a whole number of the type
-- integer, as every balance of ours is.
CREATE OR REPLACE FUNCTION darkroom.balance_in_{{account}}(of_row jsonb) RETURNS bigint
LANGUAGE plpgsql STABLE
SET search_path = {{search path}} AS $darkroom$
BEGIN
    RETURN (SELECT coalesce({{balance}}, 0)::integer FROM jsonb_populate_record(NULL::{{balances}}, of_row) b);
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END $darkroom$;

-- Return the balances of users in {{balances}}, of all users if none are named; NULL where one can't be read. Rows are
-- read one by one only where a set of them can't be.
CREATE OR REPLACE FUNCTION darkroom.balances_of_{{account}}(of_payers text[] DEFAULT NULL)
RETURNS TABLE (user_id text, balance bigint)
LANGUAGE plpgsql STABLE
SET search_path = {{search path}} AS $darkroom$
#variable_conflict use_column
DECLARE
    are_readable boolean := true;
BEGIN
    BEGIN
        IF of_payers IS NULL THEN
            PERFORM count({{balance}}::integer) FROM {{balances}} b WHERE b.{{payer column}} IS NOT NULL;
        ELSE
            PERFORM count({{balance}}::integer) FROM {{balances}} b
            WHERE b.{{payer column}} = ANY ({{payers from of_payers}});
        END IF;
    EXCEPTION WHEN data_exception THEN
        are_readable := false;
    END;
    IF of_payers IS NULL THEN
        RETURN QUERY SELECT {{payer}}, CASE WHEN are_readable THEN coalesce({{balance}}, 0)::bigint
                                            ELSE darkroom.balance_in_{{account}}(to_jsonb(b)) END
                     FROM {{balances}} b WHERE b.{{payer column}} IS NOT NULL;
    ELSE
        RETURN QUERY SELECT {{payer}}, CASE WHEN are_readable THEN coalesce({{balance}}, 0)::bigint
                                            ELSE darkroom.balance_in_{{account}}(to_jsonb(b)) END
                     FROM {{balances}} b WHERE b.{{payer column}} = ANY ({{payers from of_payers}});
    END IF;
END $darkroom$;

-- Return whether a user has a balance in {{balances}}. Where a migration of the application dropped or renamed what
-- tells that, nobody is taken for a deleted user: a refund is owed then, and not lost.
CREATE OR REPLACE FUNCTION darkroom.has_balance_of_{{account}}(of_payer text) RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp {{kept plans}} AS $$
BEGIN
    RETURN EXISTS (SELECT FROM {{balances}} b WHERE b.{{payer column}} = {{payer from of_payer}});
EXCEPTION WHEN syntax_error_or_access_rule_violation THEN
    RETURN true;
END $$;

-- Write an entry for each of some users that opens the account: what the entries, if there are any of an earlier life,
-- don't explain of the balance. The balance is read now, because what a trigger of the application added to it since
-- the row was inserted is recorded already. An account whose balance can't be read stays unopened, which the audit finds.
-- Return how many accounts were opened.
CREATE OR REPLACE FUNCTION darkroom.open_accounts_of_{{account}}(of_payers text[]) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp {{kept plans}} AS $$
DECLARE
    opened bigint;
BEGIN
    INSERT INTO darkroom.token_entries (application, user_id, amount, kind, balance_after)
    SELECT {{application}}, b.user_id, b.balance - coalesce(e.total, 0), 'opening', b.balance
    FROM darkroom.balances_of_{{account}}(of_payers) b
    LEFT JOIN (SELECT t.user_id, sum(t.amount) AS total FROM darkroom.token_entries t
               WHERE t.application = {{application}} AND t.user_id = ANY (of_payers) GROUP BY t.user_id) e
        ON e.user_id = b.user_id
    WHERE abs(b.balance - coalesce(e.total, 0)) <= 2147483647
    ORDER BY b.user_id;
    GET DIAGNOSTICS opened = ROW_COUNT;
    RETURN opened;
END $$;

-- AFTER INSERT of balances: opens the accounts. Where a migration of the application has dropped or renamed a column
-- that we read, its statements go on, here and when it updates balances: charges are refused, and db check tells why.
CREATE OR REPLACE FUNCTION darkroom.enter_balances_of_{{account}}() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    BEGIN
        PERFORM darkroom.balances_of_{{account}}('{}');
    EXCEPTION WHEN syntax_error_or_access_rule_violation THEN
        RETURN NULL;
    END;
    PERFORM darkroom.open_accounts_of_{{account}}(
        ARRAY(SELECT {{payer}} FROM rows_after b WHERE b.{{payer column}} IS NOT NULL));
    RETURN NULL;
END $$;

-- AFTER UPDATE of balances: records every change that isn't a charge or a refund of ours, and lets the entries follow a
-- user whose id changed. Then rows before and after are told apart by their place, which is the same in both tables. What
-- can't be read isn't recorded, and the audit finds it.
CREATE OR REPLACE FUNCTION darkroom.follow_balances_of_{{account}}() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = {{search path}} {{kept plans}} AS $darkroom$
DECLARE
    booking jsonb := nullif(current_setting('darkroom.booking', true), '')::jsonb;
    due jsonb := coalesce(booking -> '{{account}}' -> 'due', '{}');
    is_renamed boolean;
    are_readable boolean := true;
    taken text[];
    users_before text[];
    users_now text[];
BEGIN
    BEGIN
        is_renamed := EXISTS (
            SELECT FROM rows_before b
            WHERE NOT EXISTS (SELECT FROM rows_after a WHERE a.{{payer column}} = b.{{payer column}}));
        PERFORM count({{balance}}::integer) FROM (SELECT o.* FROM rows_before o UNION ALL SELECT n.* FROM rows_after n) b;
    EXCEPTION
        WHEN data_exception THEN
            are_readable := false;
        WHEN syntax_error_or_access_rule_violation THEN
            RETURN NULL;
    END;
    WITH changed AS MATERIALIZED (
        SELECT o.of_user AS of_user_before, n.of_user, n.balance - o.balance AS by_tokens, n.balance
        FROM (SELECT CASE WHEN is_renamed THEN (row_number() OVER ())::text ELSE {{payer}} END AS place,
                     {{payer}} AS of_user,
                     CASE WHEN are_readable THEN coalesce({{balance}}, 0)::bigint
                          ELSE darkroom.balance_in_{{account}}(to_jsonb(b)) END AS balance FROM rows_before b) o
        JOIN (SELECT CASE WHEN is_renamed THEN (row_number() OVER ())::text ELSE {{payer}} END AS place,
                     {{payer}} AS of_user,
                     CASE WHEN are_readable THEN coalesce({{balance}}, 0)::bigint
                          ELSE darkroom.balance_in_{{account}}(to_jsonb(b)) END AS balance FROM rows_after b) n
            ON n.place = o.place),
    entered AS (
        INSERT INTO darkroom.token_entries (application, user_id, amount, kind, balance_after)
        SELECT {{application}}, c.of_user_before, c.by_tokens, 'other', c.balance FROM changed c
        WHERE c.by_tokens <> 0 AND abs(c.by_tokens) <= 2147483647
          AND (due ->> c.of_user)::bigint IS DISTINCT FROM c.by_tokens)
    SELECT array_agg(c.of_user) FILTER (WHERE (due ->> c.of_user)::bigint = c.by_tokens),
           array_agg(c.of_user_before) FILTER (WHERE c.of_user_before <> c.of_user),
           array_agg(c.of_user) FILTER (WHERE c.of_user_before <> c.of_user)
    INTO taken, users_before, users_now FROM changed c;
    IF due <> '{}' THEN
        PERFORM set_config('darkroom.booking', jsonb_build_object(
            '{{account}}', jsonb_build_object('due', due - coalesce(taken, '{}'), 'seen', true))::text, true);
    END IF;
    IF is_renamed THEN
        PERFORM darkroom.rename_accounts_of_{{account}}(users_before, users_now);
    END IF;
    RETURN NULL;
END $darkroom$;

-- Let entries, and queued jobs, follow users whose ids changed. Entries of an earlier user with the new id, who is
-- deleted, stay, and are set off by one more.
CREATE OR REPLACE FUNCTION darkroom.rename_accounts_of_{{account}}(of_payers_before text[], of_payers text[])
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp {{kept plans}} AS $$
BEGIN
    WITH moved AS (
        UPDATE darkroom.token_entries e SET user_id = m.after
        FROM unnest(of_payers_before, of_payers) m (before, after)
        WHERE e.application = {{application}} AND e.user_id = ANY (of_payers_before) AND e.user_id = m.before)
    INSERT INTO darkroom.token_entries (application, user_id, amount, kind, balance_after)
    SELECT {{application}}, e.user_id, -sum(e.amount), 'other', min(b.balance)
    FROM darkroom.token_entries e
    JOIN darkroom.balances_of_{{account}}(of_payers) b ON b.user_id = e.user_id AND b.balance IS NOT NULL
    WHERE e.application = {{application}} AND e.user_id = ANY (of_payers) AND e.user_id <> ALL (of_payers_before)
    GROUP BY e.user_id HAVING sum(e.amount) <> 0;
    PERFORM darkroom.follow_users(ARRAY[{{account types}}], of_payers_before, of_payers);
END $$;

-- Settle an account whose entries don't explain its balance, for which somebody changed it around the triggers: raise a
-- balance that is below the sum of its entries, and record what it has beyond it. So no user loses a token. Return the
-- balance and the sum as they were, and as they both are now; no row if nothing was to be settled.
CREATE OR REPLACE FUNCTION darkroom.settle_account_of_{{account}}(of_payer text)
RETURNS TABLE (balance bigint, entries bigint, settled bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    balance := (darkroom.lock_{{rows}}_balances(ARRAY[of_payer]))[1];
    IF NOT EXISTS (SELECT FROM darkroom.balances_of_{{account}}(ARRAY[of_payer])) THEN
        RETURN;
    END IF;
    SELECT sum(e.amount) INTO entries FROM darkroom.token_entries e
    WHERE e.application = {{application}} AND e.user_id = of_payer;
    settled := greatest(balance, entries);
    IF balance IS NOT DISTINCT FROM entries THEN
        RETURN;
    ELSIF entries IS NULL THEN
        PERFORM darkroom.open_accounts_of_{{account}}(ARRAY[of_payer]);
    ELSIF balance > entries THEN
        INSERT INTO darkroom.token_entries (application, user_id, amount, kind, balance_after)
        VALUES ({{application}}, of_payer, balance - entries, 'other', balance);
    ELSE
        PERFORM darkroom.change_{{rows}}_balances(ARRAY[of_payer], ARRAY[(entries - balance)::integer], ARRAY[entries]);
    END IF;
    RETURN NEXT;
END $$;

--: end
-- Return the accounts whose balances aren't the sums of their entries, of all users or of some, and balances that are
-- negative or can't be read: all of an application, where its migration dropped or renamed a column.
CREATE OR REPLACE FUNCTION darkroom.unsettled_accounts(of_payers text[] DEFAULT NULL)
RETURNS TABLE (application text, user_id text, violation text, finding text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    --: each job table that opens accounts
    BEGIN
        RETURN QUERY
            SELECT {{application}}, b.user_id,
                   CASE WHEN b.balance IS NULL THEN 'account_unreadable' WHEN e.total IS NULL THEN 'account_unopened'
                        WHEN b.balance < e.total THEN 'account_low' WHEN b.balance > e.total THEN 'account_high'
                        ELSE 'account_negative' END,
                   format('%s: balance of user %s is %s, sum of entries %s', {{application}}, b.user_id,
                          coalesce(b.balance::text, 'no whole number up to 2147483647'),
                          coalesce(e.total::text, 'not recorded'))
            FROM darkroom.balances_of_{{account}}(of_payers) b
            LEFT JOIN (SELECT t.user_id, sum(t.amount) AS total FROM darkroom.token_entries t
                       WHERE t.application = {{application}} AND (of_payers IS NULL OR t.user_id = ANY (of_payers))
                       GROUP BY 1) e ON e.user_id = b.user_id
            WHERE b.balance IS NULL OR b.balance < 0 OR b.balance IS DISTINCT FROM e.total;
    EXCEPTION WHEN syntax_error_or_access_rule_violation THEN
        RETURN QUERY SELECT {{application}}, NULL::text, 'account_unreadable',
                            format('%s: no balance can be read: %s', {{application}}, SQLERRM);
    END;
    --: end
    RETURN;
END $$;

-- Settle the account about which `unsettled_accounts` says something: see settle_account_of_....
CREATE OR REPLACE FUNCTION darkroom.settle_account(of_payer text, of_finding text)
RETURNS TABLE (balance bigint, entries bigint, settled bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    of_application text;
BEGIN
    SELECT a.application INTO of_application FROM darkroom.unsettled_accounts(ARRAY[of_payer]) a
    WHERE a.finding = of_finding;
    --: each job table that opens accounts
    IF of_application = {{application}} THEN
        RETURN QUERY SELECT s.* FROM darkroom.settle_account_of_{{account}}(of_payer) s;
    END IF;
    --: end
    RETURN;
END $$;
