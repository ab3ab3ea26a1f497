"""Measure how good estimates of jobs' ends are, in a simulated queue whose jobs ask now and then how long they take.

The estimates are computed by the functions of models/queue/eta.sql in PostgreSQL. docs/eta.md says what is counted.

    .venv/bin/python -m bench.eta [--json] [--hours 20] [--seed 1] [--only burst]
"""

import argparse
import json
import math
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import mean, median
from typing import Any, Final

import asyncpg

from bench.eta_queue import KINDS, LEASE_S, Job, Queue, Terms, User
from bench.ground import ground, run

LOADS: Final = (0.6, 0.9)
WARM_UP_S: Final = 7_200.0
SAMPLES: Final = 3
"""How many of all jobs the periodic task estimates each minute, to learn from the errors."""
NEWEST_SAMPLES: Final = 2
"""How many more it estimates of those that entered in the last minute."""
NEWEST: Final = 1_000
"""Among how many of the newest jobs it looks for these."""

BLOCK_S: Final = 3_600.0
"""Estimates of one hour are taken to have something to do with each other, and those of different hours not."""
ASK_EVERY_S: Final = 30.0
AT_ONCE: Final = 200
TIERS: Final = (("FREE", 1, 1), ("BASIC", 2, 3), ("STANDARD", 4, 5), ("PREMIUM", 8, 10))

ESTIMATE: Final = """
SELECT e.* FROM jsonb_array_elements($1::jsonb) WITH ORDINALITY f
CROSS JOIN LATERAL darkroom.estimate(f.value) e ORDER BY f.ordinality
"""
SAMPLE: Final = """
INSERT INTO darkroom.estimates (job_type, job_id, queue, is_running, at, median_s, spread, passed_s, ended_at, score)
SELECT 'simulated', s.n::text, 'default', s.is_running, to_timestamp(s.ended_s), s.median_s, s.spread, s.passed_s,
       to_timestamp(s.ended_s), s.score
FROM unnest($1::boolean[], $2::float8[], $3::float8[], $4::float8[], $5::float8[], $6::float8[])
    WITH ORDINALITY s (is_running, ended_s, median_s, spread, passed_s, score, n)
"""
RANGE: Final = """
SELECT r.* FROM unnest($1::boolean[], $2::float8[], $3::float8[], $4::float8[], $5::float8[])
    WITH ORDINALITY a (is_running, at_s, median_s, spread, passed_s, n)
CROSS JOIN LATERAL darkroom.estimate_range(a.median_s, a.spread,
    darkroom.scores(a.is_running, a.median_s, a.passed_s, to_timestamp(a.at_s))) r ORDER BY a.n
"""


@dataclass(slots=True)
class Ask:
    """A job's question, what was known then, and what came of it."""

    job: Job
    at_s: float
    facts: dict[str, Any]
    is_sample: bool
    is_running: bool
    is_at_entry: bool = False
    median_s: float = 0.0
    spread: float = 0.0

    @property
    def passed_s(self) -> float:
        return float(self.facts["passed_s"])

    @property
    def took_s(self) -> float:
        assert self.job.ended_s is not None
        return max(self.job.ended_s - self.at_s, 0.001)

    @property
    def score(self) -> float:
        return math.log(self.took_s / self.median_s) / self.spread


@dataclass
class Run:
    """One scenario at one load."""

    queue: Queue
    load: float
    until_s: float
    users: Sequence[User] = tuple(User(f"u{number}") for number in range(200))
    asks: list[Ask] = field(default_factory=list)
    surprises: list[tuple[float, float]] = field(default_factory=list)
    recorded: Sequence[tuple[float, float]] = ()

    @property
    def mean_s(self) -> float:
        return sum(sum(stage.mean_s for stage in stages) for stages in KINDS.values()) / len(KINDS)

    def kind(self) -> str:
        return self.queue.dice.choice(list(KINDS))

    def every(self, step_s: Callable[[], float], act: Callable[[], None]) -> None:
        def again() -> None:
            act()
            if self.queue.now_s < self.until_s:
                self.queue.at(self.queue.now_s + step_s(), again)

        self.queue.at(step_s(), again)

    def arrive(self, rate: float, jobs: Callable[[], int] = lambda: 1) -> None:
        """Let users submit: so many jobs a second in all, some at a time."""
        mean = sum(jobs() for _ in range(1_000)) / 1_000

        def submit() -> None:
            user = self.queue.dice.choice(self.users)
            for job in [self.queue.submit(user, self.kind()) for _ in range(jobs())]:
                self.asks_at_entry(job)

        self.every(lambda: self.queue.dice.expovariate(rate / mean), submit)

    def bulk(self, at_s: float, users: Sequence[User], jobs: int) -> None:
        def submit() -> None:
            for job in [self.queue.submit(user, self.kind()) for user in users for _ in range(jobs)]:
                self.asks_at_entry(job, one_in=60)

        self.queue.at(at_s, submit)

    def asks_at_entry(self, job: Job, *, one_in: int = 20) -> None:
        if self.queue.dice.random() < 1 / one_in and job.ended_s is None:
            self.ask(job, is_at_entry=True)

    def ask(self, job: Job, *, is_sample: bool = False, is_at_entry: bool = False) -> None:
        if self.queue.is_paused or self.queue.now_s > self.until_s:
            return
        facts = self.queue.facts(job)
        self.asks.append(Ask(job, self.queue.now_s, facts, is_sample, job.state == "running", is_at_entry))

    def sample(self) -> None:
        unfinished = list(self.queue.unfinished.values())
        chosen = self.queue.dice.sample(unfinished, min(SAMPLES, len(unfinished)))
        entered = [job for job in unfinished[-NEWEST:] if job.entered_s > self.queue.now_s - 60 and job not in chosen]
        for job in chosen + self.queue.dice.sample(entered, min(NEWEST_SAMPLES, len(entered))):
            self.ask(job, is_sample=True)

    def ask_one(self) -> None:
        if self.queue.unfinished:
            self.ask(self.queue.dice.choice(list(self.queue.unfinished.values())))

    def drained(self) -> "Run":
        self.every(lambda: 60.0, self.sample)
        self.every(lambda: ASK_EVERY_S, self.ask_one)
        self.queue.run(math.inf)
        return self


