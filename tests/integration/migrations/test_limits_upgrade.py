"""Cells of rates and budgets from an older release: an upgrade keeps them, and counting continues from them."""

import asyncpg
from alembic import command
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from models.schema import migrate
from models.schema.migrations import revisions, session

PRICES = {"FREE": 0, "TIER_1K": 2, "TIER_2K": 5, "TIER_4K": 10}

COUNTED = """
INSERT INTO darkroom.limits (scope, name, window_start, used, state) VALUES
    ('budget', 'all', 'epoch', 7.5, '{"calls": 3}'),
    ('provider', 'gemini', 'epoch', 0, '{"ceiling": 1, "failures": 2}');
INSERT INTO users (id, "updatedAt") VALUES ('u', now());
INSERT INTO enhanced_images (id, "userId", name, "originalUrl", "originalR2Key", "originalWidth", "originalHeight",
    "originalSizeBytes", "originalFormat", "updatedAt")
    VALUES ('i', 'u', 'n', 'file:///k', 'k', 1, 1, 1, 'jpeg', now());
INSERT INTO image_enhancement_jobs (id, "imageId", "userId", tier, "tokensCost", status, "updatedAt")
    SELECT 'j' || n, 'i', 'u', 'FREE', 0, 'PENDING', now() FROM generate_series(1, 2) n;
INSERT INTO darkroom.job_queue (job_type, job_id, user_id, tier, queue, stage, status, ready, position, attempts,
    max_attempts, started_at, worker_id, lease_token)
    SELECT 'enhance', 'j' || n, 'u', 'FREE', 'default', 'ANALYZING', 'processing', false, n, 1, 3,
        now() - interval '1 min', gen_random_uuid(), gen_random_uuid() FROM generate_series(1, 2) n;
-- a call of yesterday's release that is on its way
INSERT INTO darkroom.provider_calls
    (job_type, job_id, user_id, attempt, provider, purpose, may_be_paid, payer, quoted_usd)
    VALUES ('enhance', 'j1', 'u', 1, 'gemini', 'generate', true, 'user:u', 0.5);
"""

OPEN = """
SELECT * FROM darkroom.open_call('enhance', 'j2', (SELECT id FROM darkroom.job_queue WHERE job_id = 'j2'),
    (SELECT lease_token FROM darkroom.job_queue WHERE job_id = 'j2'), 'u', 1, 'gemini', 'm', 'generate', true, 0.5, 1,
    '{"budgets": {"total_usd": 8}, "concurrency": 4, "first_concurrency": 4}', NULL)
"""

CLOSE = """
SELECT darkroom.close_call(id, 'answered', true, 1, 'm', 1, 1, 1, 0.5, true, 'answered', NULL, NULL, '{}')
FROM darkroom.provider_calls WHERE job_id = 'j1'
"""


def to_first_revision(connection: Connection) -> None:
    session.prepare(connection)
    session.upgrade_branch(connection, "application")
    command.upgrade(revisions.alembic_config(connection), "darkroom_0001")


async def test_counted_cells_and_calls_on_their_way_count_on_after_an_upgrade(url: str, db: asyncpg.Connection) -> None:
    engine = create_async_engine(url, poolclass=NullPool)
    async with engine.begin() as connection:
        await connection.run_sync(to_first_revision)
    await engine.dispose()
    await db.execute(COUNTED)

    await migrate.upgrade(url, prices=PRICES)
    full = await db.fetchrow(OPEN)
    await db.execute(CLOSE)
    opened, spent = await db.fetchrow(OPEN), await db.fetchrow(OPEN)

    assert (full["kind"], full["reason"]) == ("concurrency", "1 calls are in flight, as many as it takes now")
    assert opened["intent"] is not None
    assert (spent["kind"], spent["reason"]) == ("budget", "the budget of 8 USD in all is spent")
