"""A stage, and what it is given."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pipelines.fetching import PictureFetcher
from pipelines.imaging.budget import ByteBudget
from pipelines.imaging.header import DecodeLimits
from pipelines.imaging.pool import PixelPool
from pipelines.job import Generated, Job, Outputs
from pipelines.providers.provider import StageProvider
from pipelines.storage.storage import Storage

INPUT_BYTES = 512_000_000
"""What the jobs of one process may hold of encoded pictures: at 25 MB each, one for every lane and some to spare."""


class StageName(StrEnum):
    """The stages, by the labels of the schema's `PipelineStage`."""

    ANALYZING = "ANALYZING"
    CROPPING = "CROPPING"
    PROMPTING = "PROMPTING"
    GENERATING = "GENERATING"


@dataclass(frozen=True, slots=True)
class StageContext:
    """What a stage works with: the job, what finished stages gave, and the outside world behind seams.

    `limits` are those of what users send, `answer_limits` of what providers answer.
    `inputs` bounds the encoded pictures that a process holds, over all its jobs.
    `maker` names the providers and models that are configured, in order. `find_same` returns the picture that the
    same user already has of the same input hash; without it nothing is reused.
    """

    job: Job
    outputs: Outputs
    provider: StageProvider
    storage: Storage
    pixels: PixelPool
    limits: DecodeLimits
    fetcher: PictureFetcher = field(default_factory=PictureFetcher)
    maker: str = ""
    inputs: ByteBudget = field(default_factory=lambda: ByteBudget(INPUT_BYTES))
    answer_limits: DecodeLimits = field(default_factory=lambda: DecodeLimits(max_bytes=100_000_000))
    find_same: Callable[[str], Awaitable[Generated | None]] | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of a job: an async function of its context, and the queue whose workers run it."""

    name: StageName
    run: Callable[[StageContext], Awaitable[Any]]
    queue: str = "default"
