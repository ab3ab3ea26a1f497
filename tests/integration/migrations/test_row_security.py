"""Row-level security on tables that Darkroom uses: Darkroom works, or refuses and names the table."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from config.postgres_url import parse_postgres_url
from models.database import Database
from models.queue.refusals import settle_refused_ends
from models.queue.rescue import adopt_jobs
from models.schema import migrate
from models.schema.migrations.errors import HiddenRowsError
from tests.integration.migrations.conftest import made, url_of
from tests.support.builders import balance_of, claim_jobs, make_image, make_job, make_user, money_violations, set_status

PRICES = {"FREE": 0, "TIER_1K": 2, "TIER_2K": 5, "TIER_4K": 10}

ROLES = """
DO $$ BEGIN CREATE ROLE rls_owner LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
DO $$ BEGIN CREATE ROLE rls_worker LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
ALTER ROLE rls_owner NOBYPASSRLS;
"""
GRANTS = """
GRANT USAGE ON SCHEMA public, darkroom TO rls_worker;
GRANT ALL ON ALL TABLES IN SCHEMA public, darkroom TO rls_worker;
GRANT ALL ON ALL SEQUENCES IN SCHEMA darkroom TO rls_worker;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA darkroom TO rls_worker;
"""
TABLES = (
    "public.image_enhancement_jobs",
    "public.mcp_generation_jobs",
    "public.user_token_balances",
    "public.users",
    "public.albums",
    "darkroom.job_queue",
    "darkroom.settings",
)
FULL = "CREATE POLICY full_{0} ON {1} TO {2} USING (true) WITH CHECK (true)"


@pytest.fixture(scope="session")
def owners_template(server: Path) -> str:
    """Name of a database that a role has migrated which owns it and nothing else."""

    async def make() -> None:
        connection = await asyncpg.connect(host=str(server), user="postgres", database="postgres")
        await connection.execute(ROLES)
        await connection.execute("CREATE DATABASE owners TEMPLATE template0 OWNER rls_owner")
        await connection.close()
        connection = await asyncpg.connect(host=str(server), user="postgres", database="owners")
        await connection.execute("ALTER SCHEMA public OWNER TO rls_owner")
        await connection.close()
        await migrate.upgrade(url_of(server, "owners", "rls_owner"), prices=PRICES)

    asyncio.run(make())
    return "owners"


@pytest.fixture
async def url(server: Path, owners_template: str) -> AsyncIterator[str]:
    """The superuser's way to a copy of it."""
    name = f"t{uuid4().hex[:12]}"
    async with made(server, name, f"TEMPLATE {owners_template} OWNER rls_owner"):
        yield url_of(server, name)


@pytest.fixture
def owned(url: str) -> str:
    """The owner's."""
    return url.replace("postgres@", "rls_owner@")


@pytest.fixture
async def database(owned: str) -> AsyncIterator[Database]:
    """The owner's way to it."""
    database = Database(parse_postgres_url(owned.replace("+asyncpg", "")), most_connections=3)
    await database.open()
    yield database
    await database.close()


async def hidden_from(url: str) -> list[str]:
    """Return the problems that a check finds, each begun with its kind."""
    return [f"{problem.kind} {problem.message}" for problem in await migrate.check(url)]


async def force(db: asyncpg.Connection, table: str) -> None:
    await db.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY; ALTER TABLE {table} FORCE ROW LEVEL SECURITY")


@pytest.mark.parametrize("table", TABLES)
async def test_forced_row_security_is_refused_by_the_tables_name(
    owned: str, db: asyncpg.Connection, table: str
) -> None:
    await force(db, table)

    (found,) = await hidden_from(owned)
    assert found.startswith(f"rows_hidden row-level security hides rows of {table} from role rls_owner: ")
    with pytest.raises(HiddenRowsError, match=f"hides rows of {table}"):
        await migrate.upgrade(owned, prices=PRICES)


async def test_row_security_that_does_not_apply_to_the_owner_is_no_problem(owned: str, db: asyncpg.Connection) -> None:
    for table in TABLES:
        await db.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")

    assert await hidden_from(owned) == []
    assert (await migrate.upgrade(owned, prices=PRICES)).applied == ()


async def test_row_security_is_refused_for_a_worker_that_is_not_the_owner(
    owned: str, url: str, db: asyncpg.Connection
) -> None:
    await db.execute(GRANTS)
    workers = url.replace("postgres@", "rls_worker@")
    assert await hidden_from(workers) == []
    await db.execute("ALTER TABLE public.enhanced_images ENABLE ROW LEVEL SECURITY")

    (found,) = await hidden_from(workers)
    assert "public.enhanced_images from role rls_worker" in found
    assert await hidden_from(owned) == []


