"""Boxes and sizes in whole pixels."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

STRIP_ROWS = 256
"""So many rows are converted at a time: a step that holds a whole picture of 64 megapixels exceeds a child's memory."""


@dataclass(frozen=True, slots=True)
class PixelBox:
    """A box in pixels of the oriented original; `x` and `y` are its left and top edges."""

    x: int
    y: int
    width: int
    height: int

    def __post_init__(self) -> None:
        """Refuse a box that is empty, or whose left or top edge is negative.

        Raises:
            ValueError: a side is under 1, or an edge is negative.
        """
        if self.x < 0 or self.y < 0 or self.width < 1 or self.height < 1:
            raise ValueError(f"no box of pixels: {self.x}, {self.y}, {self.width} x {self.height}")

    @property
    def right(self) -> int:
        """Return the first column to the right of the box."""
        return self.x + self.width

    @property
    def bottom(self) -> int:
        """Return the first row below the box."""
        return self.y + self.height


def fit_long_side(width_px: int, height_px: int, long_side_px: int) -> tuple[int, int]:
    """Return the width and height that keep the aspect and have exactly this long side, each at least 1.

    The result may be larger or smaller than the given size: 20,000 x 1 with long side 1,024 gives 1,024 x 1.
    """
    longest = max(width_px, height_px)
    return _scaled(width_px, long_side_px, longest), _scaled(height_px, long_side_px, longest)


def fit_within(width_px: int, height_px: int, long_side_px: int) -> tuple[int, int]:
    """Return the size shrunk to a long side of at most this many pixels, never enlarged, each side at least 1."""
    if max(width_px, height_px) <= long_side_px:
        return width_px, height_px
    return fit_long_side(width_px, height_px, long_side_px)


def _scaled(side_px: int, numerator: int, denominator: int) -> int:
    """Scale a side in whole numbers, rounding halves up; return at least 1."""
    return max(1, (2 * side_px * numerator + denominator) // (2 * denominator))


def nearest_ratio(aspect: float, ratios: Mapping[str, float]) -> str:
    """Return the name of the ratio that is nearest to a width / height."""
    return min(ratios, key=lambda name: abs(math.log(ratios[name] / aspect)))
