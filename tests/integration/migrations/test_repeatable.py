"""Functions, views, triggers and tables of ours that somebody changed or dropped: they are reported, and made again."""

import asyncio

import asyncpg
import pytest

from models.queue import leases
from models.schema import migrate
from models.schema.migrations import repeatable
from models.schema.migrations.errors import ColumnTypeError, DatabaseBusyError, DependentObjectError
from models.schema.readiness import OWN_HEAD

PRICES = {"FREE": 0, "TIER_1K": 2, "TIER_2K": 5, "TIER_4K": 10}

CHANGES = {
    "a view that is dropped": ("DROP VIEW darkroom.jobs CASCADE", "view darkroom.jobs is missing"),
    "a function that is dropped": (
        "DROP FUNCTION darkroom.paused_times CASCADE",
        "function darkroom.paused_times is missing",
    ),
    "a function that is changed": (
        "CREATE OR REPLACE FUNCTION darkroom.may_notify() RETURNS boolean LANGUAGE sql AS 'SELECT false'",
        "function darkroom.may_notify isn't as",
    ),
    "a function whose settings are changed": (
        "ALTER FUNCTION darkroom.charge RESET ALL",
        "function darkroom.charge isn't as",
    ),
    "a second signature": (
        "CREATE FUNCTION darkroom.cancel_job(job_id text, why text) RETURNS text LANGUAGE sql AS 'SELECT $1'",
        "function darkroom.cancel_job isn't as",
    ),
    "a view of other columns": (
        "DROP VIEW darkroom.refunds_owed; CREATE VIEW darkroom.refunds_owed AS SELECT 1 AS one",
        "view darkroom.refunds_owed isn't as",
    ),
    "a table that is dropped": ("DROP TABLE darkroom.ticks", "table darkroom.ticks is missing"),
    "the queue that is dropped": ("DROP TABLE darkroom.job_queue CASCADE", "table darkroom.job_queue is missing"),
    "a column that is dropped": (
        "ALTER TABLE darkroom.provider_calls DROP COLUMN problem",
        "column darkroom.provider_calls.problem is missing",
    ),
    "a column of another type": (
        "ALTER TABLE darkroom.workers ALTER COLUMN lanes TYPE bigint",
        "column darkroom.workers.lanes is bigint, not integer",
    ),
    "a column of another type with a default": (
        "ALTER TABLE darkroom.objects ALTER COLUMN written_at DROP DEFAULT, ALTER COLUMN written_at TYPE text",
        "column darkroom.objects.written_at is text, not timestamp with time zone",
    ),
    "a column of another precision": (
        "ALTER TABLE darkroom.cost_days ALTER COLUMN cost_usd TYPE numeric(9, 2)",
        "column darkroom.cost_days.cost_usd is numeric(9,2), not numeric(14,6)",
    ),
    "a column of a partitioned table": (
        "ALTER TABLE darkroom.stage_runs ALTER COLUMN duration_ms TYPE text",
        "column darkroom.stage_runs.duration_ms is text, not integer",
    ),
    "an index that is dropped": (
        "DROP INDEX darkroom.job_queue_claim_idx",
        "index darkroom.job_queue_claim_idx is missing",
    ),
    "a sequence that is dropped": (
        "DROP SEQUENCE darkroom.wake_ups_sent_seq CASCADE",
        "sequence darkroom.wake_ups_sent_seq is missing",
    ),
    "a trigger of another form": (
        (
            "CREATE OR REPLACE TRIGGER darkroom_guard_status BEFORE UPDATE ON image_enhancement_jobs "
            "FOR EACH ROW WHEN (OLD.status <> NEW.status) EXECUTE FUNCTION darkroom.guard_enhancement()"
        ),
        "trigger image_enhancement_jobs.darkroom_guard_status isn't as",
    ),
    "a trigger that is dropped": (
        "DROP TRIGGER darkroom_follow_user ON users",
        "trigger users.darkroom_follow_user is gone",
    ),
    "a trigger of an earlier release": (
        "CREATE TRIGGER darkroom_of_before AFTER UPDATE ON users FOR EACH ROW EXECUTE FUNCTION darkroom.follow_user()",
        "trigger users.darkroom_of_before is of an earlier",
    ),
    "an application's table made anew without our triggers": (
        (
            "ALTER TABLE api_keys RENAME TO old_keys; CREATE TABLE new_jobs (LIKE mcp_generation_jobs INCLUDING ALL); "
            "DROP TABLE mcp_generation_jobs; ALTER TABLE new_jobs RENAME TO mcp_generation_jobs; "
            "ALTER TABLE old_keys RENAME TO api_keys"
        ),
        "trigger mcp_generation_jobs.darkroom_enter is gone",
    ),
}

