"""The size of a whole picture, and whether it is of one colour. It runs in a pixel child."""

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.imaging.answers import Colour, Look
from pipelines.imaging.decode import decode
from pipelines.imaging.encode import resize_long_side
from pipelines.imaging.header import DecodeLimits

LOOK_SIDE_PX = 1024
"""Pictures are looked at with this long side: a 4K JPEG takes 0.1 s, and a star of three pixels is still seen."""

ONE_COLOUR_LEVELS = 8
"""JPEG and faint noise make the pixels of one colour differ by up to so many levels of 256, averaged over 3 x 3."""


def look(data: bytes, limits: DecodeLimits) -> Look:
    """Decode a whole picture at a reduced size; return its full width and height, and whether it is of one colour.

    Raises:
        BadImageError: the picture is refused or broken.
    """
    decoded = decode(data, limits, max_long_side_px=LOOK_SIDE_PX)
    is_plain = spread_levels(decoded.pixels) <= ONE_COLOUR_LEVELS
    colour = mean_colour(decoded.pixels) if is_plain else None
    return Look(decoded.width_px, decoded.height_px, colour)


def mean_colour(pixels: NDArray[np.uint8]) -> Colour:
    """Return the mean of a picture's pixels: height x width x 3, uint8, sRGB."""
    mean = (np.array(cv2.sumElems(pixels)[:3]) / (pixels.shape[0] * pixels.shape[1])).round()
    return int(mean[0]), int(mean[1]), int(mean[2])


def spread_levels(pixels: NDArray[np.uint8]) -> int:
    """Return by how many levels, of 256, a picture's pixels differ at most; the channel that differs most counts.

    Args:
        pixels: height x width x 3, uint8, sRGB.
    """
    if max(pixels.shape[:2]) > LOOK_SIDE_PX:
        pixels = resize_long_side(pixels, LOOK_SIDE_PX)
    smooth = np.asarray(cv2.blur(pixels, (3, 3))).reshape(-1, 3)
    return int((smooth.max(axis=0).astype(int) - smooth.min(axis=0)).max())
