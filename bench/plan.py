"""How well `darkroom plan` predicts: its waits against a simulation of jobs in front of lanes.

Jobs come at random (Poisson) and hold a lane for a random time (lognormal), first come, first served. For each number
of lanes, load and variability of times, 95 % of jobs wait at most so long by the formula and in the simulation, in
parts of a job's mean time. Then lanes are planned for a wait of half of that time, and jobs that wait longer are
counted.

    .venv/bin/python -m bench.plan [--json] [--jobs 200000]
"""

import argparse
import heapq
import math
import random
import statistics

from bench.figures import Figures, machine, show
from workers.operations.capacity import Load, lanes_for, wait_s

LANES = (4, 16, 64, 256)
LOADS = (0.5, 0.7, 0.8, 0.9, 0.95)
VARIABILITIES = (0.1, 0.5, 1.0, 4.0)
WARM_FRACTION = 0.2
"""The first part of the jobs, which meet lanes that are still emptier than later, isn't counted."""

NOTABLE = 0.1
"""Waits from this part of a job's time on have a relative error; below it only the difference says something."""

PLANNED_WAIT = 0.5


def simulate(load: Load, lanes: int, jobs: int, seed: int) -> tuple[list[float], float]:
    """Return the waits of jobs, and the part of the lanes that was busy."""
    drawn = random.Random(seed)
    deviation = math.sqrt(math.log(1 + load.variability))
    middle = math.log(load.service_s) - deviation**2 / 2
    free_at = [0.0] * lanes
    waits, busy_s, now_s = [], 0.0, 0.0
    skipped, counted_from_s = int(jobs * WARM_FRACTION), 0.0
    for number in range(jobs):
        now_s += drawn.expovariate(load.jobs_per_s)
        took_s = drawn.lognormvariate(middle, deviation)
        begins_s = max(now_s, free_at[0])
        heapq.heapreplace(free_at, begins_s + took_s)
        if number == skipped:
            counted_from_s = now_s
        if number >= skipped:
            waits.append(begins_s - now_s)
            busy_s += took_s
    return waits, busy_s / lanes / (now_s - counted_from_s)


def p95(waits: list[float]) -> float:
    """Return what 95 % of waits don't exceed."""
    return sorted(waits)[int(len(waits) * 0.95)]


def compared(jobs: int) -> list[Figures]:
    """Return a line for each point of the grid."""
    lines = []
    for lanes in LANES:
        for busy in LOADS:
            for variability in VARIABILITIES:
                load = Load(busy * lanes, 1.0, variability)
                waits, was_busy = simulate(load, lanes, jobs, seed=lanes)
                lines.append(
                    {
                        "lanes": lanes,
                        "busy": busy,
                        "variability": variability,
                        "predicted_p95": round(wait_s(load, lanes), 3),
                        "simulated_p95": round(p95(waits), 3),
                        "simulated_busy": round(was_busy, 3),
                    }
                )
    return lines


def planned(jobs: int) -> list[Figures]:
    """Return, for several loads, the lanes that are planned, and the part of jobs that wait longer than planned."""
    lines = []
    for busy_lanes in (2.0, 10.0, 50.0, 200.0):
        for variability in VARIABILITIES:
            load = Load(busy_lanes, 1.0, variability)
            lanes = lanes_for(load, PLANNED_WAIT)
            waits, _ = simulate(load, lanes, jobs, seed=lanes)
            late = sum(wait > PLANNED_WAIT for wait in waits) / len(waits)
            lines.append(
                {"busy_lanes": busy_lanes, "variability": variability, "lanes": lanes, "late_fraction": round(late, 4)}
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object with every figure")
    parser.add_argument("--jobs", type=int, default=200_000, help="jobs of each simulation")
    arguments = parser.parse_args()
    grid, plans = compared(arguments.jobs), planned(arguments.jobs)
    errors = [abs(one["predicted_p95"] - one["simulated_p95"]) for one in grid]
    relative = [
        (one["predicted_p95"] - one["simulated_p95"]) / one["simulated_p95"]
        for one in grid
        if one["simulated_p95"] >= NOTABLE
    ]
    figures: Figures = {
        "benchmark": "plan",
        "jobs": arguments.jobs,
        "points": len(grid),
        "p95_error_median_of_a_job": round(statistics.median(errors), 3),
        "notable_points": len(relative),
        "relative_error_median": round(statistics.median(map(abs, relative)), 3),
        "relative_error_lowest": round(min(relative), 3),
        "relative_error_highest": round(max(relative), 3),
        "busy_error_most": round(max(abs(one["busy"] - one["simulated_busy"]) for one in grid), 3),
        "late_fraction_median": statistics.median(one["late_fraction"] for one in plans),
        "late_fraction_most": max(one["late_fraction"] for one in plans),
        "grid": grid,
        "plans": plans,
    }
    show(figures | {"machine": machine()}, is_json=arguments.json)


if __name__ == "__main__":
    main()