def _rate(run_: Run, lanes: int | None = None) -> float:
    return run_.load * (lanes or run_.queue.terms.lanes) / run_.mean_s


def steady(one: Run) -> None:
    one.arrive(_rate(one))


def burst(one: Run) -> None:
    one.arrive(_rate(one) * 0.5)
    for at_s in range(900, int(one.until_s), 1_800):
        jobs = round(_rate(one) * 0.5 * 1_800 / 15)
        one.bulk(at_s, one.queue.dice.sample(list(one.users), 15), jobs)


def heavy(one: Run) -> None:
    one.arrive(_rate(one) * 0.5)
    user = User("heavy")
    for at_s in range(900, int(one.until_s), 2_700):
        one.bulk(at_s, [user], round(_rate(one) * 0.5 * 2_700))


def tiers(one: Run) -> None:
    one.users = [User(f"{name}{number}", weight) for name, weight, _ in TIERS for number in range(10)]
    one.arrive(_rate(one), lambda: one.queue.dice.randint(1, 15))


def capped(one: Run) -> None:
    one.users = [User(f"{name}{number}", weight, cap) for name, weight, cap in TIERS for number in range(10)]
    one.arrive(_rate(one), lambda: one.queue.dice.randint(1, 15))


def pause(one: Run) -> None:
    every_s, for_s = 2_400, 300
    one.arrive(_rate(one) * (1 - for_s / every_s))  # nothing is done meanwhile, and the load is of what can be done
    for at_s in range(1_500, int(one.until_s), every_s):
        one.queue.at(at_s, one.queue.pause)
        one.queue.at(at_s + for_s, one.queue.resume)
        one.surprises.append((at_s, at_s + for_s))
    one.recorded = one.surprises


def limit(one: Run) -> None:
    calls_per_job = sum(stage.calls for stages in KINDS.values() for stage in stages) / len(KINDS)
    one.queue.terms.lanes = one.queue.lanes = one.queue.seen_lanes = 64
    one.queue.terms.per_minute = 60
    one.arrive(one.load * 60 / 61 / calls_per_job, lambda: one.queue.dice.randint(1, 9))


def throttled(one: Run) -> None:
    one.arrive(_rate(one) * 0.8)
    one.every(lambda: one.queue.dice.expovariate(1 / 240), lambda: one.queue.throttle(1.0))


def killed(one: Run) -> None:
    one.queue.terms.lanes = one.queue.lanes = one.queue.seen_lanes = 32
    one.arrive(_rate(one, 16))
    at_s = one.until_s / 2
    one.queue.at(at_s, one.queue.kill_half)
    one.surprises.append((at_s, at_s + LEASE_S))


def mixed(one: Run) -> None:
    one.queue.terms.mixed = True
    factor = 19 / (math.sqrt(20) * math.log(20))  # the mean of what times are multiplied by
    one.arrive(_rate(one) / factor)


SCENARIOS: Final = {
    "steady": steady,
    "burst": burst,
    "one heavy user": heavy,
    "four tiers": tiers,
    "capped users": capped,
    "pause": pause,
    "provider limit": limit,
    "429s": throttled,
    "half the fleet killed": killed,
    "times mixed by 20": mixed,
}


def simulate(name: str, load: float, hours: float, seed: int) -> Run:
    """Run a scenario."""
    until_s = WARM_UP_S + 3_600 * hours
    terms = Terms(mixed=name == "times mixed by 20")
    one = Run(Queue(terms, random.Random(f"{name} {load} {seed}")), load, until_s)
    SCENARIOS[name](one)
    return one.drained()


