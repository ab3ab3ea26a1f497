"""Procrastinate: asyncio workers, its queue in PostgreSQL, psycopg for the rows, on uvloop.

It keeps a job's status in a table of its own, with a trigger that writes its history, so its task writes only the
checkpoints and the result: four updates instead of six. A job whose worker is killed stays in "doing" until a task of
the application retries stalled jobs. Charging, refunds and a record of what was paid are left to the application.
"""

import asyncio

import uvloop
from procrastinate import App, PsycopgConnector
from psycopg_pool import AsyncConnectionPool

from bench.peers.commands import ASYNC_CONCURRENCY
from bench.peers.steps import WITHOUT_STATES, database_url, statement

CHUNK = 1_000

asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
app = App(connector=PsycopgConnector(conninfo=database_url(), min_size=4, max_size=ASYNC_CONCURRENCY))
pools: list[AsyncConnectionPool] = []


async def pool() -> AsyncConnectionPool:
    """Return the pool of the rows' connections, whose triggers are off; that of its queue needs its own triggers."""
    if not pools:
        options = {"options": "-c session_replication_role=replica", "autocommit": True, "prepare_threshold": 1}
        pools.append(
            AsyncConnectionPool(
                database_url(), kwargs=options, min_size=ASYNC_CONCURRENCY, max_size=ASYNC_CONCURRENCY, open=False
            )
        )
        await pools[0].open()
    return pools[0]


@app.task(name="enhance")
async def enhance(job_id: str) -> None:
    async with (await pool()).connection() as connection:
        for step in WITHOUT_STATES:
            await connection.execute(statement(step, "%s"), [job_id])


async def queue_jobs(prefix: str, count: int) -> None:
    """Queue the jobs `PREFIX1` to `PREFIXn`, with its schema."""
    async with app.open_async():
        if not await app.check_connection_async():
            await app.schema_manager.apply_schema_async()
        for first in range(1, count + 1, CHUNK):
            numbers = range(first, min(first + CHUNK, count + 1))
            await enhance.batch_defer_async(*({"job_id": f"{prefix}{number}"} for number in numbers))
