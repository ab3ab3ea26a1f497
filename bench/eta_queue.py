"""A simulated queue: jobs of users take turns, get lanes, call a provider and end.

Times are seconds of the simulation. A claim takes no time, and a job that ends hands its lane over at once.
"""

import heapq
import math
import random
from bisect import bisect_left, bisect_right, insort
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

LEASE_S = 30.0
"""Seconds after which a dead worker's jobs are rescued, and its lanes aren't counted any more."""

RETRY_AFTER_S = 30.0
"""Seconds for which the provider wants to be left alone when it refuses a call for its rate (status 429)."""

WINDOW_S = 61.0
"""Seconds in which the gate counts the calls of a minute."""

NO_CEILING = 1e9

FIRST_RUNS = 50
"""How many runs of each stage are in the history when the simulation begins."""

BUCKETS = 4
"""Running jobs are alike if their elapsed times are, to this part of their mean."""


@dataclass(frozen=True, slots=True)
class Stage:
    """The times that a stage takes: their mean, and their standard deviation by it."""

    name: str
    mean_s: float
    deviation: float
    calls: bool = False

    def draw(self, dice: random.Random) -> float:
        variance = math.log(1 + self.deviation**2)
        return self.mean_s * math.exp(dice.gauss(-variance / 2, math.sqrt(variance)))


ENHANCE = (
    Stage("ANALYZING", 3, 0.4, calls=True),
    Stage("CROPPING", 0.5, 0.3),
    Stage("GENERATING", 20, 0.5, calls=True),
)
GENERATE = (Stage("GENERATING", 14, 0.5, calls=True),)
KINDS = {"enhance": ENHANCE, "generate": GENERATE}


@dataclass(frozen=True, slots=True, eq=False)
class User:
    """A user; two of the same name are two users."""

    name: str
    weight: int = 1
    cap: int | None = None


@dataclass(slots=True, eq=False)
class Job:
    number: int
    user: User
    kind: str
    times_s: list[float]
    entered_s: float
    tag: float = 0.0
    units: float = 1.0
    stage: int = 0
    state: str = "ready"
    claimed_s: float = 0.0
    due_s: float = 0.0
    ended_s: float | None = None
    claims: int = 0

    @property
    def place(self) -> tuple[float, int]:
        return self.tag, self.number


@dataclass(slots=True)
class Terms:
    """What a scenario changes."""

    lanes: int = 16
    per_minute: int | None = None
    mixed: bool = False


@dataclass(slots=True)
class Runs:
    """The times that runs of a stage have taken."""

    number: int = 0
    total_s: float = 0.0
    squares: float = 0.0

    def add(self, took_s: float) -> None:
        self.number += 1
        self.total_s += took_s
        self.squares += took_s * took_s

    @property
    def mean_s(self) -> float:
        return self.total_s / self.number

    @property
    def variance(self) -> float:
        return max(0.0, self.squares / self.number - self.mean_s**2)


