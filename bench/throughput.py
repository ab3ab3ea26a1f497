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

import tempfile
from pathlib import Path

from bench.cpu import Servers
from bench.drains import Drain, Measurement, darkroom, emptied, fastest_raw
from bench.figures import Figures, machine, median, note, options, show
from bench.ground import ground, run
from bench.peer_workers import peer, peer_versions
from bench.peers.commands import PEERS


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
        if "raw" in drains:
            pairs = list(zip(each, drains["raw"], strict=True))
            figures[f"{other}_to_raw"] = median([theirs.jobs_per_s / plain.jobs_per_s for theirs, plain in pairs])
        if other != "darkroom" and "darkroom" in drains:
            pairs = list(zip(drains["darkroom"], each, strict=True))
            figures[f"darkroom_to_{other}"] = median([ours.jobs_per_s / theirs.jobs_per_s for ours, theirs in pairs])
            figures[f"darkroom_cpu_to_{other}"] = median(
                [ours.cpu_us_per_job / theirs.cpu_us_per_job for ours, theirs in pairs]
            )
    return figures | {"machine": machine(), "versions": peer_versions()}


if __name__ == "__main__":
    run(main)
