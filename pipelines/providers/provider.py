"""The interface of providers: their methods, the values that these take and return, and the part that stages call."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Protocol

from config.values import value
from pipelines.analysis import Analysis
from pipelines.imaging.geometry import PixelBox
from pipelines.job import Prompt
from pipelines.options import AnalysisOptions
from pipelines.providers.calls import Answer, PreparedCall


@dataclass(frozen=True)  # without slots, which would leave no place for the hash
class EncodedImage:
    """A picture as untrusted bytes, from a user or a provider: only `imaging` may decode them.

    Attributes:
        data: the encoded bytes, including metadata; a provider that sends the
            picture on decodes and encodes it anew first.
        box: the part of the picture that is used, in pixels of the oriented picture;
            None means the whole picture. Cropping while decoding avoids a further lossy encoding.
        is_finished: True only if our own encoder made it at the size asked for;
            never for a picture from outside.
        result_side_px: of a picture that is analyzed, the long side that its result will have if nothing is wrong with
            it, so that a provider may make the result along with the analysis; None if that may not be.
    """

    data: bytes = field(repr=False)
    box: PixelBox | None = None
    is_finished: bool = False
    result_side_px: int | None = None

    @cached_property
    def sha256(self) -> bytes:
        """Return the hash of the encoded bytes, which several users of a picture need."""
        return hashlib.sha256(self.data).digest()


@value
class Quote:
    """What a call would cost: the model to ask, its price by the table, and how many pictures the call would make."""

    model: str
    cost_usd: Decimal = Decimal(0)
    images: int = 0


def hash_of_call(images: Sequence[EncodedImage], *words: object) -> str:
    """Return a hash over a call's pictures and words, 64 hex digits: equal for calls that ask for the same.

    `words` must have the same `repr` in each process, so none of them may be a set.
    """
    whole = hashlib.sha256(repr(words).encode())
    for image in images:
        whole.update(image.sha256 + repr(image.box).encode())
    return whole.hexdigest()


class StageProvider(Protocol):
    """The interface through which stages call providers.

    Its implementation applies limits and budgets, and falls back to the next provider.

    Every method raises only errors of `pipelines.errors`. Cancelling a call aborts it.
    """

    @property
    def is_paid(self) -> bool:
        """Return whether a call can cost money."""
        ...

    async def analyze(self, image: EncodedImage, options: AnalysisOptions) -> Answer[Analysis]:
        """Analyze a picture: what is in it, and what is wrong with it."""
        ...

    async def generate(
        self, prompt: Prompt, images: Sequence[EncodedImage], long_side_px: int, aspect: float | None
    ) -> Answer[EncodedImage]:
        """Make a picture; see `Provider.prepare_generation`."""
        ...


class Provider(Protocol):
    """A provider that analyzes or makes pictures. Each call has two steps, and the gate admits it between them.

    A call is prepared, which may be slow, and then sent. Every method raises only errors of `pipelines.errors`.
    Cancelling a call aborts it.
    """

    @property
    def name(self) -> str:
        """Return the provider's name, as in PROVIDER."""
        ...

    @property
    def is_paid(self) -> bool:
        """Return whether a call can cost money."""
        ...

    @property
    def identity(self) -> str:
        """Return a text that names the models and settings on which pictures depend.

        A result is reused only under the same identity. The model that a pipeline chooses isn't part of the text.
        """
        ...

    def quote_analysis(self, options: AnalysisOptions) -> Quote:
        """Return model and price of an analysis, before it is prepared.

        Raises:
            ProviderNotConfiguredError: this provider can't analyze, or has no API key.
        """
        ...

    def quote_generation(self, prompt: Prompt, long_side_px: int) -> Quote:
        """Return model and price of a picture, before it is prepared.

        Raises:
            ProviderNotConfiguredError: this provider can't make such a picture, or has no API key.
        """
        ...

    async def prepare_analysis(self, image: EncodedImage, options: AnalysisOptions) -> PreparedCall[Analysis]:
        """Return the call that analyzes a picture, ready to be sent."""
        ...

    async def prepare_generation(
        self, prompt: Prompt, images: Sequence[EncodedImage], long_side_px: int, aspect: float | None
    ) -> PreparedCall[EncodedImage]:
        """Return the call that makes a picture from `prompt` and `images`, ready to be sent.

        Args:
            prompt: text for remote models, corrections for the local engine.
            images: the pictures to work on, the main one first; empty to make a picture from words.
            long_side_px: the long side asked for, in pixels.
            aspect: the width / height asked for; None leaves it to the provider.
        """
        ...

    async def check(self) -> None:
        """Check, without buying anything, whether the API key and the configured models are valid.

        Raises:
            ProviderNotConfiguredError: no call can succeed; the message says what to set.
        """
        ...

    async def aclose(self) -> None:
        """Close connections. Idempotent."""
        ...
