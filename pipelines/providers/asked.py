"""Check whether the picture that came is what the request asked for; it is the same for every paid provider."""

from dataclasses import dataclass
from typing import Self

from config.job_terms import LEAST_SIZE_FRACTION
from config.logger import EventLogger
from pipelines.errors import (
    AnswerTooLargeError,
    BadImageError,
    BrokenAnswerError,
    OneColourError,
    PixelChildLostError,
    TransparentImageError,
    WrongShapeError,
    WrongSizeError,
)
from pipelines.imaging.answers import Colour, Look, Outgoing
from pipelines.imaging.header import DecodeLimits, read_header
from pipelines.imaging.pool import PixelPool
from pipelines.job import Prompt
from pipelines.pixel_functions import looking
from pipelines.prompts import Purpose
from pipelines.providers.colour_words import ask_for_colour

log = EventLogger(__name__)

MOST_STRETCH = 1.03
"""Largest factor between the ratio asked for and the picture's ratio.

Models miss it by up to 1 % (21:9 is 1584 x 672).
"""

AKIN_LEVELS = 100
"""Largest change of a channel's mean, of 256 levels, that a correction of brightness or colour makes."""

PALE_LEVELS = 40
"""Where a picture's pixels differ by at most so many levels of 256, its result may be one colour: fog, a sheet of
paper, a grey card."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What one request asks a model for.

    Attributes:
        model: its name, for messages.
        long_side_px: long side of the size that is asked for; the tier's may be larger.
        ratio: width / height.
        words: the user's own, which may ask for a picture of one colour.
        has_picture: whether the words are to change a picture.
        spread_levels: those of the picture to be changed, as it is sent; None if the request has only words.
        mean_colour: that of the same picture.
    """

    model: str
    long_side_px: int
    ratio: float
    words: str
    has_picture: bool
    spread_levels: int | None
    mean_colour: Colour | None

    @classmethod
    def of(cls, model: str, long_side_px: int, ratio: float, prompt: Prompt, main: Outgoing | None = None) -> Self:
        """Return what a request asks for, from its prompt and the picture to be changed, if it has one."""
        has_picture = prompt.purpose is not Purpose.GENERATE
        sent = (None, None) if main is None else (main.spread_levels, main.mean_colour)
        return cls(model, long_side_px, ratio, prompt.words, has_picture, *sent)

    def require(self, came: Look) -> None:
        """Compare the picture that came with what was asked for.

        Raises:
            WrongSizeError: it is smaller than nine tenths of what was asked for.
            WrongShapeError: its ratio is off by more than 3 %.
            OneColourError: it is of one colour, which neither the input nor the prompt asks for.
        """
        size = f"{came.width_px} x {came.height_px} pixels"
        if max(came.width_px, came.height_px) < LEAST_SIZE_FRACTION * self.long_side_px:
            raise WrongSizeError(
                f"{self.model} answered with a picture of the wrong size: {size}, asked for a long side of "
                f"{self.long_side_px}"
            )
        stretch = came.width_px / came.height_px / self.ratio
        if max(stretch, 1 / stretch) > MOST_STRETCH:
            raise WrongShapeError(
                f"{self.model} answered with a picture of the wrong shape: {size}, asked for {self.ratio:.2f} times as "
                "wide as high"
            )
        if came.one_colour is not None and not self._may_be(came.one_colour):
            raise OneColourError(
                f"{self.model} answered with an empty picture: all of it is one colour, "
                f"#{bytes(came.one_colour).hex()}, which neither the input nor the words ask for"
            )

    def _may_be(self, colour: Colour) -> bool:
        is_pale = self.spread_levels is not None and self.spread_levels <= PALE_LEVELS
        if is_pale and self.mean_colour is not None and _is_akin(self.mean_colour, colour):
            return True
        return ask_for_colour(self.words, colour, has_picture=self.has_picture)

    async def require_picture(self, data: bytes, pixels: PixelPool, limits: DecodeLimits) -> Look | None:
        """Decode and check the picture that came.

        Return None if a pixel child was lost, so that the picture wasn't checked.

        Raises:
            MissedRequestError: it isn't what was asked for, or exceeds the limits.
            BrokenAnswerError: it isn't a picture that can be decoded.
        """
        if len(data) > limits.max_bytes:
            raise AnswerTooLargeError(
                f"{self.model} answered with a picture of {len(data):,} bytes; DARKROOM_MAX_ANSWER_BYTES is "
                f"{limits.max_bytes:,}"
            )
        try:
            header = read_header(data, limits)
            came = await pixels.run(looking.look, data, limits, task_bytes=header.decoded_bytes)
        except TransparentImageError as error:
            raise OneColourError(f"{self.model} answered with an empty picture: all of it is transparent") from error
        except BadImageError as error:
            raise BrokenAnswerError(
                f"{self.model} answered with no usable picture: {error}", evidence=error.evidence
            ) from error
        except PixelChildLostError as error:  # the picture is paid for, and is decoded again when it is finished
            log.warning("answer_not_looked_at", model=self.model, error=str(error))
            return None
        self.require(came)
        return came

    def notes(self, came: Look | None, long_side_px: int) -> tuple[str, ...]:
        """Return sentences, for a job's treatments, about a picture that has to be enlarged to the tier's long side."""
        if came is None or max(came.width_px, came.height_px) >= LEAST_SIZE_FRACTION * long_side_px:
            return ()
        return (f"enlarged from {came.width_px} x {came.height_px}: {self.model} makes no larger picture",)


def _is_akin(sent: Colour, came: Colour) -> bool:
    """Return whether a correction may have turned the colour that was sent into the colour that came.

    Both pictures are of nearly one colour. A correction makes a colour brighter or more neutral. No correction makes
    fog of a black picture, or a grey card of a red one.
    """
    darker_levels = (sum(sent) - sum(came)) / len(sent)
    more_chroma_levels = (max(came) - min(came)) - (max(sent) - min(sent))
    return darker_levels <= AKIN_LEVELS and more_chroma_levels <= AKIN_LEVELS
