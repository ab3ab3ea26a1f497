"""The context in which a stage runs: the job, outputs of earlier stages, and interfaces to storage and providers."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import field
from typing import TypeVar

from config.values import value
from pipelines.fetching import PictureFetcher
from pipelines.imaging.budget import ByteBudget
from pipelines.imaging.header import DecodeLimits
from pipelines.imaging.pool import PixelPool
from pipelines.job import Generated, Job
from pipelines.output import Output
from pipelines.providers.calls import Answer
from pipelines.providers.provider import EncodedImage, StageProvider
from pipelines.storage.storage import Storage

INPUT_BYTES = 512_000_000
"""The most bytes of encoded pictures that the jobs of one process hold: 20 of the largest, or 64 of 8 MB, one for each
lane by default. A job waits until there is room for its pictures."""


OutputT = TypeVar("OutputT", bound=Output)


async def unrecorded(_number: int, _picture: Generated) -> None:
    """Record no picture, where a stage runs for nobody's job."""


@value
class StageContext:
    """What a stage works with: the job, the outputs of finished stages, and interfaces to storage and providers.

    `outputs` are those of finished stages, in order, and grow with each stage; a stage that was switched off has none.
    `limits` are those of users' pictures, `answer_limits` those of providers' answers.
    `inputs` limits the bytes of encoded pictures that all jobs of a process hold together.
    `provider_identity` names the configured providers and models, in order. `find_same` returns the picture that the
    same user already has for the same input hash; without it nothing is reused.
    `earlier` is a picture that an earlier attempt bought and stored before it lost its claim; of a job that makes
    several, the last. `recorded` has the others that this attempt or an earlier one has made, by their numbers from 1;
    `record` is awaited with each before the next one is bought. `bought` makes, for the
    hash of all that is asked for, the block in which a picture is bought and finished. The block is given an answer
    that was bought for the same before and isn't finished yet, if there is one; if it ends before the answer is
    finished, and the answer isn't the reason, the answer is stored as it came. `calling` makes the block in which an
    endpoint is called: it begins once everything is committed that earlier stages wrote, and gets time to end when the
    process stops.
    """

    job: Job
    outputs: list[Output]
    provider: StageProvider
    storage: Storage
    pixels: PixelPool
    limits: DecodeLimits
    fetcher: PictureFetcher = field(default_factory=PictureFetcher)
    provider_identity: str = ""
    inputs: ByteBudget = field(default_factory=lambda: ByteBudget(INPUT_BYTES))
    answer_limits: DecodeLimits = field(default_factory=lambda: DecodeLimits(max_bytes=100_000_000))
    find_same: Callable[[str], Awaitable[Generated | None]] | None = None
    earlier: Generated | None = None
    recorded: dict[int, Generated] = field(default_factory=dict)
    record: Callable[[int, Generated], Awaitable[None]] = unrecorded
    bought: Callable[[str], AbstractAsyncContextManager[Answer[EncodedImage] | None]] = lambda _hash: nullcontext()
    calling: Callable[[], AbstractAsyncContextManager[None]] = nullcontext

    def output(self, kind: type[OutputT]) -> OutputT | None:
        """Return the output of the latest finished stage that has one of a type; None if no finished stage has."""
        return next((one for one in reversed(self.outputs) if isinstance(one, kind)), None)

    @property
    def pictures(self) -> list[Generated]:
        """The job's pictures in order, once the stage that makes them has finished; empty before."""
        last = self.output(Generated)
        return [] if last is None else [*(self.recorded[number] for number in range(1, self.job.count)), last]

    def add(self, output: Output | None) -> None:
        """Add the output of a stage that has finished, for the stages after it."""
        if output is not None:
            self.outputs.append(output)
