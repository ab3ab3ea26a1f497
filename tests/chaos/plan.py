"""The times of the faults, which follow from the seed."""

import random
from dataclasses import dataclass, field

PER_MINUTE = {
    "kill": 4.6,
    "zombie": 1.2,
    "lost_machine": 0.25,
    "lost_supervisor": 0.25,
    "lost_scheduler": 0.25,
    "deploy": 0.4,
    "flush": 0.5,
    "redis_restart": 0.5,
    "postgres_restart": 0.5,
    "backends": 1.0,
    "storage": 0.5,
    "clock": 0.5,
}
"""Faults a minute where nobody says otherwise; each at least once."""


JOBS_PER_MINUTE = 240


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: when it is due, in seconds from the beginning; `choice`, from 0 to 1, picks its victim and kind."""

    at_s: float
    kind: str
    choice: float


@dataclass(frozen=True, slots=True)
class Options:
    """What a run is asked for.

    `counts` overrides how many faults of a kind are made, and `jobs`, unless 0,
    how many jobs are submitted; both follow the minutes otherwise. `tables` names
    modules that add job tables, separated by commas; their jobs come on top.
    """

    seed: int = 1
    minutes: float = 2.0
    jobs: int = 0
    lease_s: float = 15.0
    supervisors: int = 3
    processes: int = 2
    lanes: int = 8
    schedulers: int = 2
    grace_s: float = 25.0
    slowest_call_s: float = 8.0
    hang_s: float = 20.0
    storage_fault_s: float = 8.0
    drain_s: float = 420.0  # a row that the database refuses waits for up to five minutes
    tables: str = ""
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return self.minutes * 60

    @property
    def most_jobs(self) -> int:
        """How many jobs the producers submit."""
        return self.jobs or round(JOBS_PER_MINUTE * self.minutes)

    def count(self, kind: str) -> int:
        """How many faults of a kind are planned."""
        return self.counts.get(kind, max(1, round(PER_MINUTE[kind] * self.minutes)))


def plan(options: Options) -> list[Fault]:
    """Spread the faults of each kind evenly, with jitter, over the run; return them in order."""
    chance = random.Random(options.seed)
    first_s, last_s = 0.05 * options.seconds, 0.97 * options.seconds
    faults = []
    for kind in PER_MINUTE:
        count = options.count(kind)
        for number in range(count):
            share = (number + chance.random()) / count
            faults.append(Fault(first_s + share * (last_s - first_s), kind, chance.random()))
    return sorted(faults, key=lambda fault: fault.at_s)
