"""Seconds until jobs complete at their earlier rate again after a loss: of PostgreSQL, of Redis, or of all wake-ups.

A producer inserts no-op jobs at a steady rate, whenever PostgreSQL lets it. The rate has recovered at the first
moment after which at least 80 % as many jobs complete in a second as in the median second before the fault.

    .venv/bin/python -m bench.recovery [TIMES]
"""

import asyncio
import os
import statistics
import sys
import time
from collections.abc import Callable

import redis

from bench.ground import JOBS, Ground, ground, percentiles, run
from models.connections import DatabaseLostError, losses_translated, session_losses_translated
from workers.services.instance import EmbeddedInstance
from workers.services.services import EMBEDDED_FOLDER

TIMES = int(sys.argv[1]) if len(sys.argv) > 1 else 10
EACH = 5
PAUSE_S = 0.1
BEFORE_S = 6.0
BACK = 0.8
TIMEOUT_S = 60.0

COMPLETIONS = """
SELECT extract(epoch FROM at)::float8 FROM darkroom.stage_runs
WHERE event = 'finished' AND stage = 'GENERATING' AND at > to_timestamp($1) ORDER BY at
"""


async def produce(place: Ground) -> None:
    """Insert jobs again and again, as many at a time as EACH says."""
    connection, number = None, 0
    while True:
        try:
            with losses_translated():
                connection = connection or await place.connect()
            async with session_losses_translated(connection):
                number += 1  # counted first, because an interrupted statement may have been committed
                await connection.execute(JOBS, f"n{number}x", EACH)
        except DatabaseLostError:
            connection = None
        await asyncio.sleep(PAUSE_S)


def back_after_s(completions: list[float], fault_s: float) -> float | None:
    """Return the seconds from the fault to the first second at the earlier rate; None if there is none yet."""
    before = [at for at in completions if at < fault_s]
    seconds = [sum(fault_s - n - 1 <= at < fault_s - n for at in before) for n in range(int(BEFORE_S) - 1)]
    enough, now_s = BACK * statistics.median(seconds), time.time()
    after_s = 0.0
    while fault_s + after_s + 1 < now_s:
        if sum(fault_s + after_s <= at < fault_s + after_s + 1 for at in completions) >= enough:
            return after_s
        after_s += 0.05
    return None


async def recovered(place: Ground, fault: Callable[[], object]) -> tuple[float, float]:
    """Cause a fault; return how long the fault lasted, and how long after its beginning the rate had recovered."""
    await asyncio.sleep(BEFORE_S)
    fault_s = time.time()
    await asyncio.to_thread(fault)
    lasted_s = time.time() - fault_s
    while time.time() < fault_s + TIMEOUT_S:
        await asyncio.sleep(1.0)
        connection = await place.connect()
        completions = [row[0] for row in await connection.fetch(COMPLETIONS, fault_s - BEFORE_S)]
        await connection.close()
        if (back_s := back_after_s(completions, fault_s)) is not None:
            return lasted_s, back_s
    raise AssertionError(f"the rate wasn't back after {TIMEOUT_S:g} s")


async def main() -> None:
    async with ground() as place:
        os.environ["LOG_LEVEL"] = "error"  # the services that workers wait for are missing on purpose
        servers = EmbeddedInstance(place.settings.home / EMBEDDED_FOLDER)
        faults = {
            "PostgreSQL, immediate restart": lambda: servers.postgres.restart(immediately=True),
            "Redis, kill -9 and restart": lambda: servers.redis.restart(immediately=True),
            "FLUSHALL": redis.Redis.from_url(place.services.redis_url).flushall,
        }
        with place.scheduler(), place.workers(2):
            producing = asyncio.create_task(produce(place))
            await asyncio.sleep(BEFORE_S)
            for name, fault in faults.items():
                times = [await recovered(place, fault) for _ in range(TIMES)]
                print(percentiles(f"{name}: the fault itself", [lasted_s for lasted_s, _ in times]))
                print(percentiles(f"{name}: rate is back", [back_s for _, back_s in times]), flush=True)
            producing.cancel()
            await asyncio.sleep(3)
            connection = await place.connect()
            left = await connection.fetchval("SELECT count(*) FROM darkroom.job_queue")
            rescued = await connection.fetchval("SELECT count(*) FROM darkroom.stage_runs WHERE event = 'rescued'")
            wrong = await connection.fetchval("SELECT count(*) FROM darkroom.money_violations")
            print(f"jobs left {left}, rescued {rescued}, violations of the money's promises {wrong}", flush=True)
            await connection.close()


if __name__ == "__main__":
    run(main)
