"""Soak: half of what two worker processes can do, for half an hour, with a scheduler; no-op jobs of four stages.

First a drain tells how many jobs a second these processes can do. Then jobs are inserted at half of that rate, five
times a second, while every process's memory, the tables and the leases are looked at.

- Memory: of each process of the fleet, the largest deviation from its median after the first fifth of the time, in
  percent; goal: at most 5.
- Tables: the size of job_queue with its indexes, at its largest in the first and in the second half; and of the tables
  that keep finished jobs, how many bytes a job they have taken in each half, since they grow with the jobs.
- Leases: how far from its end a live worker's lease ever was; a rescued job is an error.

    .venv/bin/python -m bench.soak [--json] [--minutes 30] [--rate JOBS_PER_S]
"""

import asyncio
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from bench.cpu import Servers
from bench.drains import Measurement, darkroom, emptied, settings_that_ship
from bench.figures import Figures, machine, note, options, show
from bench.ground import JOBS, Ground, ground, run, until

PROCESSES = 2
LOOK_S = 5.0
INSERTS_PER_S = 5
WARM_FRACTION = 0.2
MEGABYTE = 1_000_000

SIZES = """
SELECT pg_total_relation_size('darkroom.job_queue') AS queue_bytes,
       (SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = 'darkroom.stage_runs'::regclass)
           + pg_total_relation_size('public.image_enhancement_jobs') + pg_total_relation_size('darkroom.artifacts')
           + pg_total_relation_size('public.token_transactions') + pg_total_relation_size('darkroom.job_money')
           AS kept_bytes,
       (SELECT count(*) FROM darkroom.job_queue) AS queued,
       (SELECT min(extract(epoch FROM lease_expires_at - now())) FROM darkroom.workers WHERE lease_expires_at > now())
           AS lease_left_s,
       (SELECT count(*) FROM darkroom.workers WHERE lease_expires_at <= now()) AS missed_leases
"""


class Samples:
    """What was seen of the fleet and of the tables, one look after another."""

    def __init__(self) -> None:
        self.memory_mb: dict[str, list[float]] = defaultdict(list)
        self.tables: list[dict[str, Any]] = []
        self.inserted: list[int] = []

    def add(self, fleet: dict[str, psutil.Process], row: "asyncpg.Record", inserted: int) -> None:
        for name, process in fleet.items():
            self.memory_mb[name].append(process.memory_info().rss / MEGABYTE)
        self.tables.append(dict(row))
        self.inserted.append(inserted)

    def figures(self) -> Figures:
        count = len(self.tables)
        warm, half = int(count * WARM_FRACTION), count // 2
        memory = {name: values[warm:] for name, values in self.memory_mb.items()}
        medians = {name: statistics.median(values) for name, values in memory.items()}
        deviations = {
            name: max(abs(value / medians[name] - 1) * 100 for value in values) for name, values in memory.items()
        }
        queue = [one["queue_bytes"] / MEGABYTE for one in self.tables]
        kept = [one["kept_bytes"] for one in self.tables]
        grown = [
            (kept[last] - kept[first]) / max(1, self.inserted[last] - self.inserted[first])
            for first, last in ((warm, half), (half, count - 1))
        ]
        return {
            "memory_mb": {name: round(value) for name, value in medians.items()},
            "memory_deviation_percent": {name: round(value, 1) for name, value in deviations.items()},
            "most_memory_deviation_percent": round(max(deviations.values()), 1),
            "queue_mb_first_half": round(max(queue[warm:half]), 2),
            "queue_mb_second_half": round(max(queue[half:]), 2),
            "kept_bytes_a_job_first_half": round(grown[0]),
            "kept_bytes_a_job_second_half": round(grown[1]),
            "most_queued": max(one["queued"] for one in self.tables[warm:]),
            "least_lease_left_s": round(float(min(one["lease_left_s"] for one in self.tables)), 1),
            "missed_leases": max(one["missed_leases"] for one in self.tables),
        }


def fleet_of(workers: list[int], scheduler: int) -> dict[str, psutil.Process]:
    """Return the fleet's processes by name: those of the workers with their children, and the scheduler."""
    found = {"scheduler": psutil.Process(scheduler)}
    for number, pid in enumerate(workers, 1):
        root = psutil.Process(pid)
        processes = [root, *root.children(recursive=True)]
        found |= {f"worker {number}.{place}": process for place, process in enumerate(processes)}
    return found


async def peak(place: Ground, folder: Path, jobs: int) -> float:
    """Return how many jobs a second the workers complete while a backlog waits."""
    drain = await darkroom(Measurement(place, await Servers.of(place)), "peakx", jobs, folder)
    await emptied(place)
    return drain.jobs_per_s


async def soak(place: Ground, folder: Path, rate: float, for_s: float) -> tuple[Samples, Figures]:
    """Insert jobs at a rate, and look at everything every LOOK_S seconds."""
    producer, watcher = await place.connect(), await place.connect()
    samples, inserted = Samples(), 0
    with settings_that_ship(folder), place.workers(PROCESSES) as workers, place.scheduler() as scheduler:
        fleet = fleet_of(workers.pids, scheduler)
        began_s = time.monotonic()
        next_look_s, next_note_s = began_s, began_s + 60
        while (now_s := time.monotonic()) < began_s + for_s:
            due = int((now_s - began_s) * rate) - inserted
            if due > 0:
                await producer.execute(JOBS, f"k{inserted}x", due)
                inserted += due
            if now_s >= next_look_s:
                next_look_s += LOOK_S
                samples.add(fleet, await watcher.fetchrow(SIZES), inserted)
            if now_s >= next_note_s:
                next_note_s += 60
                note(f"{(now_s - began_s) / 60:.0f} min: {inserted:,} jobs, {samples.figures()}")
            await asyncio.sleep(1 / INSERTS_PER_S)

        async def is_done() -> bool:
            return await watcher.fetchval("SELECT count(*) = 0 FROM darkroom.job_queue")

        await until(is_done, "the last jobs")
    row = await watcher.fetchrow(
        """SELECT (SELECT count(*) FROM public.image_enhancement_jobs WHERE status = 'COMPLETED') AS completed,
                  (SELECT count(*) FROM darkroom.stage_runs WHERE event = 'rescued') AS rescued,
                  (SELECT count(*) FROM darkroom.money_violations) AS violations"""
    )
    assert row["completed"] == inserted, f"{row['completed']} of {inserted} jobs are completed"
    assert not row["rescued"], f"{row['rescued']} claims were rescued"
    assert not row["violations"], "the money isn't sound"
    return samples, {"jobs": inserted, "rescued": row["rescued"]}


async def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--minutes", type=float, default=30, help="how long jobs are inserted")
    parser.add_argument("--rate", type=float, help="jobs a second; by default half of what a drain does")
    parser.add_argument("--peak-jobs", type=int, default=10_000, help="jobs of the drain that tells the peak rate")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        async with ground() as place:
            peak_per_s = None if arguments.rate else await peak(place, Path(folder), arguments.peak_jobs)
            rate = arguments.rate or (peak_per_s or 0) / 2
            note(f"{rate:,.0f} jobs a second")
            samples, counts = await soak(place, Path(folder), rate, arguments.minutes * 60)
    figures: Figures = {"benchmark": "soak", "minutes": arguments.minutes, "peak_per_s": peak_per_s, "rate_per_s": rate}
    show(figures | counts | samples.figures() | {"machine": machine()}, is_json=arguments.json)


if __name__ == "__main__":
    run(main)
