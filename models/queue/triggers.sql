-- The triggers on the application's tables. They start with "darkroom", so that theirs keep their order.

CREATE TRIGGER darkroom_enter AFTER INSERT ON public.image_enhancement_jobs
    REFERENCING NEW TABLE AS entering_rows FOR EACH STATEMENT EXECUTE FUNCTION darkroom.enter_enhancements();
CREATE TRIGGER darkroom_enter AFTER INSERT ON public.mcp_generation_jobs
    REFERENCING NEW TABLE AS entering_rows FOR EACH STATEMENT EXECUTE FUNCTION darkroom.enter_generations();

CREATE TRIGGER darkroom_fill_pipeline BEFORE INSERT ON public.image_enhancement_jobs
    FOR EACH ROW WHEN (NEW."pipelineId" IS NULL AND NEW.status = 'PENDING') EXECUTE FUNCTION darkroom.fill_pipeline();

CREATE TRIGGER darkroom_guard_status BEFORE UPDATE ON public.image_enhancement_jobs
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION darkroom.guard_status();
CREATE TRIGGER darkroom_guard_status BEFORE UPDATE ON public.mcp_generation_jobs
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION darkroom.guard_status();

CREATE TRIGGER darkroom_guard_identity BEFORE UPDATE ON public.image_enhancement_jobs
    FOR EACH ROW WHEN ((OLD.id, OLD."userId", OLD."imageId", OLD.tier, OLD."tokensCost", OLD."isBlend")
        IS DISTINCT FROM (NEW.id, NEW."userId", NEW."imageId", NEW.tier, NEW."tokensCost", NEW."isBlend"))
    EXECUTE FUNCTION darkroom.guard_identity();
CREATE TRIGGER darkroom_guard_identity BEFORE UPDATE ON public.mcp_generation_jobs
    FOR EACH ROW WHEN ((OLD.id, OLD."userId", OLD.type, OLD.tier, OLD."tokensCost")
        IS DISTINCT FROM (NEW.id, NEW."userId", NEW.type, NEW.tier, NEW."tokensCost"))
    EXECUTE FUNCTION darkroom.guard_identity();

CREATE TRIGGER darkroom_follow_update AFTER UPDATE ON public.image_enhancement_jobs
    REFERENCING OLD TABLE AS rows_before NEW TABLE AS rows_after
    FOR EACH STATEMENT EXECUTE FUNCTION darkroom.follow_enhancements();
CREATE TRIGGER darkroom_follow_delete AFTER DELETE ON public.image_enhancement_jobs
    REFERENCING OLD TABLE AS rows_before FOR EACH STATEMENT EXECUTE FUNCTION darkroom.follow_enhancements();
CREATE TRIGGER darkroom_follow_update AFTER UPDATE ON public.mcp_generation_jobs
    REFERENCING OLD TABLE AS rows_before NEW TABLE AS rows_after
    FOR EACH STATEMENT EXECUTE FUNCTION darkroom.follow_generations();
CREATE TRIGGER darkroom_follow_delete AFTER DELETE ON public.mcp_generation_jobs
    REFERENCING OLD TABLE AS rows_before FOR EACH STATEMENT EXECUTE FUNCTION darkroom.follow_generations();

CREATE TRIGGER darkroom_follow_user AFTER UPDATE OF id ON public.users
    FOR EACH ROW WHEN (OLD.id <> NEW.id) EXECUTE FUNCTION darkroom.follow_user();

CREATE TRIGGER darkroom_guard_ledger BEFORE UPDATE OR DELETE ON public.token_transactions
    FOR EACH ROW EXECUTE FUNCTION darkroom.guard_ledger();
CREATE CONSTRAINT TRIGGER darkroom_opening_balance AFTER INSERT ON public.user_token_balances
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION darkroom.record_opening_balance();
