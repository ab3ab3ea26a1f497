"""Boxes and sizes in whole pixels."""

import math
from dataclasses import dataclass

from pipelines.errors import PermanentError

MIN_CROP_FRACTION = 0.25
"""Of the area, the least that a crop may leave: a suggestion is untrusted, and 0.001 x 0.001 is a hostile one."""

MAX_OUTPUT_SIDE_PX = 4096
"""No tier asks for more."""

_ROUNDING_SLACK = 1e-6
"""Fractions come from division: an edge this near to a whole pixel is that pixel."""


class CropTooSmallError(PermanentError):
    """A suggested crop would leave less than MIN_CROP_FRACTION of the area."""


@dataclass(frozen=True, slots=True)
class PixelBox:
    """A box in pixels of the oriented original, `x` and `y` its left and top edges."""

    x: int
    y: int
    width: int
    height: int

    def __post_init__(self) -> None:
        """Refuse an empty box and one that starts outside.

        Raises:
            ValueError: a side is under 1, or an edge is negative.
        """
        if self.x < 0 or self.y < 0 or self.width < 1 or self.height < 1:
            raise ValueError(f"no box of pixels: {self.x}, {self.y}, {self.width} x {self.height}")

    @property
    def right(self) -> int:
        """The first column that isn't in the box."""
        return self.x + self.width

    @property
    def bottom(self) -> int:
        """The first row that isn't in the box."""
        return self.y + self.height


@dataclass(frozen=True, slots=True)
class CropSuggestion:
    """A crop as fractions of the oriented image, 0 at left and top.

    Edges may lie outside of the image: `crop_box` clips them.
    """

    x: float
    y: float
    width: float
    height: float

    def __post_init__(self) -> None:
        """Refuse what isn't a number.

        Raises:
            ValueError: a value is NaN or infinite.
        """
        if not all(math.isfinite(edge) for edge in (self.x, self.y, self.width, self.height)):
            raise ValueError("a suggested crop holds a value that isn't a finite number")


def crop_box(
    suggestion: CropSuggestion, width_px: int, height_px: int, *, min_fraction: float = MIN_CROP_FRACTION
) -> PixelBox:
    """Turn a suggested crop into whole pixels of an image.

    The box is never empty and never leaves the image: edges are rounded
    outwards, then clipped.

    Args:
        suggestion: edges as fractions of the image, 0 at left and top,
            after EXIF orientation has been applied.
        width_px: width of the oriented image, at least 1.
        height_px: height of the oriented image, at least 1.
        min_fraction: of the area, the least that has to remain.

    Raises:
        CropTooSmallError: less than `min_fraction` of the area would remain.
    """
    left = _clipped(_outwards_down(suggestion.x * width_px), width_px)
    top = _clipped(_outwards_down(suggestion.y * height_px), height_px)
    right = _clipped(_outwards_up((suggestion.x + suggestion.width) * width_px), width_px)
    bottom = _clipped(_outwards_up((suggestion.y + suggestion.height) * height_px), height_px)
    area_fraction = max(0, right - left) * max(0, bottom - top) / (width_px * height_px)
    if area_fraction < min_fraction or area_fraction == 0:
        raise CropTooSmallError(
            f"suggested crop would leave {area_fraction:.1%} of the picture; the least is {min_fraction:.0%}"
        )
    return PixelBox(left, top, right - left, bottom - top)


def fit_long_side(width_px: int, height_px: int, long_side_px: int) -> tuple[int, int]:
    """Return the width and height with exactly this long side and the aspect kept, each at least 1.

    Enlarges as well as shrinks. 20,000 x 1 at 1,024 is 1,024 x 1.
    """
    longest = max(width_px, height_px)
    return _scaled(width_px, long_side_px, longest), _scaled(height_px, long_side_px, longest)


def fit_within(width_px: int, height_px: int, long_side_px: int) -> tuple[int, int]:
    """Return the size shrunk to a long side of at most this many pixels, never enlarged, each side at least 1."""
    if max(width_px, height_px) <= long_side_px:
        return width_px, height_px
    return fit_long_side(width_px, height_px, long_side_px)


def _scaled(side_px: int, numerator: int, denominator: int) -> int:
    """Scale a side in whole numbers, halves upwards."""
    return max(1, (2 * side_px * numerator + denominator) // (2 * denominator))


def _outwards_down(edge_px: float) -> float:
    return math.floor(edge_px + _ROUNDING_SLACK)


def _outwards_up(edge_px: float) -> float:
    return math.ceil(edge_px - _ROUNDING_SLACK)


def _clipped(edge_px: float, size_px: int) -> int:
    return int(min(max(edge_px, 0), size_px))