WITH_OTHERS = ("a view that is dropped", "the queue that is dropped")
"""Changes that take away what others of them change."""

STATE = """
SELECT p.oid::regprocedure::text, md5(p.prosrc || coalesce(p.proconfig::text, '')) FROM pg_proc p
WHERE p.pronamespace = 'darkroom'::regnamespace
UNION ALL
SELECT tgrelid::regclass::text, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
UNION ALL
SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index
WHERE indrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'darkroom'::regnamespace)
UNION ALL
SELECT c.relname, string_agg(a.attname || format_type(a.atttypid, a.atttypmod) || a.attnotnull, ',' ORDER BY a.attname)
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = 'darkroom'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND a.attnum > 0
  AND NOT a.attisdropped GROUP BY c.oid
ORDER BY 1, 2
"""


@pytest.mark.usefixtures("migrated")
@pytest.mark.parametrize(
    "cases",
    [
        pytest.param(WITH_OTHERS, id="those that take others away"),
        pytest.param(tuple(case for case in CHANGES if case not in WITH_OTHERS), id="all others"),
        *(pytest.param((case,), id=case, marks=pytest.mark.proof) for case in CHANGES),
    ],
)
async def test_changes_of_ours_are_named_by_check_and_mended_by_upgrade(
    url: str, db: asyncpg.Connection, cases: tuple[str, ...]
):
    before = await db.fetch(STATE)

    for case in cases:
        await db.execute(CHANGES[case][0])
    found = [problem.message for problem in await migrate.check(url)]
    result = await migrate.upgrade(url, prices=PRICES)

    assert [case for case in cases if not any(message.startswith(CHANGES[case][1]) for message in found)] == [], found
    assert result.replaced
    assert await migrate.check(url) == []
    assert await db.fetch(STATE) == before
    assert (await migrate.upgrade(url, prices=PRICES)).replaced == ()


@pytest.mark.usefixtures("migrated")
async def test_object_that_is_dropped_and_made_anew_keeps_every_grant(url: str, db: asyncpg.Connection):
    await db.execute("""
        DROP ROLE IF EXISTS "re:port""er"; CREATE ROLE "re:port""er";
        GRANT SELECT ON darkroom.jobs TO "re:port""er" WITH GRANT OPTION;
        GRANT SELECT (id, "tokensCost"), UPDATE (status) ON darkroom.jobs TO "re:port""er";
        GRANT SELECT (provider) ON darkroom.provider_calls TO PUBLIC;
        GRANT SELECT ON darkroom.refunds_owed TO PUBLIC;
        GRANT EXECUTE ON FUNCTION darkroom.job_rows TO "re:port""er" WITH GRANT OPTION;
        GRANT EXECUTE ON FUNCTION darkroom.price TO PUBLIC""")
    held = """
        SELECT relname, aclexplode(relacl)::text FROM pg_class WHERE relnamespace = 'darkroom'::regnamespace
        UNION ALL SELECT proname, aclexplode(proacl)::text FROM pg_proc WHERE pronamespace = 'darkroom'::regnamespace
        UNION ALL SELECT attrelid::regclass || '.' || attname, aclexplode(attacl)::text FROM pg_attribute
        ORDER BY 1, 2"""
    before = await db.fetch(held)

    # what a release with other columns and another result finds
    await db.execute("""
        CREATE TEMP TABLE texts AS SELECT pg_get_functiondef('darkroom.price'::regproc) AS price;
        DO $$ BEGIN EXECUTE (SELECT replace(replace(price, 'FUNCTION darkroom.price', 'FUNCTION darkroom.other'),
                                            'integer', 'bigint') FROM texts); END $$;
        DROP FUNCTION darkroom.price CASCADE; ALTER FUNCTION darkroom.other RENAME TO price;
        GRANT EXECUTE ON FUNCTION darkroom.price TO PUBLIC;
        ALTER VIEW darkroom.jobs RENAME COLUMN url TO address""")
    await migrate.upgrade(url, prices=PRICES)

    assert await db.fetch(held) == before
    assert await migrate.check(url) == []
    await db.execute('DROP OWNED BY "re:port""er"; DROP ROLE "re:port""er"')


