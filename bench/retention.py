"""Retention of large tables: 2,000,000 of 5,000,000 error_logs deleted while no-op jobs run, and a week's rows dropped.

.venv/bin/python -m bench.retention [ROWS]
"""

import asyncio
import itertools
import sys
import time
from datetime import timedelta

from bench.ground import JOBS, Ground, ground, run
from config.postgres_url import parse_postgres_url
from models.database import Database
from pipelines.storage.backends import open_storage
from workers.periodic.engine import PeriodicEngine
from workers.periodic.registry import periodic_tasks

COUNT = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000_000
BATCH = 500

LOGS = """
INSERT INTO public.error_logs (id, "timestamp", message, environment, metadata)
SELECT 'e' || n, darkroom.utc_now() - CASE WHEN n <= {old} THEN interval '60 days' ELSE interval '1 day' END
           - n * interval '10 milliseconds', 'an error as they are', 'BACKEND', '{{"attempt": 1}}'
FROM generate_series(1, {count}) n
"""

RUNS = """
INSERT INTO darkroom.stage_runs (job_type, job_id, event, at)
SELECT 'enhance', 'old' || n % 20000, 'finished', now() - interval '60 days' FROM generate_series(1, {count}) n
"""

# How long the oldest session that waits for a lock has waited: this shows what delays other sessions
WAITING = """
SELECT coalesce(max(extract(epoch FROM clock_timestamp() - waitstart)) * 1000, 0)::double precision FROM pg_locks
WHERE NOT granted
"""


class Feeder:
    """Keeps a backlog of no-op jobs, and counts the jobs that are done."""

    def __init__(self, place: Ground) -> None:
        self.place, self.numbers, self.entered = place, itertools.count(), 0

    async def run(self) -> None:
        connection = await self.place.connect()
        while True:
            if await connection.fetchval("SELECT count(*) FROM darkroom.job_queue") < BATCH:
                await connection.execute(JOBS, f"n{next(self.numbers)}x", BATCH)
            await asyncio.sleep(0.05)

    async def rate(self, seconds_or_work) -> tuple[float, float]:  # type: ignore[no-untyped-def]  # noqa: ANN001
        connection = await self.place.connect()
        done = "SELECT count(*) FROM public.image_enhancement_jobs WHERE status = 'COMPLETED'"
        before, began = await connection.fetchval(done), time.perf_counter()
        if isinstance(seconds_or_work, float):
            await asyncio.sleep(seconds_or_work)
        else:
            await seconds_or_work
        took = time.perf_counter() - began
        rate = (await connection.fetchval(done) - before) / took
        await connection.close()
        return rate, took


async def longest_lock_wait_ms(place: Ground, done: asyncio.Event) -> float:
    connection, longest = await place.connect(), 0.0
    while not done.is_set():
        longest = max(longest, await connection.fetchval(WAITING))
        await asyncio.sleep(0.01)
    await connection.close()
    return longest


async def main() -> None:
    async with ground() as place:
        connection = await place.connect()
        await connection.execute(LOGS.format(count=COUNT, old=COUNT * 2 // 5), timeout=1200)
        await connection.execute("SELECT darkroom.add_weeks('stage_runs', now() - interval '60 days', 1)")
        await connection.execute(RUNS.format(count=COUNT // 5), timeout=1200)
        await connection.execute("VACUUM ANALYZE public.error_logs", timeout=1200)
        await connection.execute("CHECKPOINT", timeout=600)
        database = Database(parse_postgres_url(place.services.database_url))
        await database.open()
        periodic_engine = PeriodicEngine(
            database, open_storage(place.services.storage_url), place.settings, periodic_tasks(place.settings)
        )
        feeder = Feeder(place)
        with place.workers(2):
            feeding = asyncio.create_task(feeder.run())
            await asyncio.sleep(5)
            alone, _took = await feeder.rate(20.0)
            done = asyncio.Event()
            watching = asyncio.create_task(longest_lock_wait_ms(place, done))
            now = await database.fetchval("SELECT clock_timestamp()")
            # with the same pauses as in a scheduler
            await database.fetch("INSERT INTO darkroom.ticks (task, tick_at) VALUES ('prune-error_logs', $1)", now)

            async def prune() -> None:
                while await connection.fetchval(
                    "SELECT status FROM darkroom.ticks WHERE task = 'prune-error_logs'"
                ) in (
                    "pending",
                    "running",
                ):
                    await periodic_engine.run_once()

            beside, took = await feeder.rate(prune())
            counts = await connection.fetchval("SELECT counts FROM darkroom.ticks WHERE task = 'prune-error_logs'")
            began = time.perf_counter()
            dropped = await periodic_engine.run_extra("prune-stage_runs", now + timedelta(seconds=1))
            drop_s = time.perf_counter() - began
            done.set()
            print(f"jobs alone {alone:,.0f}/s, beside the deletion {beside:,.0f}/s: {beside / alone:.0%}")
            print(f"deletion {took:,.1f} s, {counts}; longest wait for a lock {await watching:.0f} ms")
            print(f"prune-stage_runs, {COUNT // 5:,} rows in one week: {drop_s:.2f} s, {dropped}", flush=True)
            feeding.cancel()
        await database.close()
        await connection.close()


if __name__ == "__main__":
    run(main)
