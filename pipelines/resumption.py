"""The stage at which a run begins, and the stored outputs of the stages before it."""

from collections.abc import Mapping
from typing import Any

from config.values import value
from pipelines.job_types import job_type_of
from pipelines.output import Output
from pipelines.stage import Stage

Left = Mapping[str, Mapping[str, Any] | None]
"""The stored outputs of finished stages, by name, as JSON; None for a stage that has no output."""


@value
class Resumption:
    """The stages that a run still has to run, at least one, and the outputs of the stages before them.

    `discarded` names a stage whose stored output can't be read; None if there is none.
    """

    stages: tuple[Stage, ...]
    outputs: tuple[Output, ...] = ()
    discarded: str | None = None


def split(job_type: str, stage: str) -> tuple[tuple[Stage, ...], tuple[Stage, ...]]:
    """Return a job type's stages before `stage`, and those from `stage` on; for an unknown stage, none and all."""
    stages = job_type_of(job_type).stages
    first = next((number for number, one in enumerate(stages) if one.name == stage), 0)
    return stages[:first], stages[first:]


def resume(before: tuple[Stage, ...], stages: tuple[Stage, ...], left: Left) -> Resumption:
    """Return the stages of a run that should begin after `before`, and the outputs of the stages before it begins.

    Another program may have written the outputs. If an output can't be read, it is discarded, and the run begins at
    the stage that makes this output. The run also begins at a stage that has no stored output: an earlier worker, which
    didn't know the stage, never ran it.
    """
    outputs: list[Output] = []
    for number, one in enumerate(before):
        try:
            if (found := left[one.name]) is not None:
                outputs.append(one.output.from_json(found))
        except (ValueError, TypeError, LookupError, AttributeError):
            return Resumption((*before[number:], *stages), tuple(outputs), one.name)
    return Resumption(stages, tuple(outputs))
