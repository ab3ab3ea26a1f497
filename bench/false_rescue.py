"""Check that no live worker is treated as dead: with all cores busy, event loops blocked, PostgreSQL stopped.

The lease has its default length, and jobs are in slow calls. Each job must be claimed once, never be rescued, and
end COMPLETED; otherwise the program exits with 1.

    .venv/bin/python -m bench.false_rescue [SECONDS of load and of the stop, 60]
"""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator

import psutil

from bench.ground import GENERATIONS, Ground, SlowWorkers, ground, run, until
from workers.services.instance import EmbeddedInstance
from workers.services.services import EMBEDDED_FOLDER

LASTS_S = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
PROCESSES = 2
JOBS = 8
CALL_S = 8
BLOCKED = 3
"""How many blocking jobs run at once in a process: together they block it for 15 s, half of the watchdog's limit."""
BURNERS_PER_CORE = 4

COUNTS = """
SELECT count(*) AS jobs, count(*) FILTER (WHERE j.status = 'COMPLETED') AS completed,
       (SELECT count(*) FROM darkroom.stage_runs r WHERE starts_with(r.job_id, $1) AND r.event = 'claimed') AS claims,
       (SELECT count(*) FROM darkroom.stage_runs r WHERE starts_with(r.job_id, $1) AND r.event = 'rescued') AS rescued
FROM public.mcp_generation_jobs j WHERE starts_with(j.id, $1)
"""


class FaultyWorkers(SlowWorkers):
    """As SlowWorkers, with faults that a job's prompt names."""

    ENTRY_POINT = "tests.support.faulty_worker:main"


async def submit(place: Ground, name: str, *, blocked: int = 0) -> None:
    """Submit jobs; the first `blocked` block their worker's event loop for 5 s; wait until all are claimed."""
    connection = await place.connect()
    await connection.execute(GENERATIONS, f"{name}b", blocked, "loop is blocked")
    await connection.execute(GENERATIONS, f"{name}a", JOBS - blocked, "anything")

    async def all_run() -> bool:
        found = "SELECT count(*) FROM darkroom.stage_runs WHERE event = 'claimed' AND starts_with(job_id, $1)"
        return await connection.fetchval(found, name) >= JOBS

    await until(all_run, "the claims")
    await connection.close()


@contextlib.contextmanager
def burners() -> Iterator[None]:
    count = BURNERS_PER_CORE * len(os.sched_getaffinity(0))
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


@contextlib.contextmanager
def stopped_postgresql(place: Ground) -> Iterator[None]:
    pid = EmbeddedInstance(place.settings.home / EMBEDDED_FOLDER).postgres.pid()
    postmaster = psutil.Process(pid)
    processes = [postmaster, *postmaster.children(recursive=True)]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in reversed(processes):
            process.resume()


@contextlib.asynccontextmanager
async def scene(place: Ground, name: str) -> AsyncIterator[str]:
    """Wait, after the block, until the scenario's jobs are over; print its counts, and exit if a promise is broken."""
    began, prefix = time.monotonic(), name.split(maxsplit=1)[0]
    yield prefix
    connection = await place.connect()

    async def all_over() -> bool:
        return not await connection.fetchval("SELECT count(*) FROM darkroom.job_queue")

    await until(all_over, "the jobs' end", within_s=180)
    row = await connection.fetchrow(COUNTS, prefix)
    await connection.close()
    print(f"{name:40} {', '.join(f'{key} {value}' for key, value in row.items())}", end="")
    print(f" in {time.monotonic() - began:.0f} s", flush=True)
    if row["rescued"] or row["jobs"] != row["completed"] or row["claims"] != row["jobs"]:
        sys.exit(1)


async def main() -> None:
    async with ground() as place:
        os.environ |= {"SLOW_S": str(CALL_S), "SLOW_CALLS": str(place.settings.home / "calls"), "LOG_LEVEL": "error"}
        (place.settings.home / "calls").touch()
        with place.scheduler(), place.workers(PROCESSES, kind=FaultyWorkers):
            await asyncio.sleep(place.settings.lease_s)  # a process with a younger session rescues no job
            async with scene(place, f"cores busy for {LASTS_S:g} s") as name:
                with burners():
                    until_s = time.monotonic() + LASTS_S
                    number = 0
                    while time.monotonic() < until_s:
                        await submit(place, f"{name}{number}x")
                        await asyncio.sleep(CALL_S)
                        number += 1
            async with scene(place, f"loops blocked for 5 s, {BLOCKED} times in turn") as name:
                await submit(place, f"{name}0x", blocked=BLOCKED)
            async with scene(place, f"postgresql stopped for {LASTS_S:g} s") as name:
                await submit(place, f"{name}0x")
                with stopped_postgresql(place):
                    await asyncio.sleep(LASTS_S)


if __name__ == "__main__":
    run(main)
