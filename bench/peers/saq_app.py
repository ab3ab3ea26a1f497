"""SAQ: asyncio workers, Redis as its queue, asyncpg for the rows, on uvloop.

A job whose worker is killed runs again from its start, once a sweep has found it. Its state lives in Redis, so it is
lost with Redis. Charging, refunds and a record of what was paid are left to the application.
"""

import asyncio

import asyncpg
import uvloop
from redis.asyncio import Redis
from saq.queue.redis import RedisQueue

from bench.peers.commands import ASYNC_CONCURRENCY
from bench.peers.steps import IS_WITHOUT_TRIGGERS, STEPS, database_url, redis_url, statement

CHUNK = 500

asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
queue = RedisQueue(Redis.from_url(redis_url()))


async def start(context: dict) -> None:  # type: ignore[type-arg]
    context["pool"] = await asyncpg.create_pool(
        database_url(), min_size=ASYNC_CONCURRENCY, max_size=ASYNC_CONCURRENCY, server_settings=IS_WITHOUT_TRIGGERS
    )


async def enhance(context: dict, *, job_id: str) -> None:  # type: ignore[type-arg]
    async with context["pool"].acquire() as connection:
        for step in STEPS:
            await connection.execute(statement(step), job_id)


settings = {"queue": queue, "functions": [enhance], "concurrency": ASYNC_CONCURRENCY, "startup": start}


async def queue_jobs(prefix: str, count: int) -> None:
    """Queue the jobs `PREFIX1` to `PREFIXn`."""
    for first in range(1, count + 1, CHUNK):
        numbers = range(first, min(first + CHUNK, count + 1))
        await asyncio.gather(*(queue.enqueue("enhance", job_id=f"{prefix}{number}") for number in numbers))
    await queue.disconnect()
