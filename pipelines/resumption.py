"""Where a run begins, and what the stages before have left for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.job_types import JOB_TYPES
from pipelines.stage import Output, Stage

Left = Mapping[str, Mapping[str, Any] | None]
"""What is there of finished stages, by name, as JSON; None of a stage that gave nothing."""


@dataclass(frozen=True, slots=True)
class Resumption:
    """Where a run begins: its stages, at least one, the outputs of those before, and whose output couldn't be read."""

    stages: tuple[Stage, ...]
    outputs: tuple[Output, ...] = ()
    discarded: str | None = None


def split(job_type: str, stage: str) -> tuple[tuple[Stage, ...], tuple[Stage, ...]]:
    """Return a job type's stages before one, and those from it on; one that it doesn't have means the first."""
    stages = JOB_TYPES[job_type].stages
    names = [one.name for one in stages]
    first = names.index(stage) if stage in names else 0
    return stages[:first], stages[first:]


def resume(job_type: str, stage: str, left: Left) -> Resumption:
    """Rebuild the outputs of the stages before `stage`.

    What is there may be another program's. What can't be read is discarded, and the run begins at the stage that gives
    it; so it does at a stage of which nothing is there, because it never ran: a worker that doesn't know it had the job
    before.
    """
    before, stages = split(job_type, stage)
    outputs: list[Output] = []
    for number, one in enumerate(before):
        try:
            if (found := left[one.name]) is not None:
                outputs.append(one.output.from_json(found))
        except (ValueError, TypeError, LookupError, AttributeError):
            return Resumption((*before[number:], *stages), tuple(outputs), one.name)
    return Resumption(stages, tuple(outputs))