async def estimate(connection: "asyncpg.Connection[asyncpg.Record]", asks: Sequence[Ask]) -> None:
    """Compute the median and the spread of each estimate."""
    for first in range(0, len(asks), AT_ONCE):
        some = asks[first : first + AT_ONCE]
        rows = await connection.fetch(ESTIMATE, json.dumps([one.facts for one in some]))
        for one, row in zip(some, rows, strict=True):
            one.median_s, one.spread = row["median_s"], row["spread"]


async def ranges(
    connection: "asyncpg.Connection[asyncpg.Record]", asks: Sequence[Ask], recorded: Sequence[tuple[float, float]]
) -> list[tuple[Ask, asyncpg.Record]]:
    """Return the ranges of all estimates, each from what was known when it was made.

    Errors of estimates that a recorded pause came between teach nothing.
    """
    learned = [one for one in asks if one.is_sample and not _is_surprised(one, recorded)]
    await connection.execute("TRUNCATE darkroom.estimates")
    await connection.execute(
        SAMPLE,
        [one.is_running for one in learned],
        [one.at_s + one.took_s for one in learned],
        [one.median_s for one in learned],
        [one.spread for one in learned],
        [one.passed_s for one in learned],
        [one.score for one in learned],
    )
    await connection.execute("ANALYZE darkroom.estimates")
    found: list[asyncpg.Record] = []
    asked = [one for one in asks if not one.is_sample]
    for first in range(0, len(asked), AT_ONCE):
        some = asked[first : first + AT_ONCE]
        found += await connection.fetch(
            RANGE,
            [one.is_running for one in some],
            [one.at_s for one in some],
            [one.median_s for one in some],
            [one.spread for one in some],
            [one.passed_s for one in some],
        )
    return list(zip(asked, found, strict=True))


def _is_surprised(one: Ask, surprises: Sequence[tuple[float, float]]) -> bool:
    """Return whether something that nobody could foresee came between an estimate and the job's end."""
    return any(one.at_s < end and one.at_s + one.took_s > begin for begin, end in surprises)


def figures(found: Sequence[tuple[Ask, asyncpg.Record]], surprises: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Return what is published of a run."""
    counted = [(one, row) for one, row in found if one.at_s > WARM_UP_S]
    fair = [(one, row) for one, row in counted if not _is_surprised(one, surprises)]

    def inside(part: int) -> list[bool]:
        return [row[f"eta_{part}_low_s"] <= one.took_s <= row[f"eta_{part}_high_s"] for one, row in fair]

    deviation = standard_error([one.at_s for one, _ in fair], inside(90))
    share = mean(inside(90))
    waiting = [(one, row) for one, row in fair if not one.is_running and one.facts["pools"][0]["jobs"] > 0]
    return {
        "estimates": len(fair),
        "surprised": len(counted) - len(fair),
        "held_50_percent": round(100 * mean(inside(50)), 1),
        "held_90_percent": round(100 * share, 1),
        "held_90_standard_error": round(100 * deviation, 1),
        "effective_estimates": round(share * (1 - share) / deviation**2) if deviation else None,
        "median_error_percent": _error(fair),
        "waiting": len(waiting),
        "waiting_median_error_percent": _error(waiting),
        "median_took_s": round(median(one.took_s for one, _ in fair), 1),
        "median_width_90": round(median(_width(row) for _, row in fair), 2),
    }


def standard_error(times_s: Sequence[float], inside: Sequence[bool]) -> float:
    """Return the standard error of the share of estimates whose ranges held the ends.

    Estimates of one job, and of its neighbours, are right or wrong together, so whole blocks of time are counted as one
    observation each.
    """
    share = mean(inside)
    sums: dict[int, float] = defaultdict(float)
    for at_s, is_inside in zip(times_s, inside, strict=True):
        sums[int(at_s // BLOCK_S)] += is_inside - share
    blocks = len(sums)
    return math.sqrt(sum(one**2 for one in sums.values()) * blocks / max(1, blocks - 1)) / len(inside)


def _width(row: asyncpg.Record) -> float:
    return float((row["eta_90_high_s"] - row["eta_90_low_s"]) / row["eta_s"])


def _error(found: Sequence[tuple[Ask, asyncpg.Record]]) -> float | None:
    if not found:
        return None
    return round(100 * median(abs(row["eta_s"] - one.took_s) / one.took_s for one, row in found), 1)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--hours", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=list(SCENARIOS), action="append")
    arguments = parser.parse_args()
    results = []
    async with ground() as place:
        connection = await place.connect()
        for name in arguments.only or SCENARIOS:
            for load in LOADS:
                one = simulate(name, load, arguments.hours, arguments.seed)
                await estimate(connection, one.asks)
                result = figures(await ranges(connection, one.asks, one.recorded), one.surprises)
                results.append({"scenario": name, "load": load, "seed": arguments.seed} | result)
                if not arguments.json:
                    print(results[-1], flush=True)
        await connection.close()
    if arguments.json:
        print(json.dumps(results, indent=1))


if __name__ == "__main__":
    run(main)
