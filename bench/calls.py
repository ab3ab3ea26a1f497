"""Thousands of provider calls in flight in one process: how soon they are out, their end, memory and CPU.

Jobs of type `generate` wait, and one worker process with as many lanes as calls takes them through the real gate and
the real storage, with a fake paid provider that answers after some seconds. Times are those of the calls' records:
`started_at`, when the gate admitted a call, and `finished_at`, when its end was recorded.

- `whole_s`: from the first start to the last end, with limits that allow all calls at once. Goal: at most 14 s for
  5,000 calls of 10 s.
- `worker_mb`: the most memory that the worker process has held. Goal: under 200 MB.
- `postgres_ms_per_call`: CPU of all of PostgreSQL, from the claim to the end of the job. Goal: under 1 ms.
- `rounds`: with the default `first_concurrency`, how many rounds of calls have begun until all are in flight at once. A
  round lasts as long as a call. Goal: at most 10.

    .venv/bin/python -m bench.calls [--json] [--rounds 3] [--calls 5000] [--seconds 10] [--ramp-calls 5000]
"""

import asyncio
import math
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.cpu import Servers
from bench.drains import GENERATED, emptied, settings_that_ship
from bench.figures import Figures, machine, median, note, options, show
from bench.ground import Ground, ground, run
from config.gate_terms import FIRST_CONCURRENT
from workers.process.supervisor import WorkerProcesses

WITHIN_S = 300

DONE = "SELECT count(*) FROM public.mcp_generation_jobs WHERE starts_with(id, $1) AND status = 'COMPLETED'"

SPANS = """
SELECT extract(epoch FROM started_at)::float8 AS began, extract(epoch FROM finished_at)::float8 AS ended
FROM darkroom.provider_calls WHERE starts_with(job_id, $1) AND outcome = 'answered' ORDER BY started_at
"""


class PacedWorkers(WorkerProcesses):
    """Worker processes whose provider answers after PACED_S seconds."""

    ENTRY_POINT = "bench.paced_worker:main"


@dataclass(frozen=True, slots=True)
class Flight:
    """A run of many calls.

    Attributes:
        began_s: when each call was admitted, in order, counted from when the jobs were inserted.
        ended_s: when the end of each was recorded.
        most_mb: the most memory of the worker process.
        cpu_s: CPU seconds of each group of processes.
    """

    began_s: list[float]
    ended_s: list[float]
    most_mb: float
    cpu_s: dict[str, float]

    @property
    def whole_s(self) -> float:
        return max(self.ended_s) - self.began_s[0]

    @property
    def out_s(self) -> float:
        """How long it took from the first start to the last."""
        return self.began_s[-1] - self.began_s[0]

    def ms_per_call(self, processes: str) -> float:
        return self.cpu_s[processes] / len(self.began_s) * 1_000


def most_at_once(flight: Flight) -> list[tuple[float, int]]:
    """Return each new largest number of calls in flight, and when it was reached, from the first start on."""
    changes = sorted([(at, 1) for at in flight.began_s] + [(at, -1) for at in flight.ended_s])
    now, most = 0, 0
    reached: list[tuple[float, int]] = []
    for at, change in changes:
        now += change
        if now > most:
            most = now
            reached.append((at - flight.began_s[0], most))
    return reached


def most_memory_mb(roots: Iterable[int]) -> float:
    """Return the largest memory, in MB, that a child of dramatiq's masters has ever held: a worker's."""
    most_kb = 0
    for root in roots:
        for one in psutil.Process(root).children():
            with suppress(OSError):
                lines = Path(f"/proc/{one.pid}/status").read_text().splitlines()
                most_kb = max(most_kb, *(int(line.split()[1]) for line in lines if line.startswith("VmHWM")))
    return most_kb / 1024