@dataclass
class Queue:
    """The state, and the events to come."""

    terms: Terms
    dice: random.Random
    now_s: float = 0.0
    lanes: int = 0
    seen_lanes: int = 0
    is_paused: bool = False
    virtual: float = 0.0
    throttling_until_s: float = 0.0
    shut_until_s: float = 0.0
    ceiling: float = NO_CEILING
    events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    ready: list[tuple[float, int]] = field(default_factory=list)
    jobs: dict[int, Job] = field(default_factory=dict)
    unfinished: dict[int, Job] = field(default_factory=dict)
    held: dict[User, list[tuple[float, int]]] = field(default_factory=lambda: defaultdict(list))
    running: dict[int, Job] = field(default_factory=dict)
    finish: dict[User, float] = field(default_factory=dict)
    slots: Counter[User] = field(default_factory=Counter)
    calls: deque[float] = field(default_factory=deque)
    runs: dict[tuple[str, str], Runs] = field(default_factory=lambda: defaultdict(Runs))
    ends: list[float] = field(default_factory=list)
    _events: int = 0

    def __post_init__(self) -> None:
        self.lanes = self.seen_lanes = self.terms.lanes
        for kind, stages in KINDS.items():
            for _ in range(FIRST_RUNS):
                for stage, took_s in zip(stages, self._times(stages), strict=True):
                    self.runs[kind, stage.name].add(took_s)

    def at(self, when_s: float, event: Callable[[], None]) -> None:
        self._events += 1
        heapq.heappush(self.events, (when_s, self._events, event))

    def run(self, until_s: float) -> None:
        while self.events and self.events[0][0] <= until_s:
            self.now_s, _, event = heapq.heappop(self.events)
            event()

    def _times(self, stages: Sequence[Stage]) -> list[float]:
        factor = 20 ** self.dice.uniform(-0.5, 0.5) if self.terms.mixed else 1.0
        return [stage.draw(self.dice) * factor for stage in stages]

    # Entering, turns and slots

    def submit(self, user: User, kind: str) -> Job:
        cost = 5 if kind == "enhance" else 2
        job = Job(len(self.jobs), user, kind, self._times(KINDS[kind]), self.now_s, units=cost / user.weight)
        job.tag = max(self.finish.get(user, 0.0), self.virtual)
        self.finish[user] = job.tag + job.units
        self.jobs[job.number] = self.unfinished[job.number] = job
        self._wait(job)
        self.claim()
        return job

    def _wait(self, job: Job) -> None:
        if job.user.cap is not None and self.slots[job.user] >= job.user.cap:
            job.state = "held"
            insort(self.held[job.user], job.place)
        else:
            self.slots[job.user] += 1
            job.state = "ready"
            insort(self.ready, job.place)

    def _leave_slot(self, user: User) -> None:
        self.slots[user] -= 1
        if self.held[user]:
            _, number = self.held[user].pop(0)
            self._wait(self.jobs[number])

    # Claims and runs

    def claim(self) -> None:
        while self.ready and not self.is_paused and len(self.running) < min(self.lanes, math.floor(self.ceiling)):
            tag, number = self.ready.pop(0)
            job = self.jobs[number]
            self.virtual = max(self.virtual, tag + min(job.units, 1.0))
            job.state, job.claimed_s = "running", self.now_s
            job.claims += 1
            self.running[number] = job
            self._begin_stage(job, job.claims)

    def _begin_stage(self, job: Job, claim: int) -> None:
        if job.claims != claim or job.state != "running":
            return
        stages = KINDS[job.kind]
        if job.stage == len(stages):
            self._end(job)
            return
        if stages[job.stage].calls and (due_s := self._refused_until()) > self.now_s:
            del self.running[job.number]
            job.state, job.due_s = "retrying", due_s + self.dice.uniform(0, 1)
            self._leave_slot(job.user)
            self.at(job.due_s, lambda: self._due(job))
            self.claim()
            return
        took_s = job.times_s[job.stage]
        self.at(self.now_s + took_s, lambda: self._end_stage(job, claim, took_s))

    def _refused_until(self) -> float:
        """Return until when the gate refuses calls; now or earlier if it admits one, which is then counted."""
        if self.now_s < self.throttling_until_s and self.now_s >= self.shut_until_s:
            self.shut_until_s = self.now_s + RETRY_AFTER_S
            self.ceiling = max(1.0, min(self.ceiling, self.lanes) / 2)
        if self.now_s < self.shut_until_s:
            return self.shut_until_s
        if self.terms.per_minute is not None:
            self._forget_calls()
            if len(self.calls) >= self.terms.per_minute:
                return self.calls[-self.terms.per_minute] + WINDOW_S
            self.calls.append(self.now_s)
        return self.now_s

    def _forget_calls(self) -> None:
        while self.calls and self.calls[0] <= self.now_s - WINDOW_S:
            self.calls.popleft()

    def _due(self, job: Job) -> None:
        self._wait(job)
        self.claim()

    def _end_stage(self, job: Job, claim: int, took_s: float) -> None:
        if job.claims != claim or job.state != "running":
            return
        self.runs[job.kind, KINDS[job.kind][job.stage].name].add(took_s)
        if KINDS[job.kind][job.stage].calls and self.ceiling < NO_CEILING:
            self.ceiling += 1 / self.ceiling
        job.stage += 1
        self._begin_stage(job, claim)

    def _end(self, job: Job) -> None:
        del self.running[job.number], self.unfinished[job.number]
        job.state, job.ended_s = "ended", self.now_s
        self.ends.append(self.now_s)
        self._leave_slot(job.user)
        self.claim()

    # Events of scenarios

    def pause(self) -> None:
        self.is_paused = True

    def resume(self) -> None:
        self.is_paused = False
        self.claim()

    def throttle(self, for_s: float) -> None:
        self.throttling_until_s = self.now_s + for_s

    def kill_half(self) -> None:
        lost = self.dice.sample(sorted(self.running), len(self.running) // 2)
        self.lanes -= self.lanes // 2
        for number in lost:  # they still count as running, until they are rescued
            self.jobs[number].claims += 1
        self.lanes += len(lost)
        self.at(self.now_s + LEASE_S, lambda: self._rescue(lost))

    def _rescue(self, lost: Sequence[int]) -> None:
        self.lanes -= len(lost)
        self.seen_lanes = self.lanes
        for number in lost:
            job = self.jobs[number]
            del self.running[number]
            self.slots[job.user] -= 1
            self._wait(job)
        self.claim()

    # What an estimate is made of

    def facts(self, job: Job) -> dict[str, Any]:
        """Return the facts about an unfinished job, as darkroom.job_progress gathers them."""
        if job.state == "running":
            own = self._rest(job)
            return {"own": own, "passed_s": own[2]} | self._provider(0, job)
        before = self.ready[: bisect_left(self.ready, job.place)]
        held = [number for numbers in self.held.values() for number in numbers if number < job.place]
        ahead = [self.jobs[number] for _, number in before]
        waiting = [self.jobs[number] for _, number in held]
        all_ahead = ahead + waiting
        users = {one.user for one in all_ahead} | {job.user}
        fleet = self._pool(min(self.seen_lanes, math.floor(self.ceiling)), self.running.values(), ahead, waiting, job)
        if job.tag > self.virtual:
            fleet["newcomers"] = [
                round(one.claimed_s - one.entered_s, 1) for one in self.running.values() if one.user not in users
            ]
            fleet["per_s"] = (len(self.ends) - bisect_right(self.ends, self.now_s - 3_600)) / min(
                3_600, max(self.now_s, 1)
            )
        own = [one for one in self.running.values() if one.user == job.user]
        pools = [fleet]
        if job.user.cap is not None:
            mine = [one for one in all_ahead if one.user == job.user]
            pools.append(self._pool(job.user.cap, own, mine, [], job))
        made: dict[str, Any] = {
            "own": self._left(job.kind, job.stage),
            "pools": pools,
            "passed_s": self.now_s - job.entered_s,
        }
        if job.state == "retrying":
            made["delay_s"] = max(0.0, job.due_s - self.now_s)
        return made | self._provider(len(all_ahead) + len(self.running), job)

    def _pool(
        self, lanes: int, running: Iterable[Job], ahead: Sequence[Job], held: Sequence[Job], job: Job
    ) -> dict[str, Any]:
        alike: Counter[tuple[float, float, float]] = Counter()
        for one in running:
            mean_s, variance, elapsed_s = self._rest(one)
            step_s = mean_s / BUCKETS
            alike[mean_s, variance, round(elapsed_s / step_s) * step_s] += 1
        alike_ahead = Counter((one.kind, one.stage) for one in (*ahead, *held)) or {(job.kind, job.stage): 1}
        times = [(self._left(kind, stage), number) for (kind, stage), number in alike_ahead.items()]
        jobs = sum(number for _, number in times)
        mean_s = sum(number * one[0] for one, number in times) / jobs
        variance = sum(number * (one[1] + one[0] ** 2) for one, number in times) / jobs - mean_s**2
        theirs = Counter((user.cap, number) for user, number in Counter(one.user for one in held).items())
        return {
            "lanes": lanes,
            "running": [[*key, number] for key, number in alike.items()],
            "jobs": len(ahead),
            "mean": mean_s,
            "variance": variance,
            "held": [[slots, number, users] for (slots, number), users in theirs.items()],
        }

    def _left(self, kind: str, stage: int) -> list[float]:
        """Return mean and variance of a kind's stages from one on."""
        runs = [self.runs[kind, one.name] for one in KINDS[kind][stage:]]
        return [sum(one.mean_s for one in runs), sum(one.variance for one in runs)]

    def _rest(self, job: Job) -> list[float]:
        """Return mean, variance and elapsed seconds of the stages from the present one on."""
        earlier_s = sum(self.runs[job.kind, stage.name].mean_s for stage in KINDS[job.kind][: job.stage])
        return [*self._left(job.kind, job.stage), max(0.0, self.now_s - job.claimed_s - earlier_s)]

    def _provider(self, before: int, job: Job) -> dict[str, Any]:
        made: dict[str, Any] = {}
        if self.shut_until_s > self.now_s:
            made["shut_s"] = self.shut_until_s - self.now_s
        if self.terms.per_minute is not None:
            self._forget_calls()
            calls = sum(stage.calls for stage in KINDS[job.kind][job.stage :])
            made |= {"per_minute": self.terms.per_minute, "used": len(self.calls), "calls": 1.5 * before + calls}
        return made
