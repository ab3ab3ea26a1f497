"""Idle latency: how long a job waits from its INSERT to PROCESSING when nothing else runs.

The wait is measured from before the INSERT is sent until the notification of PROCESSING arrives, with one worker
process and one scheduler. Jobs come one at a time, at random moments. Goal: p50 under 20 ms.

    .venv/bin/python -m bench.idle_latency
"""

import asyncio
import json
import random
import statistics
import time

from bench.ground import JOBS, ground, run

ROUNDS = 200


async def main() -> None:
    async with ground() as place:
        listener = await place.connect()
        producer = await place.connect()
        seen: dict[tuple[str, str], asyncio.Future[float]] = {}

        def heard(_connection: object, _pid: int, _channel: str, payload: object) -> None:
            message = json.loads(str(payload))
            future = seen.get((message["id"], message["status"]))
            if future is not None and not future.done():
                future.set_result(time.perf_counter())

        await listener.add_listener("darkroom_jobs", heard)
        with place.workers(1), place.scheduler():
            waits_ms, totals_ms = [], []
            for number in range(ROUNDS):
                job = f"r{number}x1"
                for status in ("PROCESSING", "COMPLETED"):
                    seen[job, status] = asyncio.get_running_loop().create_future()
                await asyncio.sleep(random.uniform(0.02, 0.15))
                began = time.perf_counter()
                await producer.execute(JOBS, f"r{number}x", 1)
                waits_ms.append((await asyncio.wait_for(seen[job, "PROCESSING"], 10) - began) * 1000)
                totals_ms.append((await asyncio.wait_for(seen[job, "COMPLETED"], 10) - began) * 1000)
        for name, values in (("insert to PROCESSING", waits_ms), ("insert to COMPLETED (no-op)", totals_ms)):
            p50, p95 = statistics.median(values), statistics.quantiles(values, n=20)[18]
            print(f"{name:28} p50 {p50:6.1f} ms   p95 {p95:6.1f} ms   max {max(values):6.1f} ms   n={len(values)}")


if __name__ == "__main__":
    run(main)
