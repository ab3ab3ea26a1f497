"""PostgreSQL's queue of notifications is full, because a listening session stays in a transaction: jobs still run."""

import os
import tempfile
from pathlib import Path

import asyncpg
import pytest

from config.postgres_url import parse_postgres_url
from config.tiers import PRICES_TOKENS
from models.database import Database
from models.queue.looks import ask_for_wake_up
from models.queue.transitions import Completed, record
from models.schema.migrate import upgrade
from pipelines.settings import Settings
from tests.conftest import FAST_AND_LOSABLE
from tests.support.builders import claim_jobs, job_row, make_job, set_status
from workers.operations.checks.notifications import check_notify_queue
from workers.process.runtime import Runtime
from workers.process.scheduler_loops import Scheduler
from workers.services.instance import EmbeddedInstance
from workers.services.services import Services


async def fill(database):
    """Notify until PostgreSQL refuses."""
    while True:
        await database.fetch("SELECT pg_notify('other', repeat('x', 7000))")


@pytest.fixture
async def small_queue(tmp_path):
    """Services of their own whose queue of notifications has 64 pages, and the way to their database."""
    with tempfile.TemporaryDirectory(prefix="dk", dir="/tmp") as folder:
        os.chmod(folder, 0o755)  # noqa: PTH101, S103 - the server may run as another user
        settings = FAST_AND_LOSABLE | {"max_notify_queue_pages": "64"}
        with EmbeddedInstance(Path(folder), postgres_settings=settings) as instance:
            await upgrade(instance.database_url, prices=PRICES_TOKENS)
            database = Database(parse_postgres_url(instance.database_url), most_connections=3)
            await database.open()
            services = Services(
                instance.database_url,
                instance.database_url,
                instance.redis_url,
                instance.redis_url,
                tmp_path.as_uri(),
                is_embedded=False,
            )
            runtime = Runtime(Settings(), services, database, "")
            yield runtime
            await runtime.aclose()


async def test_full_queue_of_notifications_stops_no_job_and_is_healed_by_a_look(small_queue):
    database, url = small_queue.database, small_queue.services.database_url
    listener = await asyncpg.connect(url)
    await listener.add_listener("darkroom_jobs", lambda *_: None)
    dawdling = listener.transaction()
    await dawdling.start()
    await listener.fetchval("SELECT 1")
    with pytest.raises(asyncpg.ProgramLimitExceededError):
        await fill(database)
    held, cancelled = await make_job(database), await make_job(database)
    await database.run(lambda connection: ask_for_wake_up(connection, ["default"]))

    await make_job(database)
    (claim, *_) = await claim_jobs(database, most=1)
    await database.run(lambda connection: record(connection, claim, Completed("GENERATING", 1, {})))
    await set_status(database, cancelled, "CANCELLED")

    assert (await job_row(database, held))["status"] == "COMPLETED"
    assert (await job_row(database, cancelled))["status"] == "CANCELLED"
    found = await check_notify_queue(database)
    assert (found.status, str(listener.get_server_pid()) in (found.advice or "")) == ("warn", True)
    scheduler = Scheduler(small_queue)
    assert await scheduler.look_at_database() == ["notify_queue_filled"]

    await listener.close()
    await scheduler.look_at_database()
    assert await scheduler.look_at_database() == []
    assert (await check_notify_queue(database)).status == "ok"
