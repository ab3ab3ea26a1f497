"""Conversion to linear light, in which exposure and white balance are corrected, and small copies to measure them."""

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.imaging.profiles import linear_to_srgb, srgb_to_linear

SIDE_PX = 384
"""Light is measured on a copy with this long side, which is faster, and in which noise has averaged out."""


LIGHT = srgb_to_linear(np.arange(256) / 255).astype(np.float32)
"""Linear light of each level."""


_LEVELS = np.round(linear_to_srgb(np.arange(4097) / 4096) * 255).astype(np.uint8)


def levels_of(light: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Convert linear light, 0 to 1, to levels, by a table that is finer than a level except in the deepest black."""
    return _LEVELS[np.clip(np.round(light * 4096), 0, 4096).astype(np.int32)]


def small_copy(pixels: NDArray[np.uint8], side_px: int = SIDE_PX) -> NDArray[np.uint8]:
    """Return a copy with a long side of at most `side_px`, averaged by area (height x width x 3, uint8, sRGB)."""
    factor = side_px / max(pixels.shape[:2])
    if factor >= 1:
        return pixels
    size = (max(1, round(pixels.shape[1] * factor)), max(1, round(pixels.shape[0] * factor)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def every(step: int, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return every so manieth pixel of every so manieth row (height x width x 3, uint8).

    Numpy copies a pixel that is one value in half the time of one that is three.
    """
    whole = pixels.view(np.dtype((np.void, 3)))[::step, ::step]
    return np.ascontiguousarray(whole).view(np.uint8)


def mapped(pixels: NDArray[np.uint8], table: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Replace each level by a table's value, 0 to 1; the table has 256 values for all channels, or 256 x 3."""
    rounded = np.clip(np.round(table * 255), 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(pixels, rounded if rounded.ndim == 1 else rounded.reshape(1, 256, 3)), np.uint8)


def highest_of(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return each pixel's highest channel; this is faster than a maximum along an axis of three."""
    return np.maximum(np.maximum(pixels[..., 0], pixels[..., 1]), pixels[..., 2])


def lowest_of(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return each pixel's lowest channel."""
    return np.minimum(np.minimum(pixels[..., 0], pixels[..., 1]), pixels[..., 2])


def level_counts(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return how many pixels have each level, channels x 256."""
    counts = [cv2.calcHist([pixels], [channel], None, [256], [0, 256]).ravel() for channel in range(3)]
    return np.stack(counts).astype(np.float64)


def channel_counts(channel: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return how many pixels of one channel have each level."""
    return np.asarray(cv2.calcHist([channel], [0], None, [256], [0, 256]), np.float64).ravel()


def counted_percentile(counts: NDArray[np.float64], percent: float) -> float:
    """Return `np.percentile` of levels, exactly, from how often each occurs: this takes no time for large pictures.

    Args:
        counts: how many pixels have each of the 256 levels; at least one pixel.
        percent: 0 to 100; between two pixels the value is interpolated.
    """
    below = counts.cumsum()
    at = (int(below[-1]) - 1) * (percent / 100)
    low, high = (int(np.searchsorted(below, place, side="right")) for place in (np.floor(at), np.ceil(at)))
    share = at - np.floor(at)
    return float(high - (high - low) * (1 - share) if share >= 0.5 else low + (high - low) * share)  # noqa: PLR2004 - half
