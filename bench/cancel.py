"""Cancellation of jobs whose provider call over HTTP hangs: time until its row is terminal, and its call aborted.

Some jobs are cancelled by a plain UPDATE, others by `darkroom.cancel_job`, a few at a time, each at a random moment of
its call.
Goal: p95 under 2 s.

    .venv/bin/python -m bench.cancel [CANCELS]
"""

import asyncio
import os
import random
import sys
import time
from dataclasses import replace

from bench.ground import GENERATIONS, Ground, ground, percentiles, run
from pipelines.settings import Settings
from tests.support.hanging_gemini import HangingGemini
from workers.process.supervisor import WorkerProcesses

CANCELS = int(sys.argv[1]) if len(sys.argv) > 1 else 120
AT_ONCE = 8
KEY = "a-key-for-nobody"

HOW = {
    "UPDATE": "UPDATE public.mcp_generation_jobs SET status = 'CANCELLED' WHERE id = $1",
    "darkroom.cancel_job": "SELECT darkroom.cancel_job($1)",
}


async def cancels(place: Ground, gemini: HangingGemini, name: str) -> tuple[list[float], list[float]]:
    """Return how long each cancel took to a committed terminal row, and to the end of its call at the provider."""
    numbers = iter(range(CANCELS))
    to_row_s, to_hang_up_s = [], []

    async def lane() -> None:
        connection = await place.connect()
        for number in numbers:
            job = f"{name}{number}x"
            await connection.execute(GENERATIONS, job, 1, job)
            await gemini.call_of(job)
            await asyncio.sleep(random.random())
            began_s = time.monotonic()
            await connection.execute(HOW[name], f"{job}1")
            to_row_s.append(time.monotonic() - began_s)
            call = await gemini.call_of(job, hung_up=True)
            assert call.hung_up_s is not None
            to_hang_up_s.append(call.hung_up_s - began_s)
        await connection.close()

    await asyncio.gather(*(lane() for _ in range(AT_ONCE)))
    return to_row_s, to_hang_up_s


async def main() -> None:
    async with ground() as place, HangingGemini() as gemini:
        os.environ |= {"GEMINI_API_KEY": KEY, "GEMINI_BASE_URL": gemini.url, "LOG_LEVEL": "error"}
        settings = Settings(home=place.settings.home, provider=("gemini",), gemini_api_key=KEY)
        with replace(place, settings=settings).workers(1, kind=WorkerProcesses):
            for name in HOW:
                began = time.monotonic()
                to_row_s, to_hang_up_s = await cancels(place, gemini, name)
                print(percentiles(f"{name}: terminal row", [1000 * value for value in to_row_s], "ms"))
                print(percentiles(f"{name}: call hung up", to_hang_up_s))
                print(f"{'':44} in {time.monotonic() - began:.0f} s", flush=True)
        connection = await place.connect()
        refunds = await connection.fetchval("SELECT count(*) FROM darkroom.job_money WHERE kind = 'refund'")
        wrong = await connection.fetchval("SELECT count(*) FROM darkroom.money_violations")
        print(f"{refunds} refunds for {CANCELS * len(HOW)} cancels; violations of the money's promises: {wrong}")
        await connection.close()


if __name__ == "__main__":
    run(main)
