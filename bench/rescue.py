"""Time from the death of a worker with jobs in a provider call to the next claim of those jobs, at the default lease.

Two cases are measured. `heard`: the worker gets SIGKILL, and its supervisor sees the death and records it. `lease`: the
worker is stopped (SIGSTOP), so that no process notices it, and only its lease can expire. Goal: p99 under 20 s.

    .venv/bin/python -m bench.rescue [DEATHS] [PROCESSES]
"""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import asyncpg

from bench.ground import GENERATIONS, Ground, SlowWorkers, ground, percentiles, run, until
from workers.process import supervisor

DEATHS = int(sys.argv[1]) if len(sys.argv) > 1 else 60
PROCESSES = int(sys.argv[2]) if len(sys.argv) > 2 else 10
LANES = 1
JOBS = MOST_AT_ONCE = PROCESSES // 2
"""A dead worker's jobs are run alone, so there must be an idle process for each job that is lost."""

HOLDERS = """
SELECT w.pid, array_agg(q.job_id) AS jobs FROM darkroom.job_queue q JOIN darkroom.workers w ON w.id = q.worker_id
GROUP BY w.pid
"""

NO_CEILING = """
INSERT INTO darkroom.limits (scope, name, state) VALUES ('provider', 'scripted', '{"ceiling": 100000}')
"""
"""Statement that removes the limit of calls in flight.

The calls of dead workers would reach it and block all claims.
"""

CLAIMED_AGAIN = """
SELECT job_id, extract(epoch FROM min(at))::float8 AS at_s FROM darkroom.stage_runs
WHERE event = 'claimed' AND attempt = 2 AND job_id = ANY ($1) GROUP BY job_id
"""


class Round:
    """One round: jobs in provider calls, the deaths of some workers, and their jobs' next claims."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]", number: int, name: str) -> None:
        self._connection, self._prefix = connection, f"{name}{number}x"

    async def waits_s(self, signal_number: int, most: int) -> list[list[float]]:
        """Return, for each death, how long each of its jobs waited for its next claim."""
        query = self._connection
        await until(self._all_live, "the start of every worker", within_s=120)
        await query.execute(GENERATIONS, self._prefix, JOBS, "anything")
        await until(self._all_called, "the jobs' calls")
        doomed = {row["pid"]: row["jobs"] for row in (await query.fetch(HOLDERS))[:most]}
        lost = [job for jobs in doomed.values() for job in jobs]
        killed_at_s = time.time()  # the database's clock is the same machine's
        for pid in doomed:
            os.kill(pid, signal_number)

        async def all_claimed() -> bool:
            return len(await query.fetch(CLAIMED_AGAIN, lost)) == len(lost)

        await until(all_claimed, "the rescue")
        at_s = {row["job_id"]: row["at_s"] for row in await query.fetch(CLAIMED_AGAIN, lost)}
        if signal_number == signal.SIGSTOP:
            for pid in doomed:
                os.kill(pid, signal.SIGKILL)
        await query.execute(
            "UPDATE public.mcp_generation_jobs SET status = 'CANCELLED' WHERE starts_with(id, $1)", self._prefix
        )
        return [[at_s[job] - killed_at_s for job in jobs] for jobs in doomed.values()]

    async def _all_live(self) -> bool:
        rows = await self._connection.fetch("SELECT pid FROM darkroom.workers WHERE lease_expires_at > now()")
        return sum(_lives(row["pid"]) for row in rows) == PROCESSES

    async def _all_called(self) -> bool:
        return (
            await self._connection.fetchval(
                "SELECT count(*) FROM darkroom.provider_calls WHERE outcome = 'open' AND starts_with(job_id, $1)",
                self._prefix,
            )
            == JOBS
        )


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


async def measure(place: Ground, name: str, signal_number: int) -> None:
    connection = await place.connect()
    await connection.execute(f"{NO_CEILING} ON CONFLICT DO NOTHING")
    deaths: list[list[float]] = []
    number, began = 0, time.monotonic()
    while len(deaths) < DEATHS:
        deaths += await Round(connection, number, name).waits_s(signal_number, min(MOST_AT_ONCE, DEATHS - len(deaths)))
        number += 1
    await connection.close()
    print(percentiles(f"{name}: a job", [wait for waits in deaths for wait in waits]))
    print(percentiles(f"{name}: all jobs of a worker", [max(waits) for waits in deaths]))
    print(f"{'':44} in {time.monotonic() - began:.0f} s", flush=True)


async def main() -> None:
    supervisor.HEALTHY_S = 0.0  # so that killed processes are started again at once, without a backoff
    async with ground() as place:
        os.environ |= {"SLOW_S": "3600", "SLOW_CALLS": str(place.settings.home / "calls"), "LOG_LEVEL": "error"}
        with place.scheduler(), place.workers(PROCESSES, lanes=LANES, kind=SlowWorkers):
            # a process with a younger session rescues only jobs of workers whose death was recorded
            await asyncio.sleep(place.settings.lease_s)
            print(f"{DEATHS} deaths each, up to {MOST_AT_ONCE} at once, of {PROCESSES} processes", flush=True)
            await measure(place, "heard", signal.SIGKILL)
            await measure(place, "lease", signal.SIGSTOP)


if __name__ == "__main__":
    run(main)