@pytest.mark.usefixtures("migrated")
async def test_role_that_could_use_everything_can_use_what_is_new(url: str, db: asyncpg.Connection):
    await db.execute("""
        DROP VIEW darkroom.jobs; DROP FUNCTION darkroom.job_rows; DROP TABLE darkroom.orphans;
        DROP ROLE IF EXISTS worker_of_before; CREATE ROLE worker_of_before;
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA darkroom TO worker_of_before;
        GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA darkroom TO worker_of_before""")

    await migrate.upgrade(url, prices=PRICES)

    assert await db.fetchval(
        "SELECT has_function_privilege('worker_of_before', 'darkroom.job_rows(text[])', 'EXECUTE')"
    )
    for table in ("jobs", "orphans"):
        assert await db.fetchval("SELECT has_table_privilege('worker_of_before', $1, 'SELECT')", f"darkroom.{table}")
    await db.execute("DROP OWNED BY worker_of_before; DROP ROLE worker_of_before")


@pytest.mark.usefixtures("migrated")
async def test_reading_role_is_recorded_and_gets_again_what_it_lost(url: str, db: asyncpg.Connection):
    may = "SELECT has_function_privilege('reads_once', 'darkroom.job_status(text)', 'EXECUTE')"
    await db.execute("DROP ROLE IF EXISTS reads_once; CREATE ROLE reads_once")
    await migrate.upgrade(url, prices=PRICES, grant_read_role="reads_once")
    assert await db.fetchval(may)
    assert not await db.fetchval("SELECT has_function_privilege('reads_once', 'darkroom.cancel_job(text)', 'EXECUTE')")

    await db.execute("REVOKE EXECUTE ON FUNCTION darkroom.job_status FROM reads_once")
    (problem,) = await migrate.check(url)
    assert problem.kind == "grant_lost"
    await migrate.upgrade(url, prices=PRICES)
    assert await db.fetchval(may)
    await db.execute("DROP OWNED BY reads_once; DROP ROLE reads_once")


@pytest.mark.usefixtures("migrated")
async def test_role_that_was_granted_before_there_was_job_status_may_call_it(url: str, db: asyncpg.Connection):
    await db.execute("DROP ROLE IF EXISTS granted_early; CREATE ROLE granted_early")
    await migrate.upgrade(url, prices=PRICES, grant_role="granted_early")
    await db.execute("DROP FUNCTION darkroom.job_status(text)")
    await db.execute("DELETE FROM darkroom.settings WHERE key = 'objects'")

    await migrate.upgrade(url, prices=PRICES)

    assert await db.fetchval("SELECT has_function_privilege('granted_early', 'darkroom.job_status(text)', 'EXECUTE')")
    await db.execute("DROP OWNED BY granted_early; DROP ROLE granted_early")


