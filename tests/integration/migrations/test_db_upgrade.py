"""`db upgrade` and `db check` on databases whose tables Darkroom made."""

import asyncio
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from models.schema import migrate
from models.schema.migrations import comments, repeatable, revisions, session, triggers
from models.schema.migrations.errors import (
    DatabaseBusyError,
    InvalidSettingError,
    MigrationError,
    ModeChangeError,
    NewerDatabaseError,
    NotReadyError,
    RoleNotFoundError,
    UnusableSchemaError,
)
from models.schema.readiness import REVISIONS
from tests.support.patience import HANGS_AFTER_S

PRICES = {"FREE": 0, "TIER_1K": 2, "TIER_2K": 5, "TIER_4K": 10}

UPGRADE = f"""
import asyncio, sys
from models.schema import migrate
asyncio.run(migrate.upgrade(sys.argv[1], prices={PRICES!r}))
"""

CONTENTS = """
    SELECT nspname || '.' || relname AS name FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname IN ('public', 'darkroom')
    UNION ALL SELECT nspname || '.' || proname FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace
    WHERE nspname IN ('public', 'darkroom')
    UNION ALL SELECT nspname || '.' || typname FROM pg_type JOIN pg_namespace ON pg_namespace.oid = typnamespace
    WHERE nspname IN ('public', 'darkroom') AND typcategory = 'E'
    ORDER BY name
"""
LEFT_OVER = ["darkroom.alembic_version", "darkroom.alembic_version_pkc"]


async def kinds(url: str) -> list[str]:
    return [problem.kind for problem in await migrate.check(url)]


async def contents(db: asyncpg.Connection) -> list[str]:
    return [row["name"] for row in await db.fetch(CONTENTS)]


async def add_job(db: asyncpg.Connection) -> None:
    await db.execute("""
        INSERT INTO users (id, "updatedAt") VALUES ('u', now());
        INSERT INTO enhanced_images (id, "userId", name, "originalUrl", "originalR2Key", "originalWidth",
            "originalHeight", "originalSizeBytes", "originalFormat", "updatedAt")
            VALUES ('i', 'u', 'n', 'file:///k', 'k', 1, 1, 1, 'jpeg', now());
        INSERT INTO image_enhancement_jobs (id, "imageId", "userId", tier, "tokensCost", status, "updatedAt")
            VALUES ('j', 'i', 'u', 'FREE', 0, 'PENDING', now());
    """)


async def test_upgrade_on_an_empty_database_applies_both_branches(url: str) -> None:
    result = await migrate.upgrade(url, prices=PRICES)

    assert result.applied == (*REVISIONS["application"], *REVISIONS["darkroom"])
    assert (result.is_adopted, result.mode, result.mode_before) == (False, "managed", None)
    assert await migrate.check(url) == []
    recorded = await migrate.recorded(url)
    drained = [{"entry": "pictures", "name": "pictures", "schema": "public"}]
    own = {"installation": recorded.installation, "applications_at": recorded.applications_at}
    assert recorded == migrate.Recorded("managed", PRICES, "tokensCost", **own, applications=drained)


@pytest.mark.usefixtures("migrated")
async def test_second_upgrade_changes_nothing(url: str, db: asyncpg.Connection) -> None:
    before = await contents(db), await db.fetch("SELECT * FROM darkroom.settings ORDER BY key")

    result = await migrate.upgrade(url, prices=PRICES)

    assert result.applied == ()
    assert (await contents(db), await db.fetch("SELECT * FROM darkroom.settings ORDER BY key")) == before


@pytest.mark.usefixtures("migrated")
async def test_installation_gets_an_id_once_and_a_new_one_another(url: str, db: asyncpg.Connection) -> None:
    first = (await migrate.recorded(url)).installation

    await migrate.upgrade(url, prices=PRICES)

    assert (await migrate.recorded(url)).installation == first
    assert re.fullmatch("[0-9a-f]{16}", first)
    await db.execute("DELETE FROM darkroom.settings WHERE key = 'installation'")  # as of a release before ids
    await migrate.upgrade(url, prices=PRICES)
    assert (await migrate.recorded(url)).installation not in {"", first}


