"""Treatment of large pictures strip by strip, since a whole 4K picture in floats exceeds a child's memory."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

STRIP_PIXELS = 3_000_000
"""A strip has about so many pixels."""

STRIP_MARGIN_ROWS = 32
"""A treatment gets so many rows beyond its strip: more than any treatment needs, and a multiple of every block."""


def in_strips(
    pixels: NDArray[np.uint8], treatment: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
) -> NDArray[np.uint8]:
    """Return a picture treated in strips if it is large, else at once."""
    height, width = pixels.shape[:2]
    rows = max(256, STRIP_PIXELS // width)
    if rows >= height:
        return treatment(pixels)
    result = np.empty_like(pixels)
    for top in range(0, height, rows):
        low, high = max(0, top - STRIP_MARGIN_ROWS), min(height, top + rows + STRIP_MARGIN_ROWS)
        bottom = min(height, top + rows)
        result[top:bottom] = treatment(np.ascontiguousarray(pixels[low:high]))[top - low : bottom - low]
    return result
