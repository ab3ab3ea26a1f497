"""How long a queue's waiting jobs take until they have left it, by the seconds that stages took lately.

It is the largest of several times, each of which would be needed if nothing else were short: lanes, the longest job,
users' caps, and what the provider takes. Jobs that enter later are left out, and so are those that a pause keeps, or
that wait for a time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from models.connections import Connection
from models.gate.capacity import ProviderCapacity, provider_capacity
from models.queue.counts import JobGroup
from models.queue.stage_times import mean_stage_times
from pipelines.job_types import ANALYZE, GENERATE, is_job_type, job_type_of
from pipelines.providers.registry import PROVIDERS
from pipelines.settings import Settings
from workers.gate.rules import rules_of
from workers.operations.shut_providers import ShutProvider, shut_providers

RATE_PERIOD_S: Final = 61.0
"""The time in which no more calls are admitted than the limit of a minute allows (models/gate/limits.sql)."""

DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Load:
    """What some jobs need before they leave their queue.

    Attributes:
        lane_s: seconds of one lane.
        longest_s: seconds of the job that takes longest, by its type and tier.
        capped_s: seconds that the user needs whose jobs take longest with as many at a time as his cap allows.
        call_s: seconds of the stages that call the provider.
        calls: calls of the provider.
        images: pictures that these calls make.
    """

    lane_s: float
    longest_s: float
    capped_s: float
    call_s: float
    calls: int
    images: int


@dataclass(frozen=True, slots=True)
class ProviderNow:
    """The provider that is called now: its rules, what it takes, and for how long it takes nothing.

    `wait_s` is None if only an operator can let it be called again.
    """

    rules: Mapping[str, float]
    capacity: ProviderCapacity
    wait_s: float | None
    analyzes: bool

    def needed_s(self, load: Load) -> float | None:
        """Return in how many seconds it takes these calls; None if it takes none until an operator acts."""
        if not load.calls:
            return 0.0
        if self.wait_s is None:
            return None
        ceilings = (self.capacity.ceiling, self.rules.get("concurrency"))
        needed = [load.call_s / max(1.0, one) for one in ceilings if one is not None] or [0.0]
        for what, number, today in (
            ("requests", load.calls, self.capacity.requests_today),
            ("images", load.images, self.capacity.images_today),
        ):
            if most := self.rules.get(f"{what}_per_minute"):
                needed.append(number / most * RATE_PERIOD_S)
            if (most := self.rules.get(f"{what}_per_day")) and number > (left := max(0, most - today)):
                needed.append(self.capacity.day_left_s + (number - left - 1) // most * DAY_S)
        return self.wait_s + max(needed)


def stages_in_queue(job_type: str, stage: str, stage_queues: Mapping[str, str]) -> Sequence[str]:
    """Return the stages from one on that a job runs before it leaves its queue.

    Args:
        job_type: the job's type; one that this release doesn't know has no stages.
        stage: the first stage.
        stage_queues: the queues of stages that have one of their own, by stage.
    """
    names = [one.name for one in job_type_of(job_type).stages] if is_job_type(job_type) else []
    if stage not in names:
        return ()
    left = names[names.index(stage) :]
    here = stage_queues.get(stage)
    end = next((number for number, name in enumerate(left) if stage_queues.get(name) != here), len(left))
    return left[:end]


def load_of(
    groups: Sequence[JobGroup],
    times: Mapping[tuple[str, str], Mapping[str, float]],
    *,
    analyzes: bool,
    stage_queues: Mapping[str, str],
) -> Load | None:
    """Return what a queue's waiting jobs need, with half of what its running ones do; None if that is unknown.

    Args:
        groups: the queue's jobs.
        times: the mean seconds of each stage, by job type and tier.
        analyzes: whether analyses call the provider.
        stage_queues: the queues of stages that have one of their own, by stage.
    """
    lane_s = longest_s = capped_s = call_s = 0.0
    calls = images = 0
    callers = {GENERATE.name, *((ANALYZE.name,) if analyzes else ())}
    for group in groups:
        stages = stages_in_queue(group.job_type, group.stage, stage_queues)
        seconds = times[group.job_type, group.tier]
        if not stages or not seconds.keys() >= set(stages):
            return None
        job_s = sum(seconds[stage] for stage in stages)
        if group.status == "running":
            lane_s += group.jobs * job_s / 2
            continue
        lane_s += group.jobs * job_s
        longest_s = max(longest_s, job_s)
        capped_s = max(capped_s, (group.turns or 0) * job_s)
        call_s += group.jobs * sum(seconds[stage] for stage in stages if stage in callers)
        calls += group.jobs * sum(stage in callers for stage in stages)
        images += group.jobs * (GENERATE.name in stages)
    return Load(lane_s, longest_s, capped_s, call_s, calls, images)


async def drain_times(
    connection: Connection,
    settings: Settings,
    groups: Sequence[JobGroup],
    lanes: Mapping[str, int],
    *,
    stage_queues: Mapping[str, str],
    shut: Sequence[ShutProvider] | None = None,
) -> dict[str, float | None]:
    """Return for each queue in how many seconds its waiting jobs have left it.

    None means that it is unknown: no live worker claims from the queue, a stage of its jobs never ran, or what waits
    waits for an operator.

    Args:
        connection: where the stages' times and the provider's counts are.
        settings: with the providers and their limits.
        groups: the jobs of all queues.
        lanes: the lanes of live workers, by queue.
        stage_queues: the queues of stages that have one of their own, by stage.
        shut: the providers that may not be called, if the caller knows them.
    """
    if shut is None:
        shut = await shut_providers(connection, settings)
    provider = await _provider_now(connection, settings, shut)
    going = [one for one in groups if one.status in {"waiting", "running"} and one.held_by not in {"paused", "refused"}]
    times = await mean_stage_times(connection, {(one.job_type, one.tier) for one in going})
    found: dict[str, float | None] = {}
    for queue in {*lanes, *stage_queues.values(), *(group.queue for group in groups)}:
        waiting = [one for one in groups if one.queue == queue and one.status == "waiting"]
        own = [one for one in going if one.queue == queue]
        is_kept = bool(waiting) and not any(one.status == "waiting" for one in own)
        if not lanes.get(queue) or is_kept:
            found[queue] = None
        elif not waiting:
            found[queue] = 0.0
        else:
            load = load_of(own, times, analyzes=provider.analyzes, stage_queues=stage_queues)
            found[queue] = None if load is None else _needed_s(load, lanes[queue], provider)
    return found


def _needed_s(load: Load, lanes: int, provider: ProviderNow) -> float | None:
    at_provider_s = provider.needed_s(load)
    if at_provider_s is None:
        return None
    return round(max(load.lane_s / lanes, load.longest_s, load.capped_s, at_provider_s), 1)


async def _provider_now(connection: Connection, settings: Settings, shut: Sequence[ShutProvider]) -> ProviderNow:
    """Return the first provider that may be called now; if none may, the one that may be called first."""
    waits = {one.name: None if one.is_stopped else one.wait_s for one in shut}
    name = min(settings.providers, key=lambda one: (waits.get(one, 0.0) is None, waits.get(one, 0.0) or 0.0))
    description = PROVIDERS[name]
    rules = rules_of(settings, name) if description.is_paid else {}
    capacity = await provider_capacity(connection, name, description.quota_zone)
    return ProviderNow(rules, capacity, waits.get(name, 0.0), description.analyzes)
