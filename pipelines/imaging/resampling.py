"""Lanczos, by a library that takes a fraction of Pillow's time.

Photographs become what Pillow makes of them, up to rounding. At hard edges on white or black, as of text, single pixels
differ by up to a fifth of the range, because both cut off what overshoots after each direction, but not in the same
order. Neither is closer to Lanczos without such cuts in all cases.
"""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

try:
    import cykooz_resizer as fast
except ImportError:  # it has no wheel for some machines
    fast = None

BAND_BYTES = 3_000_000
LEAST_ROWS = 32
"""The library takes copies of its input. A band of so many bytes stays in the processor's cache: a copy of a whole
picture of 12 megapixels takes as long as to shrink it. A band of fewer rows than these would mostly be its margin."""

_REACH = 3
"""Lanczos of this radius reaches so many pixels of the smaller of both pictures to either side."""


def lanczos(pixels: NDArray[np.uint8], width_px: int, height_px: int) -> NDArray[np.uint8]:
    """Resample to an exact size (height x width x 3, uint8)."""
    if fast is None:
        resized = Image.fromarray(np.ascontiguousarray(pixels)).resize((width_px, height_px), Image.Resampling.LANCZOS)
        return np.array(resized)
    height, width = pixels.shape[:2]
    scale = height / height_px
    reach = math.ceil(_REACH * max(1.0, scale)) + 1
    rows = max(LEAST_ROWS, int(BAND_BYTES / (scale * width * 3)))
    resizer, method = fast.Resizer(), fast.ResizeAlg.convolution(fast.FilterType.lanczos3)
    result = np.empty((height_px, width_px, 3), np.uint8)
    for top in range(0, height_px, rows):
        bottom = min(height_px, top + rows)
        low, high = max(0, math.floor(top * scale) - reach), min(height, math.ceil(bottom * scale) + reach)
        start = top * scale - low
        box = fast.CropBox(0, start, width, min((bottom - top) * scale, high - low - start))
        band = fast.ImageData(width, high - low, fast.PixelType.U8x3, pixels[low:high].tobytes())
        made = fast.ImageData(width_px, bottom - top, fast.PixelType.U8x3)
        resizer.resize(band, made, fast.ResizeOptions(method, crop_box=box))
        result[top:bottom] = np.frombuffer(made.get_buffer(), np.uint8).reshape(-1, width_px, 3)
    return result
