"""How many lanes a load needs: a queue of jobs in front of c lanes, each of which holds a job through all its stages.

The waits are those of a G/G/c queue by the approximation of Allen and Cunneen: that of M/M/c times the mean of the
squared coefficients of variation of arrivals and of service (A. O. Allen, "Probability, Statistics, and Queueing
Theory", 2nd edition, 1990, section 5.4), with an exponential tail. `bench.plan` compares them with a simulation.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

SECONDS_A_DAY: Final = 86_400
POISSON: Final = 1.0
"""Squared coefficient of variation of the times between jobs of independent users."""

LATE_FRACTION: Final = 0.05
"""The part of jobs that may wait longer than the wait that is planned for."""

SPARE_DEVIATIONS: Final = 3.0
"""Provider places beyond the mean, in standard deviations of the calls in flight, which are about Poisson's."""

MOST_BUSY: Final = 0.95
"""The part of the lanes that may be busy at the peak. With many lanes, waits are short up to 98 %, and long at 99 %: no
forecast of a load is that exact, and waits that are seen in an hour differ much from their mean."""

MOST_LANES: Final = 1_000_000


class TimedStage(Protocol):
    """A stage and how long it takes."""

    @property
    def stage(self) -> str:
        """Its name."""

    @property
    def mean_s(self) -> float:
        """Its mean, in seconds."""

    @property
    def variability(self) -> float:
        """The squared coefficient of variation."""


@dataclass(frozen=True, slots=True)
class Load:
    """Jobs that come, and how long each takes.

    Attributes:
        jobs_per_s: jobs that come in a second.
        service_s: mean seconds that a job holds its lane.
        variability: squared coefficient of variation of that time.
    """

    jobs_per_s: float
    service_s: float
    variability: float

    @property
    def busy_lanes(self) -> float:
        """How many lanes are busy on average."""
        return self.jobs_per_s * self.service_s


def waiting_fraction(load: Load, lanes: int) -> float:
    """Return the part of jobs that find no free lane, by Erlang's formula C; 1 if the lanes can't do the load."""
    busy = load.busy_lanes
    if busy >= lanes:
        return 1.0
    blocked = 1.0
    for number in range(1, lanes + 1):
        blocked = busy * blocked / (number + busy * blocked)
    return blocked / (1 - busy / lanes * (1 - blocked))


def wait_s(load: Load, lanes: int, *, late_fraction: float = LATE_FRACTION) -> float:
    """Return how long a job waits at most, but for a fraction of them; infinite if the lanes can't do the load."""
    if load.busy_lanes >= lanes:
        return math.inf
    waiting = waiting_fraction(load, lanes)
    if waiting <= late_fraction:
        return 0.0
    mean_of_waiting_s = (POISSON + load.variability) / 2 * load.service_s / (lanes - load.busy_lanes)
    return mean_of_waiting_s * math.log(waiting / late_fraction)


def lanes_for(load: Load, most_wait_s: float) -> int:
    """Return the fewest lanes with which all but LATE_FRACTION of jobs wait no longer, and no more than MOST_BUSY work.

    Raises:
        ValueError: more than MOST_LANES would be needed.
    """

    def suffices(lanes: int) -> bool:
        return load.busy_lanes <= MOST_BUSY * lanes and wait_s(load, lanes) <= most_wait_s

    least = max(1, math.floor(load.busy_lanes) + 1)
    most = least
    while not suffices(most):
        most *= 2
        if most > MOST_LANES:
            raise ValueError(f"more than {MOST_LANES:,} lanes would be needed")
    return _least(suffices, least, most)


def most_jobs_per_s(load: Load, lanes: int, most_wait_s: float) -> float:
    """Return how many jobs of this kind may come in a second before `lanes_for` would want more than so many lanes."""
    low, high = 0.0, MOST_BUSY * lanes / load.service_s
    for _ in range(60):
        middle = (low + high) / 2
        if wait_s(Load(middle, load.service_s, load.variability), lanes) <= most_wait_s:
            low = middle
        else:
            high = middle
    return low


@dataclass(frozen=True, slots=True)
class CapacityPlan:
    """What a load needs.

    Attributes:
        service_s: mean seconds of a job in its lane.
        variability: squared coefficient of variation of that time.
        peak_jobs_per_s: jobs that come in a second at the peak.
        lanes: needed together.
        processes: worker processes, with the lanes that each has.
        lanes_each: lanes of a process.
        connections: of PostgreSQL, for the processes and what runs beside them.
        busy_fraction: part of the needed lanes that are busy at the peak.
        wait_p95_s: time that 95 % of jobs wait at most at the peak, with the needed lanes.
        provider_places: calls that providers must allow at once.
        calls_per_minute: calls at the peak.
        most_jobs_per_hour: what all lanes of these processes can do within the wait.
    """

    service_s: float
    variability: float
    peak_jobs_per_s: float
    lanes: int
    processes: int
    lanes_each: int
    connections: int
    busy_fraction: float
    wait_p95_s: float
    provider_places: int
    calls_per_minute: float
    most_jobs_per_hour: float


def plan(
    stages: Sequence[TimedStage],
    *,
    jobs_per_day: float,
    peak: float,
    most_wait_s: float,
    lanes_each: int,
    connections_each: int,
    connections_beside: int,
    calling: Sequence[str],
) -> CapacityPlan:
    """Compute what a load needs at its peak.

    Args:
        stages: seconds of each stage of the job type.
        jobs_per_day: jobs of a day.
        peak: how many times more jobs come in the busiest hours than on average.
        most_wait_s: longest wait for a lane of 95 % of jobs.
        lanes_each: lanes of a process.
        connections_each: PostgreSQL connections of a process.
        connections_beside: those of what runs beside the processes.
        calling: stages that call a provider.

    Raises:
        ValueError: more than MOST_LANES would be needed.
    """
    load = load_of(stages, jobs_per_day * peak / SECONDS_A_DAY)
    lanes = lanes_for(load, most_wait_s)
    processes = math.ceil(lanes / lanes_each)
    in_call = load.jobs_per_s * sum(stage.mean_s for stage in stages if stage.stage in calling)
    places = math.ceil(min(float(lanes), in_call + SPARE_DEVIATIONS * math.sqrt(in_call)))
    calls = load.jobs_per_s * 60 * sum(stage.stage in calling for stage in stages)
    return CapacityPlan(
        service_s=load.service_s,
        variability=load.variability,
        peak_jobs_per_s=load.jobs_per_s,
        lanes=lanes,
        processes=processes,
        lanes_each=lanes_each,
        connections=processes * connections_each + connections_beside,
        busy_fraction=load.busy_lanes / lanes,
        wait_p95_s=wait_s(load, lanes),
        provider_places=places,
        calls_per_minute=calls,
        most_jobs_per_hour=3600 * most_jobs_per_s(load, processes * lanes_each, most_wait_s),
    )


def load_of(stages: Sequence[TimedStage], jobs_per_s: float) -> Load:
    """Return the load of jobs with these stages, whose times are taken to be independent of each other."""
    service_s = sum(stage.mean_s for stage in stages)
    variance = sum(stage.variability * stage.mean_s**2 for stage in stages)
    return Load(jobs_per_s, service_s, variance / service_s**2)


def _least(suffices: Callable[[int], bool], low: int, high: int) -> int:
    """Return the least number in a range that suffices; every number above it does, too."""
    while low < high:
        middle = (low + high) // 2
        if suffices(middle):
            high = middle
        else:
            low = middle + 1
    return low
