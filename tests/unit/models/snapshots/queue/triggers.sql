-- The triggers on the application's tables. Their names start with "darkroom", so that the application's own triggers
-- keep their order. None has a WHEN clause or a list of columns: PostgreSQL would refuse to alter columns that those
-- name.

CREATE TRIGGER darkroom_enter AFTER INSERT ON public.image_enhancement_jobs
    REFERENCING NEW TABLE AS entering_rows FOR EACH STATEMENT EXECUTE FUNCTION darkroom.enter_enhancements();
CREATE TRIGGER darkroom_check_columns BEFORE INSERT ON public.image_enhancement_jobs
    FOR EACH STATEMENT EXECUTE FUNCTION darkroom.check_enhancement_columns();
CREATE TRIGGER darkroom_guard_status BEFORE UPDATE ON public.image_enhancement_jobs
    FOR EACH ROW EXECUTE FUNCTION darkroom.guard_enhancement();
CREATE TRIGGER darkroom_follow_update AFTER UPDATE ON public.image_enhancement_jobs
    REFERENCING OLD TABLE AS rows_before NEW TABLE AS rows_after
    FOR EACH STATEMENT EXECUTE FUNCTION darkroom.follow_enhancements();
CREATE TRIGGER darkroom_follow_delete AFTER DELETE ON public.image_enhancement_jobs
    REFERENCING OLD TABLE AS rows_before FOR EACH STATEMENT EXECUTE FUNCTION darkroom.follow_enhancements();
CREATE TRIGGER darkroom_follow_truncate BEFORE TRUNCATE ON public.image_enhancement_jobs
    FOR EACH STATEMENT EXECUTE FUNCTION darkroom.follow_truncated_enhancements();

CREATE TRIGGER darkroom_enter AFTER INSERT ON public.mcp_generation_jobs
    REFERENCING NEW TABLE AS entering_rows FOR EACH STATEMENT EXECUTE FUNCTION darkroom.enter_generations();
CREATE TRIGGER darkroom_check_columns BEFORE INSERT ON public.mcp_generation_jobs
    FOR EACH STATEMENT EXECUTE FUNCTION darkroom.check_generation_columns();
CREATE TRIGGER darkroom_guard_status BEFORE UPDATE ON public.mcp_generation_jobs
    FOR EACH ROW EXECUTE FUNCTION darkroom.guard_generation();
CREATE TRIGGER darkroom_follow_update AFTER UPDATE ON public.mcp_generation_jobs
    REFERENCING OLD TABLE AS rows_before NEW TABLE AS rows_after
    FOR EACH STATEMENT EXECUTE FUNCTION darkroom.follow_generations();
CREATE TRIGGER darkroom_follow_delete AFTER DELETE ON public.mcp_generation_jobs
    REFERENCING OLD TABLE AS rows_before FOR EACH STATEMENT EXECUTE FUNCTION darkroom.follow_generations();
CREATE TRIGGER darkroom_follow_truncate BEFORE TRUNCATE ON public.mcp_generation_jobs
    FOR EACH STATEMENT EXECUTE FUNCTION darkroom.follow_truncated_generations();

CREATE TRIGGER darkroom_fill_pipeline BEFORE INSERT ON public.image_enhancement_jobs
    FOR EACH ROW EXECUTE FUNCTION darkroom.fill_pipeline();

CREATE TRIGGER darkroom_follow_user AFTER UPDATE ON public.users
    FOR EACH ROW EXECUTE FUNCTION darkroom.follow_user();

CREATE TRIGGER darkroom_guard_ledger BEFORE UPDATE OR DELETE ON public.token_transactions
    FOR EACH ROW EXECUTE FUNCTION darkroom.guard_ledger();
CREATE CONSTRAINT TRIGGER darkroom_opening_balance AFTER INSERT ON public.user_token_balances
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION darkroom.record_opening_balance();
