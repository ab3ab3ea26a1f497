"""Drain: jobs of four stages that do nothing, run by Darkroom, by other systems, and by raw asyncpg, in turn.

All wait already when the clock starts: Darkroom's are inserted in one statement, which also queues and charges them
through its triggers; the peers' workers are stopped (SIGSTOP) while their messages are queued, and then go on. The
clock stops with the last job's completion. What entering costs isn't counted for any system; see bench.entry.

Darkroom runs as it ships: durable commits, log level info as JSON into a file, default lanes, with fence, ledger,
history and deadlines. Raw is six single-row UPDATEs a job by id on the same table, triggers off, by one client process
with 32 connections or by two with 16, whichever is faster in the round. What each peer does stands in its module of
bench.peers. CPU is that of all processes: PostgreSQL, Redis, and the workers or clients.

    .venv/bin/python -m bench.throughput [--json] [--rounds 5] [--systems raw,darkroom,celery]
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import psutil

from bench.cpu import Servers
from bench.drains import ENHANCEMENTS, Drain, Measurement, darkroom, emptied, fastest_raw, insert_rows
from bench.figures import Figures, machine, median, note, options, show, versions
from bench.ground import ROOT, Ground, ground, run
from bench.peers.commands import PEERS, Peer

PEER_PYTHON = ROOT / ".venv-bench/bin/python"
READY_S = 60
WARM_UP = "w"


async def peer(measurement: Measurement, one: Peer, name: str, count: int, folder: Path) -> Drain:
    """Start a peer's workers, let them do one job, stop them while all jobs are queued, and drain."""
    place = measurement.place
    assert PEER_PYTHON.exists(), "run `make .venv-bench/.ready`, which installs the systems to compare with"
    environment = os.environ | {
        "DATABASE_URL": place.services.database_url,
        "REDIS_URL": place.services.redis_url,
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "",
    }
    await insert_rows(place, f"{WARM_UP}{name}", 1)
    await insert_rows(place, name, count)

    def queue(prefix: str, jobs: int) -> None:
        command = [PEER_PYTHON, "-m", "bench.peers.queue_jobs", one.module, prefix, str(jobs)]
        subprocess.run(command, cwd=ROOT, env=environment, check=True)

    queue(f"{WARM_UP}{name}", 1)
    with (folder / f"{one.module}.log").open("a") as log:
        processes = [_started(one.command, environment, log) for _ in range(one.copies)]
        try:
            await _done(place, f"{WARM_UP}{name}", 1)
            await asyncio.sleep(2)  # until the other processes of the same command are started, too
            workers = [process.pid for process in processes]
            _signal(workers, signal.SIGSTOP)
            await asyncio.to_thread(queue, name, count)

            async def start() -> None:
                _signal(workers, signal.SIGCONT)

            return await measurement.drained(name, count, workers, start=start)
        finally:
            for process in processes:
                _signal([process.pid], signal.SIGCONT)
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)  # its session is its own
                    process.wait()


def _started(command: Sequence[str], environment: Mapping[str, str], log: IO[str]) -> "subprocess.Popen[bytes]":
    program, *arguments = command
    return subprocess.Popen(
        [PEER_PYTHON.with_name(program), *arguments],
        cwd=ROOT,
        env=environment,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )


def _signal(roots: list[int], number: int) -> None:
    for root in roots:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(root)
            for one in (process, *process.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.send_signal(number)


async def _done(place: Ground, prefix: str, count: int) -> None:
    connection = await place.connect()
    until_s = time.monotonic() + READY_S
    while await connection.fetchval(f"SELECT jobs FROM ({ENHANCEMENTS.done}) done", prefix) < count:
        assert time.monotonic() < until_s, "the workers did no job within a minute"
        await asyncio.sleep(0.1)
    await connection.close()


async def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--jobs", type=int, default=20_000, help="jobs of each of Darkroom's and raw's drains")
    parser.add_argument("--peer-jobs", type=int, default=5_000, help="jobs of each of the peers' drains")
    parser.add_argument("--systems", default=",".join(["raw", "darkroom", *PEERS]), help="what is measured")
    arguments = parser.parse_args()
    drains = await measured(arguments.systems.split(","), arguments.rounds, arguments.jobs, arguments.peer_jobs)
    show(figures_of(drains) | {"jobs": arguments.jobs, "peer_jobs": arguments.peer_jobs}, is_json=arguments.json)


async def measured(systems: list[str], rounds: int, jobs: int, peer_jobs: int) -> dict[str, list[Drain]]:
    """Measure all systems in turn, as often as there are rounds."""
    drains: dict[str, list[Drain]] = {system: [] for system in systems}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            async with ground() as place:
                measurement = Measurement(place, await Servers.of(place))
                for system in systems:
                    name = f"{system[0]}{number}x"
                    await emptied(place)
                    if system == "raw":
                        drain = await fastest_raw(measurement, name, jobs)
                    elif system == "darkroom":
                        drain = await darkroom(measurement, name, jobs, Path(folder))
                    else:
                        drain = await peer(measurement, PEERS[system], name, peer_jobs, Path(folder))
                    drains[system].append(drain)
                    note(f"{number + 1}. {system:14} {drain.jobs_per_s:8,.0f} jobs/s  {drain.cpu_us_per_job:7,.0f} us")
    return drains


def figures_of(drains: dict[str, list[Drain]]) -> Figures:
    """Return the medians: each system's jobs a second under its name, CPU, and ratios to raw within a round."""
    figures: Figures = {"benchmark": "throughput", "rounds": len(next(iter(drains.values())))}
    for system, each in drains.items():
        figures[system] = median([drain.jobs_per_s for drain in each])
        figures[f"{system}_cpu_us_per_job"] = median([drain.cpu_us_per_job for drain in each])
        figures[f"{system}_cpu_us"] = {name: median([drain.cpu_us[name] for drain in each]) for name in each[0].cpu_us}
        figures[f"{system}_each"] = [round(drain.jobs_per_s) for drain in each]
    for other, each in drains.items():
        if other != "darkroom" and "darkroom" in drains:
            pairs = list(zip(drains["darkroom"], each, strict=True))
            figures[f"darkroom_to_{other}"] = median([ours.jobs_per_s / theirs.jobs_per_s for ours, theirs in pairs])
            figures[f"darkroom_cpu_to_{other}"] = median(
                [ours.cpu_us_per_job / theirs.cpu_us_per_job for ours, theirs in pairs]
            )
    return figures | {"machine": machine(), "versions": peer_versions()}


def peer_versions() -> dict[str, str]:
    """Return the versions of the drivers and of the systems in the other environment, if it is there."""
    own = versions("asyncpg", "dramatiq", "redis", "sqlalchemy")
    if not PEER_PYTHON.exists():
        return own
    names = ("celery", "saq", "taskiq", "taskiq-redis", "procrastinate", "dramatiq", "sqlalchemy", "psycopg", "uvloop")
    code = f"import json, importlib.metadata as m; print(json.dumps({{n: m.version(n) for n in {names!r}}}))"
    return own | json.loads(subprocess.run([PEER_PYTHON, "-c", code], stdout=subprocess.PIPE, check=True).stdout)


if __name__ == "__main__":
    run(main)
