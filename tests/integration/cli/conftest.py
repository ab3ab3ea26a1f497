"""The command line as a person calls it, in this process, with a database for each test."""

import asyncio
import json
import os
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from config.postgres_url import parse_postgres_url
from models.database import Database
from pipelines.settings import load_settings
from tests.support import logging_restored as logging_fixtures
from tests.support.calling import Arrange, Darkroom, Ran
from workers.cli.app import main
from workers.services.instance import EmbeddedInstance
from workers.services.services import EMBEDDED_FOLDER

SERVICES = ("DATABASE_URL", "DATABASE_DIRECT_URL", "REDIS_URL", "BROKER_URL", "STORAGE_URL", "TOKENS", "GEMINI_API_KEY")

FILLED = """
WITH RECURSIVE filled (oid) AS (
    SELECT 'public.users'::regclass::oid
    UNION SELECT ('darkroom.' || name)::regclass FROM unnest($1::text[]) name
    UNION SELECT c.conrelid FROM pg_constraint c JOIN filled f ON f.oid = c.confrelid WHERE c.conparentid = 0)
SELECT string_agg(format('DELETE FROM %I.%I', c.relnamespace::regnamespace, c.relname), '; ')
FROM filled JOIN pg_class c USING (oid)
"""
"""What to delete from: tables of ours, the users, and every table that refers to one of them."""

OURS = (
    *("job_queue", "job_money", "opening_balances", "stage_runs", "provider_calls", "workers", "operator_actions"),
    *("past_pauses", "limits", "refused_ends", "turns", "freed_slots", "job_ends", "recent_stages", "queue_counts"),
    *("queue_counting", "operators", "sign_in_tries"),
)

EMPTY = """
SET session_replication_role = replica;
{deletions};
SET session_replication_role = origin;
DELETE FROM darkroom.settings
WHERE key IN ('pauses', 'buying', 'user_caps', 'weights', 'priority_head_start', 'stage_queues');
UPDATE darkroom.settings SET value = '"managed"' WHERE key = 'mode';
DELETE FROM darkroom.settings WHERE key IN ('regeneration', 'take_over', 'is_adopted');
"""
"""No trigger follows the deletions, of ours or of a foreign key. TRUNCATE would take four times as long."""

TERMS = """
INSERT INTO darkroom.settings (key, value) VALUES ('regeneration', $1::jsonb)
ON CONFLICT (key) DO UPDATE SET value = excluded.value
"""


logging_restored = logging_fixtures.logging_restored


@pytest.fixture
def plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [*SERVICES, *(name for name in os.environ if name.startswith("DARKROOM_"))]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DARKROOM_LEARNED_CPU_S", "0")  # what networks do is tested where they are


@pytest.fixture
def command(plain_environment: None, logging_restored: None, capsys: pytest.CaptureFixture[str]) -> Darkroom:
    """Run `darkroom` with whatever services the environment names."""

    def run(*arguments: str) -> Ran:
        capsys.readouterr()
        code = main(arguments)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run


@pytest.fixture
def darkroom(
    command: Darkroom, database_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Darkroom:
    """Run `darkroom` on a migrated database that isn't embedded."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("PROVIDER", "local")
    monkeypatch.setenv("STORAGE_URL", (tmp_path / "objects").as_uri())
    return command


@pytest.fixture(scope="session")
def emptied_url(services: EmbeddedInstance, template: str) -> str:
    """A migrated database for all tests of this folder: to empty one takes a quarter of copying one."""
    url = parse_postgres_url(services.database_url)

    async def make() -> None:
        connection = await asyncpg.connect(**url.asyncpg_arguments())
        await connection.execute(f"CREATE DATABASE command_line TEMPLATE {template}")
        await connection.close()

    asyncio.run(make())
    return url.with_database("command_line").text()


@pytest.fixture(scope="session")
def emptying(emptied_url: str) -> str:
    """The statements that empty that database."""

    async def read() -> str:
        connection = await asyncpg.connect(**parse_postgres_url(emptied_url).asyncpg_arguments())
        deletions = await connection.fetchval(FILLED, OURS)
        await connection.close()
        return EMPTY.format(deletions=deletions)

    return asyncio.run(read())


@pytest.fixture
def database_url(emptied_url: str, emptying: str) -> str:
    """URL of that database, emptied, in mode managed."""

    async def empty() -> None:
        connection = await asyncpg.connect(**parse_postgres_url(emptied_url).asyncpg_arguments())
        await connection.execute(emptying)
        await connection.execute(TERMS, json.dumps(load_settings({}).regeneration_terms()))
        await connection.close()

    asyncio.run(empty())
    return emptied_url


@pytest.fixture
def arrange(database_url: str) -> Arrange:
    """Do something with the test's database, from a test that isn't a coroutine because `main` runs a loop itself."""

    def run(work: Callable[[Database], Awaitable[object]]) -> object:
        async def with_database_retries() -> object:
            database = Database(parse_postgres_url(database_url), most_connections=2)
            await database.open()
            try:
                return await work(database)
            finally:
                await database.close()

        return asyncio.run(with_database_retries())

    return run


@pytest.fixture(scope="session")
def empty_url(services: EmbeddedInstance) -> str:
    """A database with nothing in it."""
    return asyncio.run(_created(services, "nothing_in_it"))


@pytest.fixture(scope="session")
def foreign_url(services: EmbeddedInstance) -> str:
    """A database with a `users` table of another tool's."""
    return asyncio.run(_created(services, "of_another_tool", "CREATE TABLE public.users (id text PRIMARY KEY)"))


async def _created(services: EmbeddedInstance, name: str, *statements: str) -> str:
    url = parse_postgres_url(services.database_url)
    for place, wanted in ((url, (f"CREATE DATABASE {name}",)), (url.with_database(name), statements)):
        connection = await asyncpg.connect(**place.asyncpg_arguments())
        for statement in wanted:
            await connection.execute(statement)
        await connection.close()
    return url.with_database(name).text()


@pytest.fixture(scope="module")
def embedded_home() -> Iterator[Path]:
    """A DARKROOM_HOME whose servers run without durability and stay for the module."""
    with tempfile.TemporaryDirectory(prefix="dk", dir="/tmp") as folder:
        os.chmod(folder, 0o755)  # noqa: PTH101, S103 - the server may run as another user
        home = Path(folder) / "home"
        with EmbeddedInstance(home / EMBEDDED_FOLDER, postgres_settings={"fsync": "off"}):
            yield home


@pytest.fixture
def at_home(command: Darkroom, embedded_home: Path, monkeypatch: pytest.MonkeyPatch) -> Darkroom:
    """Run `darkroom` on embedded data."""
    monkeypatch.setenv("DARKROOM_HOME", str(embedded_home))
    return command


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a JPEG that decodes."""
    from PIL import Image  # noqa: PLC0415 - only a few tests need it

    path = tmp_path_factory.mktemp("pictures") / "holiday.jpg"
    Image.linear_gradient("L").convert("RGB").resize((320, 200)).save(path)
    return path