@pytest.mark.usefixtures("migrated")
async def test_granted_role_is_recorded_and_gets_again_what_it_lost(url: str, db: asyncpg.Connection):
    await db.execute("DROP ROLE IF EXISTS granted_once; CREATE ROLE granted_once")
    await migrate.upgrade(url, prices=PRICES, grant_role="granted_once")
    await db.execute("DROP FUNCTION darkroom.cancel_job(text)")

    assert "function darkroom.cancel_job is missing" in (await migrate.check(url))[0].message
    await migrate.upgrade(url, prices=PRICES)
    assert await db.fetchval("SELECT has_function_privilege('granted_once', 'darkroom.cancel_job(text)', 'EXECUTE')")

    await db.execute("REVOKE EXECUTE ON FUNCTION darkroom.cancel_job FROM granted_once")
    (problem,) = await migrate.check(url)
    assert (problem.kind, problem.is_reason_to_wait) == ("grant_lost", False)
    await migrate.upgrade(url, prices=PRICES)
    assert await migrate.check(url) == []

    await db.execute("DROP OWNED BY granted_once; DROP ROLE granted_once")
    await migrate.upgrade(url, prices=PRICES)  # of a role that is gone nothing is wanted
    assert await migrate.check(url) == []


@pytest.mark.usefixtures("migrated")
async def test_renamed_cost_column_is_named_and_upgrade_follows_it(url: str, db: asyncpg.Connection):
    for table in ("image_enhancement_jobs", "mcp_generation_jobs"):
        await db.execute(f'ALTER TABLE {table} RENAME "tokensCost" TO "creditsCost"')

    found = await migrate.check(url)
    assert {problem.kind for problem in found} == {"unusable"}
    assert all("set DARKROOM_COST_COLUMN=creditsCost, then run darkroom db upgrade" in one.message for one in found)

    await migrate.upgrade(url, prices=PRICES, cost_column="creditsCost")

    assert await migrate.check(url) == []
    assert (await migrate.recorded(url)).cost_column == "creditsCost"
    assert await db.fetch('SELECT "creditsCost" FROM darkroom.jobs') == []


@pytest.mark.usefixtures("migrated")
async def test_upgrade_never_stands_in_the_queue_behind_an_idle_transaction(
    url: str, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
):
    await db.execute("DROP TRIGGER darkroom_enter ON image_enhancement_jobs")
    monkeypatch.setattr(migrate, "LOCK_ATTEMPTS", 2)
    producer = await asyncpg.connect(url.replace("+asyncpg", ""))
    waits = """SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'image_enhancement_jobs'::regclass"""
    waited = []
    async with db.transaction():
        await db.execute("UPDATE image_enhancement_jobs SET id = id")
        upgrading = asyncio.create_task(migrate.upgrade(url, prices=PRICES))
        while not upgrading.done():
            waited.append(await producer.fetchval(waits))
            await asyncio.sleep(0.01)
        with pytest.raises(DatabaseBusyError) as refused:
            await upgrading
    assert "image_enhancement_jobs is held by a transaction that is idle" in str(refused.value.__cause__)
    assert not any(waited)
    await producer.close()
    assert (await migrate.upgrade(url, prices=PRICES)).replaced == ("image_enhancement_jobs.darkroom_enter",)


@pytest.mark.usefixtures("migrated")
async def test_column_that_cannot_have_its_type_again_is_named_and_nothing_changes(url: str, db: asyncpg.Connection):
    await db.execute("ALTER TABLE darkroom.workers ALTER COLUMN lanes TYPE text")
    await db.execute("""INSERT INTO darkroom.workers (id, host, pid, queues, lanes, lease_expires_at)
                        VALUES (gen_random_uuid(), 'h', 1, '{}', 'many', now())""")

    with pytest.raises(ColumnTypeError, match=r"darkroom\.workers\.lanes is text, not integer"):
        await migrate.upgrade(url, prices=PRICES)

    assert await db.fetchval("SELECT lanes FROM darkroom.workers") == "many"


