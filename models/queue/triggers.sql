-- The triggers on the application's tables. Their names start with "darkroom", so that the application's own triggers
-- keep their order. None has a WHEN clause or a list of columns: PostgreSQL would refuse to alter columns that those
-- name.

--: each job table
CREATE TRIGGER darkroom_enter AFTER INSERT ON {{table}}
    REFERENCING NEW TABLE AS entering_rows FOR EACH STATEMENT EXECUTE FUNCTION darkroom.enter_{{rows}}();
CREATE TRIGGER darkroom_check_columns BEFORE INSERT ON {{table}}
    FOR EACH STATEMENT EXECUTE FUNCTION darkroom.check_{{row}}_columns();
CREATE TRIGGER darkroom_guard_status BEFORE UPDATE ON {{table}}
    FOR EACH ROW EXECUTE FUNCTION darkroom.guard_{{row}}();
CREATE TRIGGER darkroom_follow_update AFTER UPDATE ON {{table}}
    REFERENCING OLD TABLE AS rows_before NEW TABLE AS rows_after
    FOR EACH STATEMENT EXECUTE FUNCTION darkroom.follow_{{rows}}();
CREATE TRIGGER darkroom_follow_delete AFTER DELETE ON {{table}}
    REFERENCING OLD TABLE AS rows_before FOR EACH STATEMENT EXECUTE FUNCTION darkroom.follow_{{rows}}();
CREATE TRIGGER darkroom_follow_truncate BEFORE TRUNCATE ON {{table}}
    FOR EACH STATEMENT EXECUTE FUNCTION darkroom.follow_truncated_{{rows}}();

--: end
--: each job table whose rows are filled
CREATE TRIGGER darkroom_fill_pipeline BEFORE INSERT ON {{table}}
    FOR EACH ROW EXECUTE FUNCTION {{fill function}};

--: end
--: if a job table is paid in tokens
CREATE TRIGGER darkroom_follow_user AFTER UPDATE ON public.users
    FOR EACH ROW EXECUTE FUNCTION darkroom.follow_user();

CREATE TRIGGER darkroom_guard_ledger BEFORE UPDATE OR DELETE ON public.token_transactions
    FOR EACH ROW EXECUTE FUNCTION darkroom.guard_ledger();
CREATE CONSTRAINT TRIGGER darkroom_opening_balance AFTER INSERT ON public.user_token_balances
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION darkroom.record_opening_balance();
--: end
--: each job table that opens accounts

CREATE TRIGGER darkroom_enter_balances_of_{{account}} AFTER INSERT ON {{balances}}
    REFERENCING NEW TABLE AS rows_after
    FOR EACH STATEMENT EXECUTE FUNCTION darkroom.enter_balances_of_{{account}}();
CREATE TRIGGER darkroom_follow_balances_of_{{account}} AFTER UPDATE ON {{balances}}
    REFERENCING OLD TABLE AS rows_before NEW TABLE AS rows_after
    FOR EACH STATEMENT EXECUTE FUNCTION darkroom.follow_balances_of_{{account}}();
--: end