async def test_upgrade_through_an_engine_leaves_it_usable(url: str) -> None:
    engine = create_async_engine(url, poolclass=NullPool)
    await migrate.upgrade(engine, prices=PRICES)
    assert await migrate.check(engine) == []
    await engine.dispose()


async def test_downgrade_leaves_nothing_and_upgrade_works_again(url: str, db: asyncpg.Connection) -> None:
    await migrate.upgrade(url, prices=PRICES)
    there = await contents(db)

    await migrate.downgrade(url, "darkroom")
    assert [name for name in await contents(db) if name.startswith("darkroom.")] == LEFT_OVER
    assert await db.fetch("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal") == []
    await migrate.downgrade(url, "application")
    assert await contents(db) == LEFT_OVER
    await migrate.upgrade(url, prices=PRICES)

    assert await contents(db) == there


async def test_each_sql_file_is_applied_by_a_revision_or_is_repeatable() -> None:
    files = (revisions.HERE / "versions" / "darkroom").glob("*.py")
    appliers = (Path(module.__file__) for module in (repeatable, triggers, comments))
    text = "".join(path.read_text() for path in (*files, *appliers))
    there = [path.relative_to(session.MODELS) for path in sorted(session.MODELS.rglob("*.sql"))]
    of_applications = {path for path in there if path.parts[0] == "applications"}  # applied as `Application.sql`
    assert [path for path in there if f'"{path}"' not in text and path not in of_applications] == []
    assert there


async def test_upgrades_by_several_processes_at_once_all_succeed(url: str) -> None:
    start = [sys.executable, "-c", UPGRADE, url]
    root = Path(migrate.__file__).parents[2]
    processes = [
        await asyncio.create_subprocess_exec(*start, cwd=root, stderr=asyncio.subprocess.PIPE) for _ in range(3)
    ]
    ends = [((await process.communicate())[1].decode(), process.returncode) for process in processes]
    assert ends == [("", 0)] * 3
    assert await migrate.check(url) == []


async def test_upgrades_of_one_process_at_once_all_succeed(url: str) -> None:
    results = await asyncio.gather(*(migrate.upgrade(url, prices=PRICES) for _ in range(3)))
    assert sorted(len(result.applied) for result in results) == [0, 0, sum(map(len, REVISIONS.values()))]


async def test_upgrade_that_fails_leaves_nothing_behind(url: str, db: asyncpg.Connection) -> None:
    await db.execute("CREATE TABLE albums (id text)")
    with pytest.raises(UnusableSchemaError, match="table albums is there already"):
        await migrate.upgrade(url, prices=PRICES)
    assert await contents(db) == ["public.albums"]


@pytest.mark.usefixtures("migrated")
async def test_upgrade_with_a_table_locked_gives_up_and_names_the_cause(
    url: str, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrate.downgrade(url, "darkroom")
    monkeypatch.setattr(session, "LOCK_TIMEOUT_MS", 20)
    monkeypatch.setattr(migrate, "LOCK_ATTEMPTS", 2)
    async with db.transaction():
        await db.execute("LOCK TABLE image_enhancement_jobs IN ROW EXCLUSIVE MODE")
        with pytest.raises(DatabaseBusyError, match="2 times in a row"):
            await migrate.upgrade(url, prices=PRICES)
    await migrate.upgrade(url, prices=PRICES)
    assert await migrate.check(url) == []


@pytest.mark.usefixtures("migrated")
async def test_mode_changes_while_nothing_is_queued(url: str) -> None:
    result = await migrate.upgrade(url, prices=PRICES, mode="external")
    assert (result.mode_before, result.mode) == ("managed", "external")
    assert (await migrate.upgrade(url, prices=PRICES)).mode == "external"


@pytest.mark.usefixtures("migrated")
async def test_mode_change_with_an_unfinished_job_is_refused(url: str, db: asyncpg.Connection) -> None:
    await add_job(db)
    with pytest.raises(ModeChangeError, match="from managed to producer while 1 jobs are unfinished"):
        await migrate.upgrade(url, prices=PRICES, mode="producer")
    assert (await migrate.recorded(url)).mode == "managed"


@pytest.mark.usefixtures("migrated")
async def test_mode_change_to_managed_records_opening_balances_anew(url: str, db: asyncpg.Connection) -> None:
    await migrate.upgrade(url, prices=PRICES, mode="external")
    await db.execute("""
        INSERT INTO users (id, "updatedAt") VALUES ('u', now());
        INSERT INTO user_token_balances (id, "userId", balance, "updatedAt") VALUES ('b', 'u', 5, now());
        UPDATE user_token_balances SET balance = 9;
    """)
    await migrate.upgrade(url, prices=PRICES, mode="managed")
    assert await db.fetchval("SELECT balance FROM darkroom.opening_balances WHERE user_id = 'u'") == 9


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"mode": "free"}, "'free' is no mode of money"),
        ({"prices": {"FREE": 0}}, "prices are for FREE; the tiers are"),
        ({"prices": PRICES | {"TIER_1K": -1}}, "the price of TIER_1K is -1"),
        ({"prices": PRICES | {"TIER_1K": True}}, "the price of TIER_1K is True"),
        ({"cost_column": "maxRetries"}, "that column has a meaning of its own"),
    ],
)
async def test_upgrade_with_a_setting_that_cannot_be_is_refused(
    url: str, db: asyncpg.Connection, settings: dict[str, object], said: str
) -> None:
    with pytest.raises(InvalidSettingError, match=said):
        await migrate.upgrade(url, **({"prices": PRICES} | settings))
    assert await contents(db) == []


