"""taskiq: asyncio workers, a Redis stream with acknowledgement as its broker, asyncpg for the rows, on uvloop.

A job whose worker is killed runs again from its start, after the stream's idle timeout. Charging, refunds and a record
of what was paid are left to the application.
"""

import asyncio

import asyncpg
from taskiq import TaskiqEvents, TaskiqState
from taskiq_redis import RedisStreamBroker

from bench.peers.commands import ASYNC_CONCURRENCY
from bench.peers.steps import IS_WITHOUT_TRIGGERS, STEPS, database_url, redis_url, statement

CHUNK = 100

broker = RedisStreamBroker(redis_url())
pools: list[asyncpg.Pool] = []


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def start(_state: TaskiqState) -> None:
    pools.append(
        await asyncpg.create_pool(
            database_url(), min_size=ASYNC_CONCURRENCY, max_size=ASYNC_CONCURRENCY, server_settings=IS_WITHOUT_TRIGGERS
        )
    )


@broker.task(task_name="enhance")
async def enhance(job_id: str) -> None:
    async with pools[0].acquire() as connection:
        for step in STEPS:
            await connection.execute(statement(step), job_id)


async def queue_jobs(prefix: str, count: int) -> None:
    """Queue the jobs `PREFIX1` to `PREFIXn`."""
    await broker.startup()
    for first in range(1, count + 1, CHUNK):
        numbers = range(first, min(first + CHUNK, count + 1))
        await asyncio.gather(*(enhance.kiq(f"{prefix}{number}") for number in numbers))
    await broker.shutdown()
