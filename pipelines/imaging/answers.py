"""What pixel functions answer with: plain classes, which the worker reads without importing numpy or OpenCV."""

from dataclasses import dataclass, field

from pipelines.imaging.header import MAX_SIDE_PX, DecodeLimits, read_header

Colour = tuple[int, int, int]
"""A colour in sRGB, each channel 0 to 255."""

SENT_SIDE_PX = 3072
"""Models shrink larger pictures anyway (Gemini's documentation, read 2026-11)."""


@dataclass(frozen=True, slots=True)
class Look:
    """Size and colour of a decoded picture.

    Attributes:
        width_px: of the oriented picture.
        height_px: of the oriented picture.
        one_colour: the colour of the whole picture, in sRGB; None if it has more than one colour.
    """

    width_px: int
    height_px: int
    one_colour: Colour | None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A JPEG that may be sent to a provider.

    Attributes:
        data: the encoded picture.
        ratio: the name of its aspect ratio; None if none was asked for.
        width_px: of the picture as it is sent, margins included.
        height_px: of the picture as it is sent, margins included.
        spread_levels: by how many levels of 256 the pixels without margins differ at most.
        mean_colour: the mean of these pixels.
    """

    data: bytes = field(repr=False)
    ratio: str | None
    width_px: int
    height_px: int
    spread_levels: int
    mean_colour: Colour


@dataclass(frozen=True, slots=True)
class FinishedImage:
    """A JPEG ready to be stored: quality 95, 4:4:4, sRGB, no metadata."""

    data: bytes
    width_px: int
    height_px: int


def finished(data: bytes) -> FinishedImage:
    """Return a picture that our own encoder made, unchanged; the limits of untrusted pictures don't apply to it."""
    header = read_header(data, DecodeLimits(max_bytes=len(data), max_pixels=MAX_SIDE_PX**2))
    return FinishedImage(data, header.width_px, header.height_px)
