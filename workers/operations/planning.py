"""What a number of jobs a day needs, from the times that stages of recent jobs took."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from config.service_settings import MOST_BESIDE_WORKERS
from models.queue.stage_times import Basis, stage_times
from pipelines.job_types import ANALYZE, GENERATE, job_type_of
from pipelines.providers.registry import PROVIDERS
from pipelines.settings import Settings
from workers.gate.rules import rules_of
from workers.operations.capacity import CapacityPlan, plan
from workers.operations.errors import OperationError
from workers.process.runtime import Runtime

ENOUGH_RUNS: Final = 100
"""Finished runs of a stage from which on their mean and variance are worth planning with."""

ASSUMED_VARIABILITY: Final = 1.0
"""Of a stage whose time is given and not measured: that of exponential times, which is more than most stages have."""

OTHERS: Final[Mapping[Basis, str]] = {"type": "times of all tiers together", "stage": "times of all job types together"}
"""What is said of times that aren't those of the tier."""

ASKING: Final = (ANALYZE.name, GENERATE.name)
"""The stages that call a provider, once each unless their call is repeated."""


class StageTimeUnknownError(OperationError):
    """A stage's time was neither given nor measured."""

    def __init__(self, job_type: str, stages: list[str]) -> None:
        given = " ".join(f"--stage {stage}=SECONDS" for stage in stages)
        super().__init__(f"no {job_type} job has finished {', '.join(stages)} yet; give {given}")


class TooMuchLoadError(OperationError):
    """No number of lanes that makes sense suffices."""


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """A stage of a plan.

    Attributes:
        stage: its name.
        mean_s: its mean time.
        variability: the time's variance divided by the square of its mean.
        runs: how many measured runs stand behind the time; None if the time was given.
        basis: whose runs they are; None if the time was given.
    """

    stage: str
    mean_s: float
    variability: float
    runs: int | None
    basis: Basis | None


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, and what it rests on.

    Attributes:
        stages: the stages, with their times.
        need: what is needed.
        warnings: what makes the plan uncertain, as sentences.
    """

    stages: list[PlannedStage]
    need: CapacityPlan
    warnings: list[str]


async def plan_capacity(
    runtime: Runtime,
    *,
    job_type: str,
    tier: str,
    jobs_per_day: float,
    peak: float,
    most_wait_s: float,
    lanes_each: int | None,
    given_s: Mapping[str, float],
) -> Planned:
    """Plan for so many jobs of a type and tier a day.

    Args:
        runtime: the runtime.
        job_type: the jobs' type.
        tier: the jobs' tier.
        jobs_per_day: how many come on a day.
        peak: how many times more come in the busiest hours than on average.
        most_wait_s: longest wait for a lane of 95 % of jobs at the peak.
        lanes_each: lanes of a process; None for those of the settings.
        given_s: seconds of stages that aren't to be measured.

    Raises:
        StageTimeUnknownError: a stage's time was neither given nor measured.
        TooMuchLoadError: no number of lanes suffices.
    """
    settings = runtime.settings
    names = [stage.name for stage in job_type_of(job_type).stages]
    measured = await _measured(runtime, job_type, tier)
    missing = [name for name in names if name not in given_s and name not in measured]
    if missing:
        raise StageTimeUnknownError(job_type, missing)
    stages = [
        PlannedStage(name, given_s[name], ASSUMED_VARIABILITY, None, None) if name in given_s else measured[name]
        for name in names
    ]
    if not sum(one.mean_s for one in stages):
        raise TooMuchLoadError("the stages take no time; give --stage NAME=SECONDS")
    try:
        need = plan(
            stages,
            jobs_per_day=jobs_per_day,
            peak=peak,
            most_wait_s=most_wait_s,
            lanes_each=lanes_each or settings.lanes,
            connections_each=settings.connections,
            connections_beside=min(settings.connections, MOST_BESIDE_WORKERS) + 1,  # a scheduler's, and a command's
            calling=ASKING,
        )
    except ValueError as error:
        raise TooMuchLoadError(str(error)) from error
    return Planned(stages, need, _warnings(stages, need, settings))


async def _measured(runtime: Runtime, job_type: str, tier: str) -> dict[str, PlannedStage]:
    """Return the stages that have run, by name."""
    times = await runtime.database.run(lambda connection: stage_times(connection, job_type, tier))
    return {one.stage: PlannedStage(one.stage, one.mean_s, one.variability, one.runs, one.basis) for one in times}


def _warnings(stages: list[PlannedStage], need: CapacityPlan, settings: Settings) -> list[str]:
    few = [f"{one.stage} ({one.runs})" for one in stages if one.runs is not None and one.runs < ENOUGH_RUNS]
    given = [one.stage for one in stages if one.runs is None]
    provider = settings.providers[0]
    rules = rules_of(settings, provider)
    warnings = []
    if few:
        warnings.append(f"few finished runs: {', '.join(few)}; from {ENOUGH_RUNS} on a mean says more")
    if given:
        warnings.append(
            f"given and not measured: {', '.join(given)}; their times are taken to vary as exponential ones"
        )
    for basis, words in OTHERS.items():
        if of_others := [one.stage for one in stages if one.basis == basis]:
            warnings.append(f"{words}, since few of this tier have run: {', '.join(of_others)}")
    if any(one.runs for one in stages):
        warnings.append("measured times are of the providers and lanes that there were")
    if need.provider_places > rules["concurrency"]:
        warnings.append(
            f"{provider}/concurrency is {rules['concurrency']:,}: jobs will wait for places until "
            f"DARKROOM_PROVIDER_LIMITS has {provider}/concurrency={need.provider_places}"
        )
    most_calls = rules.get("requests_per_minute")
    if most_calls is not None and need.calls_per_minute > most_calls:
        warnings.append(f"{provider}/requests_per_minute is {most_calls:,}: fewer than the calls at the peak")
    if not PROVIDERS[provider].is_paid:
        warnings.append(f"{provider} computes on these hosts: cores limit it before lanes do, see docs/performance.md")
    return warnings