async def test_another_cost_column_on_our_own_tables_is_refused(url: str) -> None:
    with pytest.raises(UnusableSchemaError, match=r"jobs\.creditsCost is missing \(tokensCost is there"):
        await migrate.upgrade(url, prices=PRICES, cost_column="creditsCost")


@pytest.mark.usefixtures("migrated")
async def test_grant_lets_a_role_submit_and_nothing_else(url: str, db: asyncpg.Connection) -> None:
    role = 'app "role"'
    await db.execute('DROP ROLE IF EXISTS "app ""role"""; CREATE ROLE "app ""role"""')
    await migrate.upgrade(url, prices=PRICES, grant_role=role)
    may_cancel = "SELECT has_function_privilege($1, 'darkroom.cancel_job(text)', 'EXECUTE')"
    assert await db.fetchval(may_cancel, role)
    assert not await db.fetchval("SELECT has_table_privilege($1, 'darkroom.job_queue', 'SELECT')", role)
    await db.execute('DROP OWNED BY "app ""role"""; DROP ROLE "app ""role"""')


@pytest.mark.usefixtures("migrated")
async def test_upgrade_leaves_one_signature_of_submit_enhancement_and_who_may_call_it(
    url: str, db: asyncpg.Connection
) -> None:
    old = "darkroom.submit_enhancement(text, text, text, text, text, text)"
    await db.execute("DROP ROLE IF EXISTS producer_of_before; CREATE ROLE producer_of_before")
    await db.execute("DROP FUNCTION darkroom.submit_enhancement(text, text, text, text, text, text, text, timestamptz)")
    await db.execute(f"CREATE FUNCTION {old} RETURNS text LANGUAGE sql AS 'SELECT $1'")
    await db.execute(f"GRANT EXECUTE ON FUNCTION {old} TO producer_of_before")
    await db.execute("DELETE FROM darkroom.settings WHERE key = 'functions'")

    await migrate.upgrade(url, prices=PRICES)

    rows = await db.fetch(
        """SELECT pronargs, has_function_privilege('producer_of_before', oid, 'EXECUTE') AS may FROM pg_proc
           WHERE proname = 'submit_enhancement'"""
    )
    assert [tuple(row) for row in rows] == [(8, True)]
    await db.execute("DROP OWNED BY producer_of_before; DROP ROLE producer_of_before")


async def test_grant_to_an_unknown_role_changes_nothing(url: str, db: asyncpg.Connection) -> None:
    with pytest.raises(RoleNotFoundError, match="'nobody at all'"):
        await migrate.upgrade(url, prices=PRICES, grant_role="nobody at all")
    assert await contents(db) == []


async def test_check_of_an_empty_database_says_not_installed(url: str) -> None:
    assert await kinds(url) == ["not_installed"]