async def flown(
    place: Ground, name: str, jobs: int, *, lanes: int, seconds: float, limits: dict[str, int], folder: Path
) -> Flight:
    """Let one worker process make a call for each of some jobs, and check that nothing is left and all is paid."""
    servers, connection = await Servers.of(place), await place.connect()
    environment = {
        "PACED_S": str(seconds),
        "DARKROOM_PROVIDER_LIMITS": ",".join(f"scripted/{limit}={value}" for limit, value in limits.items()),
        "DARKROOM_REUSE_RESULTS": "false",
    }
    with (
        settings_that_ship(folder),
        place.workers(1, lanes=lanes, kind=PacedWorkers, environment=environment) as workers,
    ):
        await connection.execute(GENERATED.insert, name, jobs, *GENERATED.more)
        inserted_s, before_s = time.time(), servers.read_s(workers.pids)
        until_s = time.monotonic() + WITHIN_S
        while await connection.fetchval(DONE, name) < jobs:
            assert time.monotonic() < until_s, f"{jobs} jobs weren't done within {WITHIN_S} s"
            await asyncio.sleep(0.5)
        after_s, most_mb = servers.read_s(workers.pids), most_memory_mb(workers.pids)
    spans = await connection.fetch(SPANS, name)
    assert len(spans) == jobs, f"{len(spans)} calls were answered for {jobs} jobs"
    assert not await connection.fetchval("SELECT count(*) FROM darkroom.job_queue"), "jobs are left"
    assert not await connection.fetchval("SELECT count(*) FROM darkroom.money_violations"), "balances are wrong"
    await connection.close()
    return Flight(
        [one["began"] - inserted_s for one in spans],
        [one["ended"] - inserted_s for one in spans],
        most_mb,
        {processes: after_s[processes] - before_s[processes] for processes in after_s},
    )


async def at_once(calls: int, seconds: float, folder: Path) -> Flight:
    """Make calls whose limits allow all of them at once."""
    async with ground() as place:
        limits = {"concurrency": calls, "first_concurrency": calls}
        flight = await flown(place, "c", calls, lanes=calls, seconds=seconds, limits=limits, folder=folder)
        await emptied(place)
    return flight


async def rounds_until(calls: int, seconds: float, folder: Path) -> int | None:
    """Return how many rounds begin until so many calls are in flight, from the default ceiling on; None if never."""
    doublings = math.ceil(math.log2(max(1.0, calls / FIRST_CONCURRENT)))
    jobs = FIRST_CONCURRENT * (2**doublings - 1) + 2 * calls
    async with ground() as place:
        flight = await flown(
            place, "r", jobs, lanes=calls, seconds=seconds, limits={"concurrency": calls}, folder=folder
        )
    latency_s = median([ended - began for began, ended in zip(flight.began_s, flight.ended_s, strict=True)])
    reached = most_at_once(flight)
    for each in range(1, int(reached[-1][0] / latency_s) + 2):
        most = max(number for at_s, number in reached if at_s < each * latency_s)
        note(f"round {each}: at most {most} in flight")
    at_s, most = reached[-1]
    return int(at_s / latency_s) + 1 if most >= calls else None


async def main() -> None:
    parser = options(__doc__, rounds=3)
    parser.add_argument("--calls", type=int, default=5_000, help="calls at once")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each takes")
    parser.add_argument("--ramp-calls", type=int, default=5_000, help="calls in flight that rounds end at; 0 for none")
    parser.add_argument("--ramp-seconds", type=float, default=10.0, help="how long each of these takes")
    arguments = parser.parse_args()
    flights = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.rounds):
            flight = await at_once(arguments.calls, arguments.seconds, Path(folder))
            flights.append(flight)
            note(
                f"{number + 1}. {flight.whole_s:.1f} s, out after {flight.out_s:.1f} s, {flight.most_mb:.0f} MB, "
                f"{flight.ms_per_call('postgres'):.2f} ms of PostgreSQL and {flight.ms_per_call('workers'):.2f} ms "
                f"of the worker a call"
            )
        figures: Figures = {
            "benchmark": "calls",
            "rounds": arguments.rounds,
            "calls": arguments.calls,
            "seconds": arguments.seconds,
            "whole_s": median([one.whole_s for one in flights]),
            "first_start_s": median([one.began_s[0] for one in flights]),
            "out_s": median([one.out_s for one in flights]),
            "most_in_flight": min(most_at_once(one)[-1][1] for one in flights),
            "worker_mb": median([one.most_mb for one in flights]),
            "postgres_ms_per_call": median([one.ms_per_call("postgres") for one in flights]),
            "worker_ms_per_call": median([one.ms_per_call("workers") for one in flights]),
        }
        if arguments.ramp_calls:
            figures |= {
                "ramp_calls": arguments.ramp_calls,
                "ramp_seconds": arguments.ramp_seconds,
                "ramp_rounds": await rounds_until(arguments.ramp_calls, arguments.ramp_seconds, Path(folder)),
            }
    show(figures | {"machine": machine()}, is_json=arguments.json)


if __name__ == "__main__":
    run(main)
