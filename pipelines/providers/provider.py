"""The seam to whoever analyzes and generates: values, and the one protocol."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Generic, Protocol, TypeVar

from pipelines.analysis import Analysis
from pipelines.job import Prompt

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """A picture as bytes, with its media type ("image/jpeg")."""

    data: bytes = field(repr=False)
    content_type: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What a call used, in the provider's own units; None where it doesn't say."""

    prompt_units: int | None = None
    output_units: int | None = None
    images: int | None = None
    cost_usd: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Answer(Generic[T_co]):
    """What a provider gave, what it used, and which model it was."""

    value: T_co
    model: str
    usage: Usage = Usage()


class Provider(Protocol):
    """Analyzes and generates pictures.

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

    async def analyze(self, image: EncodedImage, instructions: str) -> Answer[Analysis]:
        """Say what is in a picture and what is wrong with it."""
        ...

    async def generate(
        self, prompt: Prompt, images: Sequence[EncodedImage], long_side_px: int, aspect: float | None
    ) -> Answer[EncodedImage]:
        """Make a picture of `prompt` and `images`.

        Args:
            prompt: text for remote models, corrections for the local engine.
            images: the pictures to work on, the main one first; empty for text to image.
            long_side_px: long side wanted, in pixels.
            aspect: width / height wanted; None leaves it to the provider.
        """
        ...