async def test_check_of_a_server_that_is_not_there_says_unreachable(tmp_path: Path) -> None:
    assert await kinds(f"postgresql+asyncpg://postgres@/nothing?host={tmp_path}") == ["unreachable"]


@pytest.mark.usefixtures("migrated")
async def test_check_of_a_branch_behind_says_so(url: str, db: asyncpg.Connection) -> None:
    await db.execute("UPDATE darkroom.alembic_version SET version_num = 'application_0001' WHERE version_num ~ '^app'")
    assert await kinds(url) == ["behind"]


@pytest.mark.usefixtures("migrated")
async def test_a_lost_trigger_is_found_and_repaired(url: str, db: asyncpg.Connection) -> None:
    definitions = "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1"
    before = await db.fetch(definitions)
    await db.execute("DROP TRIGGER darkroom_enter ON image_enhancement_jobs")
    assert await kinds(url) == ["trigger_missing"]

    await migrate.upgrade(url, prices=PRICES)

    assert await kinds(url) == []
    assert await db.fetch(definitions) == before


@pytest.mark.usefixtures("migrated")
async def test_lost_and_disabled_triggers_of_the_queue_are_found_and_repaired(url: str, db: asyncpg.Connection) -> None:
    made = "SELECT tgname FROM pg_trigger WHERE tgrelid = 'darkroom.job_queue'::regclass AND NOT tgisinternal"
    first, *others = [row[0] for row in await db.fetch(made)]
    await db.execute(f"ALTER TABLE darkroom.job_queue DISABLE TRIGGER {first}")
    for name in others:
        await db.execute(f"DROP TRIGGER {name} ON darkroom.job_queue")
    assert sorted(await kinds(url)) == ["trigger_missing"] * len(others) + ["trigger_off"]

    await migrate.upgrade(url, prices=PRICES)

    assert await kinds(url) == []


@pytest.mark.usefixtures("migrated")
async def test_a_disabled_trigger_is_found(url: str, db: asyncpg.Connection) -> None:
    await db.execute("ALTER TABLE mcp_generation_jobs DISABLE TRIGGER darkroom_enter")
    assert await kinds(url) == ["trigger_off"]


@pytest.mark.usefixtures("migrated")
async def test_a_newer_database_is_not_migrated_but_worked_on(url: str, db: asyncpg.Connection) -> None:
    await db.execute(
        "UPDATE darkroom.alembic_version SET version_num = 'darkroom_9999' WHERE version_num ~ '^darkroom'"
    )
    with pytest.raises(NewerDatabaseError, match="darkroom_9999"):
        await migrate.upgrade(url, prices=PRICES)
    assert await kinds(url) == ["ahead"]
    await migrate.wait_until_ready(url, timeout_s=0)


async def test_wait_until_ready_returns_after_the_migration(url: str) -> None:
    seen: list[str] = []
    looked = asyncio.Event()

    def on_wait(found: Sequence[migrate.Problem]) -> None:
        seen.extend(problem.kind for problem in found)
        looked.set()

    waiting = asyncio.create_task(migrate.wait_until_ready(url, timeout_s=HANGS_AFTER_S, poll_s=0.02, on_wait=on_wait))
    await looked.wait()
    await migrate.upgrade(url, prices=PRICES)
    await waiting
    assert seen[0] == "not_installed"


async def test_wait_until_ready_gives_up_in_time_and_says_why(url: str) -> None:
    with pytest.raises(NotReadyError, match=r"isn't ready after 0\.1 s: this database has no Darkroom schema"):
        await migrate.wait_until_ready(url, timeout_s=0.1, poll_s=0.02)


async def test_a_path_with_spaces_and_percent_signs_is_no_obstacle(tmp_path: Path, url: str) -> None:
    folder = tmp_path / "a b, 100%:c"
    shutil.copytree(session.MODELS, folder / "models")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", UPGRADE, url, cwd=folder, env={"PYTHONPATH": ""}, stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    assert (said.decode(), process.returncode) == ("", 0)


def test_every_refusal_is_a_migration_error() -> None:
    assert issubclass(UnusableSchemaError, MigrationError)
