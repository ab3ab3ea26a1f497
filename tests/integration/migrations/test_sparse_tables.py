"""Tables of another tool with only the required columns: they are adopted, periodic tasks and jobs run."""

from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from config.postgres_url import parse_postgres_url
from config.tiers import PRICES_TOKENS
from models.database import Database
from models.queue.claims import claim
from models.queue.leases import renew_lease
from models.queue.transitions import Completed, record
from models.schema.migrate import upgrade
from models.schema.migrations.adoption import REQUIRED_COLUMNS
from pipelines.settings import Settings
from pipelines.storage.file import FileStorage
from tests.support.builders import load_inputs
from tests.support.foreign_tables import SCHEMA, foreign_ddl
from workers.operations.schedule import require_allowed_policies
from workers.periodic.engine import PeriodicEngine
from workers.periodic.registry import periodic_tasks
from workers.running.translation import build_job

OPTIONAL = sorted(SCHEMA["tables"].keys() - REQUIRED_COLUMNS.keys())
TASK_OF = {"vouchers": "expire-vouchers"} | {
    table: f"prune-{table}"
    for table in ("campaign_metrics_cache", "merch_webhook_events", "sessions", "verification_tokens")
}
"""The task that has nothing to do without an optional table."""


async def adopted(url: str, db: asyncpg.Connection, **lacking: frozenset[str]) -> Database:
    await db.execute(foreign_ddl(**lacking))
    return await upgraded(url)


async def upgraded(url: str) -> Database:
    settings = Settings()
    await upgrade(url, prices=PRICES_TOKENS, mode="managed", regeneration=settings.regeneration_terms())
    database = Database(parse_postgres_url(url.replace("+asyncpg", "")), most_connections=5)
    await database.open()
    return database


async def run_every_task(database: Database, folder: Path) -> set[str]:
    """Run each periodic task once, with all that can be switched on; return those that had nothing to work on."""
    settings = Settings(subscriptions=True, regeneration="drip", drip_subscribers=True, usage_limits={"jobs": 1})
    await require_allowed_policies(database, settings)
    engine = PeriodicEngine(database, FileStorage(folder), settings, periodic_tasks(settings))
    now = await database.fetchval("SELECT clock_timestamp()")
    return {name for name in engine.tasks if not await engine.run_extra(name, now)}


async def run_jobs(database: Database) -> None:
    """Submit one job of each kind, and take each to its end as a worker does."""
    await database.fetch("""INSERT INTO public.users (id, "updatedAt") VALUES ('u', now())""")
    await database.fetch(
        """INSERT INTO public.user_token_balances (id, "userId", balance, "updatedAt") VALUES ('b', 'u', 20, now())"""
    )
    await database.fetch(
        """INSERT INTO public.enhanced_images (id, "userId", name, "originalUrl", "originalR2Key", "originalWidth",
               "originalHeight", "originalSizeBytes", "originalFormat", "updatedAt")
           VALUES ('i', 'u', 'n', 'file:///k', 'users/u/originals/i.jpg', 1, 1, 1, 'jpeg', now())"""
    )
    await database.fetch(
        """INSERT INTO public.enhancement_pipelines (id, name, "userId", "updatedAt") VALUES ('p', 'p', 'u', now())"""
    )
    await database.fetch(
        """INSERT INTO public.albums (id, name, "userId", "pipelineId", "updatedAt")
           VALUES ('a', 'a', 'u', 'p', now())"""
    )
    await database.fetch("""INSERT INTO public.album_images (id, "albumId", "imageId") VALUES ('m', 'a', 'i')""")
    await database.fetch("SELECT darkroom.submit_enhancement('u', 'i', NULL, idempotency_key => 'k')")
    await database.fetch("SELECT darkroom.submit_enhancement('u', 'i', NULL, 'p', 'i')")
    await database.fetch("SELECT darkroom.submit_generation('u', 'GENERATE', 'FREE', 'x', api_key_id => 'none')")
    worker = uuid4()
    await database.run(
        lambda connection: renew_lease(connection, worker, host="here", pid=1, queues=["default"], lanes=4, lease_s=60)
    )
    deadlines_s = dict.fromkeys(("ANALYZING", "CROPPING", "PROMPTING", "GENERATING"), 60.0)
    claims = await database.run(lambda connection: claim(connection, worker, "default", 4, deadlines_s))
    assert len(claims) == 3
    for one in claims:
        inputs = await load_inputs(database, one)
        assert build_job(one, inputs).id == one.job_id
        await database.run(lambda connection, one=one: record(connection, one, Completed(one.stage, 1, {})))
    assert await database.fetchval("SELECT count(*) FROM darkroom.job_queue") == 0


@pytest.mark.proof  # the next test has a database without any of them
@pytest.mark.parametrize("table", OPTIONAL)
async def test_database_without_an_optional_table_is_adopted_and_every_task_runs(
    url: str, db: asyncpg.Connection, tmp_path: Path, table: str
) -> None:
    database = await adopted(url, db, without_tables=frozenset({table}))
    try:
        passed_over = await run_every_task(database, tmp_path)
    finally:
        await database.close()

    assert passed_over == {TASK_OF[one] for one in TASK_OF if one == table}


async def test_database_with_what_is_required_and_nothing_else_runs_every_task_and_job(
    url: str, db: asyncpg.Connection, tmp_path: Path
) -> None:
    """Each column that isn't asked for is dropped, unless a row of the application couldn't be without it."""
    await db.execute(foreign_ddl(without_tables=frozenset(OPTIONAL)))
    for table, names in REQUIRED_COLUMNS.items():
        for column, _, is_nullable, default in SCHEMA["tables"][table]["columns"]:
            if column not in names.split() and column != "id" and (is_nullable or default):
                await db.execute(f'ALTER TABLE public.{table} DROP COLUMN "{column}"')
    database = await upgraded(url)
    try:
        await run_jobs(database)
        passed_over = await run_every_task(database, tmp_path)
    finally:
        await database.close()

    assert passed_over == set(TASK_OF.values())
