"""Unfinished jobs in tables of another tool, or of a restore: they aren't changed before `--take-over`."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import asyncpg
import pytest

from config.postgres_url import parse_postgres_url
from config.tiers import PRICES_TOKENS
from models.database import Database
from models.queue.unqueued import AdoptionTerms, adopt_unqueued_jobs, end_unqueued_jobs, take_over
from models.schema import migrate
from tests.support.builders import balance_of, job_row, make_job, make_user, money_violations, queue_row
from tests.support.foreign_tables import foreign_ddl

TERMS = AdoptionTerms(max_wait_s=3_600, silence_s=60)
USER = """
INSERT INTO users (id, email, "updatedAt") VALUES ('u', 'u@example.test', now());
INSERT INTO user_token_balances (id, "userId", balance, "updatedAt") VALUES ('b', 'u', 95, now());
INSERT INTO enhanced_images (id, "userId", name, "originalUrl", "originalR2Key", "originalWidth", "originalHeight",
    "originalSizeBytes", "originalFormat", "updatedAt") VALUES ('i', 'u', 'p', 'x', 'k', 1, 1, 1, 'png', now());
"""
JOB = """
INSERT INTO image_enhancement_jobs (id, "imageId", "userId", tier, "{cost}", status, "createdAt", "updatedAt")
VALUES ($1, 'i', 'u', 'TIER_2K', 5, $2::text::"JobStatus", now() AT TIME ZONE 'utc' - $3 * interval '1 minute',
        now() AT TIME ZONE 'utc' - $3 * interval '1 minute')
"""
OLD_CHARGE = """
INSERT INTO token_transactions (id, "userId", amount, type, source, "sourceId", "balanceAfter")
VALUES ('t', 'u', -5, 'SPEND_ENHANCEMENT', 'enhancement', 'old', 95)
"""


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    database = Database(parse_postgres_url(url.replace("+asyncpg", "")), most_connections=2)
    await database.open()
    yield database
    await database.close()


@pytest.mark.parametrize("cost", ["tokensCost", "creditsCost"])
async def test_unfinished_jobs_of_another_tool_wait_for_the_operators_word(
    url: str, db: asyncpg.Connection, database: Database, cost: str
) -> None:
    await db.execute(foreign_ddl(renamed={} if cost == "tokensCost" else {"tokensCost": cost}) + ";" + USER)
    for job, status, minutes in (("waits", "PENDING", 5), ("left", "PROCESSING", 5), ("old", "PROCESSING", 500)):
        await db.execute(JOB.format(cost=cost), job, status, minutes)
    await db.execute(JOB.format(cost=cost), "held", "PROCESSING", 0)
    await db.execute(OLD_CHARGE)
    await migrate.upgrade(url, prices=PRICES_TOKENS, mode="managed", cost_column=cost)

    assert await adopt_unqueued_jobs(database, TERMS) == (0, 0)
    assert await end_unqueued_jobs(database, TERMS) == 0

    taken = await take_over(database, TERMS, actor="somebody")

    assert (taken.taken_in, taken.ended, taken.left) == (2, 1, 1)
    statuses = {row["id"]: row["status"] for row in await db.fetch("SELECT id, status FROM image_enhancement_jobs")}
    assert statuses == {"waits": "PENDING", "left": "PENDING", "old": "REFUNDED", "held": "PROCESSING"}
    assert await balance_of(database, "u") == 100
    assert await money_violations(database) == []
    assert (await queue_row(database, "left"))["created_at"] < datetime.now(UTC)
    await migrate.upgrade(url, prices=PRICES_TOKENS, cost_column=cost)
    assert await database.fetchval("SELECT darkroom.takes_over()")


async def test_restored_application_schema_knows_its_charges_by_the_ledger(
    url: str, db: asyncpg.Connection, database: Database
) -> None:
    await migrate.upgrade(url, prices=PRICES_TOKENS)
    user = await make_user(database)
    young, old = [await make_job(database, user_id=user) for _ in range(2)]
    await db.execute("SET session_replication_role = replica")
    await db.execute(
        """UPDATE image_enhancement_jobs SET status = 'PROCESSING', "updatedAt" = "updatedAt" - interval '5 minutes'"""
    )
    await db.execute("""UPDATE image_enhancement_jobs SET "createdAt" = '2020-01-01' WHERE id = $1""", old)
    await db.execute("SET session_replication_role = origin; DROP SCHEMA darkroom CASCADE")
    await migrate.upgrade(url, prices=PRICES_TOKENS, mode="managed")

    taken = await take_over(database, TERMS, actor="somebody")
    await db.execute("UPDATE image_enhancement_jobs SET status = 'CANCELLED' WHERE id = $1", young)

    assert (taken.taken_in, taken.ended) == (1, 1)
    assert (await job_row(database, old))["status"] == "REFUNDED"
    assert await balance_of(database, user) == 100
    assert await money_violations(database) == []