@pytest.mark.parametrize(
    ("policies", "is_shown"),
    [
        (("USING (true) WITH CHECK (true)",), True),
        (("USING (true)",), True),
        (
            (
                "FOR SELECT USING (true)",
                "FOR INSERT WITH CHECK (true)",
                "FOR UPDATE USING (true)",
                "FOR DELETE USING (true)",
            ),
            True,
        ),
        (("FOR SELECT USING (true)",), False),
        (("USING (true) WITH CHECK (status <> 'FAILED')",), False),
        (("USING (\"userId\" = current_setting('app.user', true))",), False),
        (("USING (true)", "AS RESTRICTIVE USING (status <> 'FAILED')"), False),
        (("TO postgres USING (true)",), False),
        (("TO rls_owner USING (true)",), True),
    ],
)
async def test_policies_count_by_what_they_really_show(
    owned: str, db: asyncpg.Connection, policies: tuple[str, ...], *, is_shown: bool
) -> None:
    await force(db, "public.image_enhancement_jobs")
    for number, policy in enumerate(policies):
        await db.execute(f"CREATE POLICY p{number} ON public.image_enhancement_jobs {policy}")

    assert (await hidden_from(owned) == []) == is_shown


async def test_jobs_run_where_a_policy_shows_everything(owned: str, db: asyncpg.Connection) -> None:
    for table in TABLES:
        await force(db, table)
        await db.execute(FULL.format(table.rpartition(".")[2], table, "rls_owner"))
    assert await hidden_from(owned) == []
    database = Database(parse_postgres_url(owned.replace("+asyncpg", "")), most_connections=2)
    await database.open()
    try:
        job = await make_job(database)
        assert [one.job_id for one in await claim_jobs(database)] == [job]
        await set_status(database, job, "CANCELLED")
        assert await adopt_jobs(database) == (0, 0)
        assert await money_violations(database) == []
    finally:
        await database.close()


@pytest.mark.parametrize("table", [table for table in TABLES if table != "public.albums"])
async def test_row_security_enabled_while_jobs_wait_loses_none_and_charges_none(
    database: Database, db: asyncpg.Connection, table: str
) -> None:
    user = await make_user(database, balance=10)
    image = await make_image(database, user)
    job = await make_job(database, user_id=user, image_id=image)
    await force(db, table)

    with pytest.raises(asyncpg.InsufficientPrivilegeError, match=table.rpartition(".")[2]):
        await make_job(database, user_id=user, image_id=image)
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match=table.rpartition(".")[2]):
        await adopt_jobs(database)
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match=table.rpartition(".")[2]):
        await db.fetch("SELECT * FROM darkroom.left_behind(0, 0, '[]', 10)")

    await db.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
    assert await balance_of(database, user) == 8
    assert await adopt_jobs(database) == (0, 0)
    assert [one.job_id for one in await claim_jobs(database)] == [job]
    assert await money_violations(database) == []


CANCEL = "UPDATE public.image_enhancement_jobs SET status = 'CANCELLED' WHERE id = $1"


@pytest.mark.parametrize(
    ("table", "is_refused"),
    [
        ("public.users", True),
        ("darkroom.job_money", True),
        ("darkroom.refused_ends", True),
        ("public.user_token_balances", False),
        ("public.token_transactions", False),
        ("public.mcp_generation_jobs", False),
    ],
)
async def test_cancellation_while_rows_are_hidden_is_refused_or_paid_back_in_the_end(
    database: Database, db: asyncpg.Connection, table: str, *, is_refused: bool
) -> None:
    user = await make_user(database, balance=10)
    job = await make_job(database, user_id=user)
    await force(db, table)

    if is_refused:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match=table.rpartition(".")[2]):
            await db.execute(CANCEL, job)
    else:
        await db.execute(CANCEL, job)

    await db.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
    if is_refused:
        await db.execute(CANCEL, job)
    await db.execute("UPDATE darkroom.refused_ends SET tried_at = now() - interval '1 day'")
    await settle_refused_ends(database)
    assert await balance_of(database, user) == 10
    assert await money_violations(database) == []


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("worker",), 2),
        (("scheduler",), 2),
        (("db", "upgrade"), 2),
        (("db", "check"), 1),
    ],
)
async def test_every_command_refuses_hidden_rows_by_the_tables_name(
    owned: str,
    db: asyncpg.Connection,
    arguments: tuple[str, ...],
    code: int,
    tmp_path: Path,
) -> None:
    await force(db, "public.users")
    environment = {
        "DATABASE_URL": owned.replace("+asyncpg", ""),
        "REDIS_URL": "redis://localhost:1",
        "PROVIDER": "local",
        "STORAGE_URL": tmp_path.as_uri(),
        "DARKROOM_HOME": str(tmp_path),
    }
    command = await asyncio.create_subprocess_exec(
        Path(sys.executable).parent / "darkroom",
        *arguments,
        env=os.environ | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    written, _ = await command.communicate()

    assert (command.returncode, written.decode().count("hides rows of public.users from role rls_owner")) == (code, 1)
