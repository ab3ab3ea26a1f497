"""Large pictures are treated strip by strip: whole, a 4K picture in floats is past a child's memory."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

STRIP_PIXELS = 3_000_000
STRIP_MARGIN_ROWS = 32
"""Beyond a strip, what its treatment sees: more than any treatment reaches, and a multiple of every block."""


def in_strips(
    pixels: NDArray[np.uint8], treatment: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
) -> NDArray[np.uint8]:
    """Treat a picture, in strips if it is large."""
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