@pytest.mark.usefixtures("migrated")
async def test_upgrade_holds_no_table_while_it_waits_for_the_next(url: str, db: asyncpg.Connection):
    for table in ("image_enhancement_jobs", "mcp_generation_jobs"):
        await db.execute(f"DROP TRIGGER darkroom_enter ON {table}")
    producer = await asyncpg.connect(url.replace("+asyncpg", ""))
    held = """SELECT count(*) FROM pg_locks WHERE granted AND mode = 'ShareRowExclusiveLock'
              AND relation = 'image_enhancement_jobs'::regclass"""
    is_held = []
    async with db.transaction():
        await db.execute("UPDATE mcp_generation_jobs SET id = id")
        working = asyncio.create_task(db.execute("SELECT pg_sleep(1.2)"))  # no idle transaction: it is waited for
        upgrading = asyncio.create_task(migrate.upgrade(url, prices=PRICES))
        while not working.done():
            is_held.append(bool(await producer.fetchval(held)))
            await asyncio.sleep(0.01)
        await working
    await upgrading

    spells = [one for one, before in zip(is_held, [False, *is_held], strict=False) if one and not before]
    assert len(spells) > 1, "it lets go of the first table between two tries"
    await producer.close()
    assert await migrate.check(url) == []


@pytest.mark.usefixtures("migrated")
async def test_upgrade_that_replaces_no_trigger_waits_for_no_table(url: str, db: asyncpg.Connection):
    async with db.transaction():
        await db.execute("LOCK TABLE image_enhancement_jobs, mcp_generation_jobs, users IN ROW EXCLUSIVE MODE")
        await migrate.upgrade(url, prices=PRICES)


@pytest.mark.usefixtures("migrated")
async def test_what_somebody_else_built_on_our_view_is_named(url: str, db: asyncpg.Connection):
    await db.execute("""
        ALTER VIEW darkroom.jobs RENAME COLUMN url TO address;
        CREATE VIEW public.report AS SELECT id FROM darkroom.jobs""")

    with pytest.raises(DependentObjectError, match=r"view darkroom\.jobs has to be dropped.*view report depends on"):
        await migrate.upgrade(url, prices=PRICES)

    await db.execute("DROP VIEW public.report")
    await migrate.upgrade(url, prices=PRICES)
    assert await migrate.check(url) == []


@pytest.mark.usefixtures("migrated")
async def test_function_of_the_release_before_stays_while_one_of_its_workers_lives(url: str, db: asyncpg.Connection):
    await db.execute("""
        CREATE FUNCTION darkroom.settle_failure(text, text, text, text) RETURNS "JobStatus" LANGUAGE sql
            AS 'SELECT NULL::public."JobStatus"';
        INSERT INTO darkroom.workers (id, host, pid, queues, lanes, lease_expires_at)
            VALUES (gen_random_uuid(), 'h', 1, '{}', 1, now() + interval '1 hour')""")

    await migrate.upgrade(url, prices=PRICES)
    assert await db.fetchval("SELECT count(*) FROM pg_proc WHERE proname = 'settle_failure'") == 1
    assert await migrate.check(url) == []

    await db.execute("UPDATE darkroom.workers SET lease_expires_at = now()")
    (problem,) = await migrate.check(url)
    assert (problem.kind, problem.is_reason_to_wait) == ("left_over", False)
    await migrate.upgrade(url, prices=PRICES)
    assert await db.fetchval("SELECT count(*) FROM pg_proc WHERE proname = 'settle_failure'") == 0


@pytest.mark.usefixtures("migrated")
async def test_foreign_function_in_our_schema_is_left_alone(url: str, db: asyncpg.Connection):
    await db.execute("CREATE FUNCTION darkroom.somebodys() RETURNS integer LANGUAGE sql AS 'SELECT 1'")
    await migrate.upgrade(url, prices=PRICES)
    assert await db.fetchval("SELECT darkroom.somebodys()") == 1


def test_workers_say_the_newest_revision():
    assert OWN_HEAD == leases.REVISION


def test_functions_kept_for_old_workers_are_made_by_no_file():
    names = {one.name for one in repeatable.wanted("tokensCost")}
    assert names.isdisjoint(repeatable.KEPT_WHILE_OLD_WORKERS_LIVE)
