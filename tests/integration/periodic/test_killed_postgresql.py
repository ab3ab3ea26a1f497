"""PostgreSQL is killed during a tick: the tick continues where it was, and nothing is done twice."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from config.postgres_url import parse_postgres_url
from config.tiers import PRICES_TOKENS
from models.database import Database
from models.schema.migrate import upgrade
from pipelines.settings import Settings
from tests.support.builders import money_violations
from tests.support.patience import HANGS_AFTER_S
from workers.periodic import engine
from workers.periodic.engine import PeriodicEngine
from workers.periodic.registry import periodic_tasks
from workers.services.instance import EmbeddedInstance

CHUNK = 50


@pytest.fixture
async def own_instance(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[EmbeddedInstance]:
    """Services of the test's own, durable, and chunks so small that a kill meets one."""
    for name in ("FIRST_SIZE", "LARGEST_SIZE", "SMALLEST_SIZE"):
        monkeypatch.setattr(engine, name, CHUNK)
    with tempfile.TemporaryDirectory(prefix="dk", dir="/tmp") as folder:
        os.chmod(folder, 0o755)  # noqa: PTH101, S103 - the server may run as another user
        with EmbeddedInstance(Path(folder)) as instance:
            await upgrade(instance.database_url, prices=PRICES_TOKENS)
            yield instance


@pytest.fixture
async def own_database(own_instance: EmbeddedInstance) -> AsyncIterator[Database]:
    database = Database(parse_postgres_url(own_instance.database_url), most_connections=4)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
def periodic_engine(own_database: Database, storage) -> PeriodicEngine:
    return PeriodicEngine(own_database, storage, Settings(), periodic_tasks(Settings()))


async def kill_in_the_middle(
    instance: EmbeddedInstance, working: Awaitable[object], is_under_way: Callable[[], Awaitable[bool]]
) -> None:
    """Kill PostgreSQL while somebody works, and start it again."""
    running = asyncio.ensure_future(working)
    async with asyncio.timeout(HANGS_AFTER_S):
        while not await is_under_way():  # noqa: ASYNC110 - rows have no event
            await asyncio.sleep(0.01)
        await asyncio.to_thread(instance.postgres.stop, immediately=True)
        await asyncio.wait([running])
        assert running.exception() is not None
        await asyncio.to_thread(instance.postgres.start)


async def test_regeneration_goes_on_where_it_was(own_instance, own_database, periodic_engine):
    await own_database.fetch(
        """INSERT INTO public.users (id, "updatedAt") SELECT 'u' || n, now() FROM generate_series(1, 3000) n"""
    )
    await own_database.fetch(
        """INSERT INTO public.user_token_balances (id, "userId", balance, "lastRegeneration", "updatedAt")
           SELECT 'b' || n, 'u' || n, 0, now() - interval '40 days', now() FROM generate_series(1, 3000) n"""
    )
    now = await own_database.fetchval("SELECT clock_timestamp()")
    given = "SELECT count(*) FROM public.token_transactions"

    async def is_under_way() -> bool:
        return await own_database.fetchval(given) >= 500

    await kill_in_the_middle(own_instance, periodic_engine.run_extra("regenerate-tokens", now), is_under_way)
    assert 500 <= await own_database.fetchval(given) < 3000

    counts = await periodic_engine.run_extra("regenerate-tokens", now)

    assert counts == {"users": 3000, "tokens": 30000}
    assert await own_database.fetchval(given) == 3000
    assert await own_database.fetchval("SELECT count(*) FROM public.user_token_balances WHERE balance = 10") == 3000
    assert await money_violations(own_database) == []


async def test_retention_goes_on_where_it_was(own_instance, own_database, periodic_engine):
    now = await own_database.fetchval("SELECT clock_timestamp()")
    # two rows of each age: a chunk that goes on by time must not pass over its neighbour
    await own_database.fetch(
        """INSERT INTO public.error_logs (id, "timestamp", message, environment)
           SELECT 'e' || n, $1::timestamptz AT TIME ZONE 'utc' - (n / 2) * interval '15 minutes', 'x', 'BACKEND'
           FROM generate_series(0, 9999) n""",
        now,
    )
    kept_ids = """SELECT id FROM public.error_logs
                  WHERE "timestamp" >= $1::timestamptz AT TIME ZONE 'utc' - interval '30 days' ORDER BY id"""
    young = await own_database.fetch(kept_ids, now)
    old = 10_000 - len(young)
    left = "SELECT count(*) FROM public.error_logs"

    async def is_under_way() -> bool:
        return await own_database.fetchval(left) <= 9_500

    await kill_in_the_middle(own_instance, periodic_engine.run_extra("prune-error_logs", now), is_under_way)
    after_the_kill = await own_database.fetchval(left)
    done = await own_database.fetchval("SELECT (counts ->> 'deleted')::integer FROM darkroom.ticks")
    assert len(young) < after_the_kill <= 9_500
    assert done == 10_000 - after_the_kill  # the cursor's count and its deletions are one commit

    counts = await periodic_engine.run_extra("prune-error_logs", now)

    assert counts == {"deleted": old}
    assert await own_database.fetch(kept_ids, now) == young
    assert await own_database.fetchval(left) == len(young)
