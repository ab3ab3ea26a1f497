"""The transitions of a claim, as values."""

from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import timedelta
from typing import Any, TypeAlias

from config.values import value


@value
class Kept:
    """The output of a stage, as JSON, that darkroom.checkpoints keeps; `output` is None if the stage has none."""

    output: Mapping[str, Any] | None


@value
class Checkpoint:
    """Transition: a stage has finished, and the next one begins.

    `columns` are the parts of the stage's output that the job's own row stores, by column name; `output` is the rest,
    which the history keeps. If the row has no column for the stage, `kept` is set in place of `columns`.
    """

    finished: str
    following: str
    deadline_s: float
    duration_ms: int
    columns: Mapping[str, Any] = field(default_factory=dict)
    output: Mapping[str, Any] | None = None
    kept: Kept | None = None


@value
class Completed:
    """Transition: the last stage has finished and its object is stored. `columns` hold the result.

    `pictures` are the facts of each picture, for a table that gets a row for each or a column made of them.
    `pipeline_id` is for `count_pipeline_use`, which runs after the commit.
    """

    finished: str
    duration_ms: int
    columns: Mapping[str, Any]
    output: Mapping[str, Any] | None = None
    pipeline_id: str | None = None
    pictures: Sequence[Mapping[str, Any]] = ()


@value
class Failed:
    """Transition: the job ends without success. It is refunded if it was charged."""

    stage: str
    reason: str
    duration_ms: int = 0


@value
class Retried:
    """Transition: the attempt failed, and the job is retried after `delay`. `event` is `rescued` if its worker died."""

    stage: str
    reason: str
    delay: timedelta
    duration_ms: int = 0
    event: str = "retried"


@value
class Snoozed:
    """Transition: the job can't run now, and not because of itself.

    It waits for `delay`, and the attempt isn't counted.
    """

    stage: str
    reason: str
    delay: timedelta
    duration_ms: int = 0


@value
class Released:
    """Transition: the worker gives the job back before its end.

    The job is due at once, and the attempt isn't counted.
    """

    stage: str
    duration_ms: int = 0


@value
class HandedOver:
    """Transition: the next stage has another queue, where the job waits for it. The attempt isn't counted.

    All earlier checkpoints of the run must be committed.
    """

    stage: str
    queue: str
    duration_ms: int = 0


Waits: TypeAlias = Retried | Snoozed | Released | HandedOver
"""The transitions after which a job waits."""

Transition: TypeAlias = Checkpoint | Completed | Failed | Waits
