"""Blend: a picture takes on the palette and light of another."""

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.providers.local.light import small_copy

STRENGTH = 0.7
"""A picture goes this fraction of the way to the source's statistics: the whole way looks like a filter."""

MAX_STRETCH = 1.6
"""A channel's spread grows or shrinks at most by this, or flat areas break into bands."""

MAX_SHIFT = (18.0, 13.0, 16.0)
"""The means of L, a and b move by at most so much, so that a night shot doesn't turn noon black, or a face green."""


def blended(pixels: NDArray[np.uint8], source: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Give a picture the source's mean and spread in CIELAB, within limits.

    Reinhard et al., Color transfer between images, 2001. Black stays black and
    white stays white, so that no haze appears.

    Args:
        pixels: height x width x 3, uint8, sRGB.
        source: the picture whose palette is taken, height x width x 3, uint8, sRGB,
            of any size.
    """
    own, other = (_statistics(small_copy(picture)) for picture in (pixels, source))
    stretch = np.clip(other[1] / np.maximum(own[1], 1.0), 1 / MAX_STRETCH, MAX_STRETCH)
    shift = np.clip(other[0] - own[0], np.negative(MAX_SHIFT), MAX_SHIFT)
    result = np.empty_like(pixels)
    for top in range(0, pixels.shape[0], 256):  # in strips: CIELAB in floats is 12 bytes a pixel
        strip = pixels[top : top + 256]
        lab = _lab(strip)
        target = (lab - own[0]) * stretch + own[0] + shift
        # light and hue move most in the middle of the range, and not at all at its ends
        middle = np.clip(4 * lab[..., :1] / 100 * (1 - lab[..., :1] / 100), 0, 1) ** 0.5
        moved = lab + STRENGTH * middle * (target - lab)
        moved[..., 0] = np.clip(moved[..., 0], 0, 100)
        rgb = cv2.cvtColor(moved.astype(np.float32), cv2.COLOR_LAB2RGB)
        result[top : top + 256] = np.clip(np.round(rgb * 255), 0, 255).astype(np.uint8)
    return result


def _statistics(small: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    lab = _lab(small).reshape(-1, 3)
    return lab.mean(0), lab.std(0)


def _lab(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), np.float32)
