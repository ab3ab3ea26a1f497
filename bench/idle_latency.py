"""Idle latency, groups of few jobs, and what an idle fleet costs, at default settings and with no-op stages.

- From before an INSERT is sent until the notification of PROCESSING arrives, with one job at a time, at random moments.
- After each, two bare updates of one row with a commit each: the part of the disk, since an INSERT and a claim
  wait for it twice as well.
- 1, 2 and 8 jobs inserted in one statement, until the last is COMPLETED, against as many jobs one by one: each is
  inserted when the one before has been completed. A ratio of at most 1 means that a group isn't slower.
- CPU of two worker processes, a scheduler, PostgreSQL and Redis while nothing happens, as percent of a core.

Goals: p50 under 6 ms and p99 under 20 ms to PROCESSING; groups not slower; under 2 % of a core idle.

    .venv/bin/python -m bench.idle_latency [--json] [--rounds 200] [--idle-s 20]
"""

import asyncio
import json
import random
import time

import asyncpg

from bench.cpu import Servers
from bench.figures import Figures, machine, median, options, percentile, show
from bench.ground import JOBS, Ground, ground, run

GROUPS = (1, 2, 8)
WORKERS = 2
BARE_TABLE = "CREATE TABLE public.bare AS SELECT 0 AS number"
BARE_UPDATE = "UPDATE public.bare SET number = number + 1"


class Watch:
    """Hears the notifications of jobs, and tells when each reached a status."""

    def __init__(self) -> None:
        self._awaited: dict[tuple[str, str], asyncio.Future[float]] = {}

    def heard(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        message = json.loads(str(payload))
        future = self._awaited.get((message["id"], message["status"]))
        if future is not None and not future.done():
            future.set_result(time.perf_counter())

    def of(self, job: str, status: str) -> "asyncio.Future[float]":
        return self._awaited.setdefault((job, status), asyncio.get_running_loop().create_future())


async def inserted(producer: "asyncpg.Connection[asyncpg.Record]", watch: Watch, prefix: str, count: int) -> Figures:
    """Insert jobs in one statement; return ms until the first is PROCESSING and until the last is COMPLETED."""
    first = watch.of(f"{prefix}1", "PROCESSING")
    ends = [watch.of(f"{prefix}{number}", "COMPLETED") for number in range(1, count + 1)]
    began = time.perf_counter()
    await producer.execute(JOBS, prefix, count)
    async with asyncio.timeout(30):
        return {"started": (await first - began) * 1000, "ended": (max(await asyncio.gather(*ends)) - began) * 1000}


async def bare_commits(session: "asyncpg.Connection[asyncpg.Record]") -> float:
    """Return the ms of two updates of one row that are committed one after the other."""
    began = time.perf_counter()
    for _ in range(2):
        await session.execute(BARE_UPDATE)
    return (time.perf_counter() - began) * 1000


async def idle_percent(place: Ground, fleet: list[int], for_s: float) -> float:
    """Return the CPU of PostgreSQL, Redis and the fleet's processes, as percent of a core."""
    servers = await Servers.of(place)
    await asyncio.sleep(3)
    before_s = sum(servers.read_s(fleet).values())
    await asyncio.sleep(for_s)
    return round((sum(servers.read_s(fleet).values()) - before_s) / for_s * 100, 2)


async def main() -> None:
    parser = options(__doc__, rounds=200)
    parser.add_argument("--idle-s", type=float, default=20, help="seconds for which the idle fleet is watched")
    arguments = parser.parse_args()
    starts, ends, bare = [], [], []
    groups: dict[int, list[float]] = {count: [] for count in GROUPS}
    async with ground() as place:
        listener, producer = await place.connect(), await place.connect()
        await producer.execute(BARE_TABLE)
        watch = Watch()
        await listener.add_listener("darkroom_jobs", watch.heard)
        with place.workers(WORKERS) as workers, place.scheduler() as scheduler:
            await inserted(producer, watch, "warm", 8)
            for number in range(arguments.rounds):
                await asyncio.sleep(random.uniform(0.02, 0.15))
                one = await inserted(producer, watch, f"r{number}x", 1)
                starts.append(one["started"])
                ends.append(one["ended"])
                await asyncio.sleep(random.uniform(0.02, 0.1))
                bare.append(await bare_commits(producer))
            for number in range(max(1, arguments.rounds // 4)):
                for count in GROUPS:
                    ms = {}
                    # In turn, because a fleet that has just had many jobs looks more often
                    for is_together in (True, False) if number % 2 else (False, True):
                        await asyncio.sleep(random.uniform(0.02, 0.1))
                        began = time.perf_counter()
                        name = f"s{number}x{count}x{is_together}x"
                        for single in range(1 if is_together else count):
                            await inserted(producer, watch, f"{name}{single}x", count if is_together else 1)
                        ms[is_together] = time.perf_counter() - began
                    groups[count].append(ms[True] / ms[False])
            idle = await idle_percent(place, [*workers.pids, scheduler], arguments.idle_s)
    figures: Figures = {"benchmark": "idle_latency", "rounds": arguments.rounds}
    for name, values in (("to_processing", starts), ("to_completed", ends), ("bare_commits", bare)):
        figures |= {f"{name}_p{part}_ms": percentile(values, part) for part in (50, 95, 99)}
        figures[f"{name}_max_ms"] = round(max(values), 3)
    figures |= {f"{count}_at_once_to_one_by_one": median(ratios) for count, ratios in groups.items()}
    show(figures | {"idle_percent_of_a_core": idle, "machine": machine()}, is_json=arguments.json)


if __name__ == "__main__":
    run(main)
