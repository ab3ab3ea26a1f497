-- Charges and refunds of jobs that are paid from balances of an application's own, and darkroom.token_entries, which has
-- every change of these balances: for each user, the sum of the entries is the balance at every commit. An account is a
-- user's balance; job tables that are paid from the same balances share the accounts. Functions that hold SQL of a
-- description have the search_path of that description.

-- Return the accounts whose balances aren't the sums of their entries, of all users or of some, and balances that are
-- negative or can't be read: all of an application, where its migration dropped or renamed a column.
CREATE OR REPLACE FUNCTION darkroom.unsettled_accounts(of_payers text[] DEFAULT NULL)
RETURNS TABLE (application text, user_id text, violation text, finding text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
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
    RETURN;
END $$;
