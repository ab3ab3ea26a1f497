"""Linear light and small copies: where exposure and white balance happen, and the size at which they are measured."""

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE_PX = 384
"""Light is measured on a small copy: faster, and noise has averaged out."""


def in_light(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn sRGB into linear light, both 0 to 1 (IEC 61966-2-1)."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)  # noqa: PLR2004 - the standard's


def from_light(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn linear light into sRGB, both 0 to 1; what is over white clips."""
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)  # noqa: PLR2004 - the standard's


LIGHT = in_light(np.arange(256) / 255).astype(np.float32)
"""Linear light of each level."""


_LEVELS = np.round(from_light(np.arange(4097) / 4096) * 255).astype(np.uint8)


def levels_of(light: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Turn linear light, 0 to 1, into levels; finer than a level everywhere but in the deepest black."""
    return _LEVELS[np.clip(np.round(light * 4096), 0, 4096).astype(np.int32)]


def small_copy(pixels: NDArray[np.uint8], side_px: int = SIDE_PX) -> NDArray[np.uint8]:
    """Return a copy with a long side of at most `side_px`, averaged by area (height x width x 3, uint8, sRGB)."""
    factor = side_px / max(pixels.shape[:2])
    if factor >= 1:
        return pixels
    size = (max(1, round(pixels.shape[1] * factor)), max(1, round(pixels.shape[0] * factor)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def mapped(pixels: NDArray[np.uint8], table: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Send each level through a table of 256 values 0 to 1, one for all channels or 256 x 3."""
    rounded = np.clip(np.round(table * 255), 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(pixels, rounded if rounded.ndim == 1 else rounded.reshape(1, 256, 3)), np.uint8)


def highest_of(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return each pixel's highest channel; faster than a maximum along an axis of three."""
    return np.maximum(np.maximum(pixels[..., 0], pixels[..., 1]), pixels[..., 2])


def lowest_of(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return each pixel's lowest channel."""
    return np.minimum(np.minimum(pixels[..., 0], pixels[..., 1]), pixels[..., 2])


def level_counts(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return how many pixels have each level, channels x 256."""
    counts = [cv2.calcHist([pixels], [channel], None, [256], [0, 256]).ravel() for channel in range(3)]
    return np.stack(counts).astype(np.float64)
