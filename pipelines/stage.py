"""A stage, what it is given, and what it gives."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self, TypeVar

from pipelines.fetching import PictureFetcher
from pipelines.imaging.budget import ByteBudget
from pipelines.imaging.header import DecodeLimits
from pipelines.imaging.pool import PixelPool
from pipelines.job import Generated, Job
from pipelines.providers.provider import StageProvider
from pipelines.storage.storage import Storage

INPUT_BYTES = 512_000_000
"""What the jobs of one process may hold of encoded pictures: at 25 MB each, one for every lane and some to spare."""


class Output(Protocol):
    """What a stage gives: it becomes JSON for the stage's checkpoint, and is read back when a run goes on behind it."""

    def to_json(self) -> dict[str, Any]:
        """Return all that later stages and people need of it, as JSON."""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Rebuild it from `to_json`; what another program may have written is refused.

        Raises:
            ValueError, TypeError, LookupError, AttributeError: it can't be read; the stage runs again.
        """


OutputT = TypeVar("OutputT", bound=Output)


@dataclass(frozen=True, slots=True)
class StageContext:
    """What a stage works with: the job, what finished stages gave, and the outside world behind seams.

    `outputs` are those of finished stages, in order; a stage that was switched off gave none.
    `limits` are those of what users send, `answer_limits` of what providers answer.
    `inputs` bounds the encoded pictures that a process holds, over all its jobs.
    `maker` names the providers and models that are configured, in order. `find_same` returns the picture that the
    same user already has of the same input hash; without it nothing is reused.
    `earlier` is a picture that an earlier attempt bought and stored, and lost its claim before it could say so.
    """

    job: Job
    outputs: tuple[Output, ...]
    provider: StageProvider
    storage: Storage
    pixels: PixelPool
    limits: DecodeLimits
    fetcher: PictureFetcher = field(default_factory=PictureFetcher)
    maker: str = ""
    inputs: ByteBudget = field(default_factory=lambda: ByteBudget(INPUT_BYTES))
    answer_limits: DecodeLimits = field(default_factory=lambda: DecodeLimits(max_bytes=100_000_000))
    find_same: Callable[[str], Awaitable[Generated | None]] | None = None
    earlier: Generated | None = None

    def output(self, kind: type[OutputT]) -> OutputT | None:
        """Return the newest output of a type; None if no finished stage gave one."""
        return next((one for one in reversed(self.outputs) if isinstance(one, kind)), None)

    def after(self, output: Output | None) -> "StageContext":
        """Return what the next stage works with."""
        return self if output is None else replace(self, outputs=(*self.outputs, output))


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of a job.

    Attributes:
        name: as it stands in rows, logs and settings.
        run: the work: it gives its output, or None where the job's pipeline has switched it off.
        output: the type of what it gives.
        deadline_s: how long it may take unless DARKROOM_STAGE_DEADLINES says otherwise.
        queue: whose workers run it.
    """

    name: str
    run: Callable[[StageContext], Awaitable[Output | None]]
    output: type[Output]
    deadline_s: float
    queue: str = "default"

    def deadline_of(self, settings_s: Mapping[str, float]) -> float:
        """Return how long it may take, where a setting may say something else for some stages."""
        return settings_s.get(self.name, self.deadline_s)
