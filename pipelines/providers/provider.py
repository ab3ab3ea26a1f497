"""The seam to whoever analyzes and generates: what providers are, what they are given, and what stages see of them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Protocol

from pipelines.analysis import Analysis
from pipelines.imaging.geometry import PixelBox
from pipelines.job import Prompt
from pipelines.options import AnalysisOptions
from pipelines.providers.calls import Answer, PreparedCall


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """A picture as bytes, as a stranger or a provider gave them: only the door in `imaging` may decode them.

    Attributes:
        data: the bytes, metadata and all; a provider that sends them out
            passes them through the door first.
        box: the part that counts, in pixels of the oriented picture; None
            means all of it. Cutting when decoding spares a lossy step.
        is_finished: made by our own encoder at the size asked for; nothing
            that came from outside is.
    """

    data: bytes = field(repr=False)
    box: PixelBox | None = None
    is_finished: bool = False


@dataclass(frozen=True, slots=True)
class Quote:
    """What a call would be: the model that would be asked, its price by the table, the pictures that it would make."""

    model: str
    cost_usd: Decimal = Decimal(0)
    images: int = 0


def hash_of_call(images: Sequence[EncodedImage], *words: object) -> str:
    """Return 64 hex digits over a call's pictures and words: calls that ask for the same have the same.

    `words` must have the same `repr` in each process, so no sets.
    """
    whole = hashlib.sha256(repr(words).encode())
    for image in images:
        whole.update(hashlib.sha256(image.data).digest() + repr(image.box).encode())
    return whole.hexdigest()


class StageProvider(Protocol):
    """What stages ask: a provider that looks after limits, money and fallback by itself.

    Every method raises only errors of `pipelines.errors`; cancelling a call
    aborts it.
    """

    @property
    def is_paid(self) -> bool:
        """Say whether a call can cost money."""
        ...

    async def analyze(self, image: EncodedImage, options: AnalysisOptions) -> Answer[Analysis]:
        """Say what is in a picture and what is wrong with it."""
        ...

    async def generate(
        self, prompt: Prompt, images: Sequence[EncodedImage], long_side_px: int, aspect: float | None
    ) -> Answer[EncodedImage]:
        """Make a picture; see `Provider.prepare_generation`."""
        ...


class Provider(Protocol):
    """Analyzes and generates pictures, in two steps: a gate stands between preparing a call and sending it.

    Every method raises only errors of `pipelines.errors`; cancelling a call
    aborts it.
    """

    @property
    def name(self) -> str:
        """Return the provider's name, as in PROVIDER."""
        ...

    @property
    def is_paid(self) -> bool:
        """Say whether a call can cost money."""
        ...

    @property
    def identity(self) -> str:
        """Name what draws here, by every setting that makes its pictures others: a result is reused only for the same.

        What a pipeline says needs no place in it.
        """
        ...

    def quote_analysis(self, options: AnalysisOptions) -> Quote:
        """Say what an analysis would be, before it is asked for.

        Raises:
            ProviderNotConfiguredError: this provider can't analyze, or has no key.
        """
        ...

    def quote_generation(self, prompt: Prompt, long_side_px: int) -> Quote:
        """Say what a picture would be, before it is asked for.

        Raises:
            ProviderNotConfiguredError: this provider can't make such a picture, or has no key.
        """
        ...

    async def prepare_analysis(self, image: EncodedImage, options: AnalysisOptions) -> PreparedCall[Analysis]:
        """Make ready to say what is in a picture and what is wrong with it."""
        ...

    async def prepare_generation(
        self, prompt: Prompt, images: Sequence[EncodedImage], long_side_px: int, aspect: float | None
    ) -> PreparedCall[EncodedImage]:
        """Make ready to draw a picture of `prompt` and `images`.

        Args:
            prompt: text for remote models, corrections for the local engine.
            images: the pictures to work on, the main one first; empty for text to image.
            long_side_px: long side wanted, in pixels.
            aspect: width / height wanted; None leaves it to the provider.
        """
        ...

    async def check(self) -> None:
        """Ask whether key and configured models are good, without buying anything.

        Raises:
            ProviderNotConfiguredError: no call can work; says what to set.
        """
        ...

    async def aclose(self) -> None:
        """Let go of connections. Idempotent."""
        ...
