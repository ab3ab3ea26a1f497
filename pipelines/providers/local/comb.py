"""The comb that a stretched range leaves in a histogram, which proves what was done to a picture, and by how much.

Where 8 bits were multiplied or bent by a curve, some levels are never reached
and others twice. The curve determines where these gaps lie, so that it can be
found by them. Resampling and coarse JPEG fill the gaps, so if no comb is found, that
proves nothing.
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import cache

import numpy as np
from numpy.typing import NDArray

from pipelines.imaging.header import START_OF_SCAN, jpeg_segments
from pipelines.imaging.profiles import linear_to_srgb, srgb_to_linear

CLEAR_FROM = 20.0
"""A comb is clear from this `Comb.height` on. Of 200 sound pictures that weren't drawn nine in ten have less than 17,
and the highest has 24."""

ALONE_FROM = 1.6
"""A comb is clear from this `Comb.prominence` on; a histogram's own raggedness resembles combs of many amounts."""

_PEAK_WIDTH = 0.05
"""A peak reaches so far to both sides of its amount, as a natural logarithm."""

_NEAR = 0.3
"""Two amounts are alike up to this difference of their natural logarithms."""

_TOP = 250
"""Levels from this one on hold what has clipped, and are left out."""

COARSE_FROM = 26.0
"""From this mean step on, the steps of a JPEG's luma show in the histogram. Quality 75 has 29, and 85 has 17."""

_QUANTIZATION = 0xDB

_REACHED = 0.96
"""Levels from up to this fraction of full light form a comb; what was white before forms a heap."""

_STRUCTURE = 0.03
"""A photograph's histogram is ragged by itself, by this fraction of a level's count."""


class Curve(StrEnum):
    """The kinds of curves that may have stretched a range."""

    GAMMA = "gamma"
    LIGHT = "light"
    GAIN = "gain"
    LACK = "lack"


@dataclass(frozen=True, slots=True)
class Comb:
    """The amount of one curve with the highest peak, that peak's height, and its ratio to the next peak's height."""

    amount: float
    height: float
    prominence: float

    @property
    def is_clear(self) -> bool:
        """Return whether the comb is too clear to be chance."""
        return self.height >= CLEAR_FROM and self.prominence >= ALONE_FROM


def comb_of(counts: NDArray[np.float64], curve: Curve, near: float | None = None, *, are_alike: bool = False) -> Comb:
    """Find the comb of a curve in counts of levels.

    Args:
        counts: of the levels of a picture that wasn't resampled, channels x 256.
        curve: GAMMA is a power of sRGB values, LIGHT a gain in linear light, GAIN a gain of sRGB values, and LACK
            what linear light was divided by.
        near: an amount that other evidence names; only amounts like it are tried.
        are_alike: whether the channels repeat each other, as those of a picture of one hue do, and count as one.
    """
    amounts, lowest, phases, sizes = _phases(curve)
    total, highest = np.zeros(len(amounts)), np.zeros(len(amounts))
    for channel in counts:
        ragged = _raggedness(channel)[lowest:_TOP]
        height = np.abs(phases @ ragged) ** 2 / (sizes @ ragged**2 + 20)
        total += height
        highest = np.maximum(highest, height)
    # a channel that is stretched alone may have been stretched by a white balance
    heights = total / len(counts) if are_alike else np.minimum(total, 3 * (total - highest))
    if near is not None:
        heights = np.where(np.abs(np.log(amounts / near)) < _NEAR, heights, 0)
    best = int(heights.argmax())
    others = heights[np.abs(np.log(amounts / amounts[best])) > _PEAK_WIDTH]
    # an amount that other evidence names needn't stand out among others
    prominence = heights[best] / max(others.max(), 1e-9) if near is None else np.inf
    return Comb(float(amounts[best]), float(heights[best]), float(prominence))


def _raggedness(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far each level's count is from the counts of its neighbours, in standard deviations of chance."""
    near = (np.roll(counts, 1) + np.roll(counts, -1) + np.roll(counts, 2) + np.roll(counts, -2)) / 4
    ragged = (counts - near) / np.sqrt(1.25 * near + 1 + (_STRUCTURE * near) ** 2)
    ragged[near < 60] = 0  # noqa: PLR2004 - too few pixels to have a shape
    return np.clip(ragged, -6, 6)


@cache
def _phases(curve: Curve) -> tuple[NDArray[np.float64], int, NDArray[np.complex128], NDArray[np.float64]]:
    """Return the amounts to try, the lowest level to use, and where each level lies between two source levels.

    The last array has the absolute values of the third, 1 or 0.
    """
    levels = np.arange(256) / 255
    if curve is Curve.GAMMA:
        amounts, lowest = np.arange(1.6, 3.3, 0.02), 80
        sources = levels[None] ** (1 / amounts[:, None])
    elif curve is Curve.LIGHT:
        amounts, lowest = np.arange(1.5, 3.3, 0.02), 30
        sources = linear_to_srgb(srgb_to_linear(levels)[None] / amounts[:, None])
    elif curve is Curve.GAIN:
        amounts, lowest = np.arange(1.4, 2.2, 0.01), 20
        sources = levels[None] / amounts[:, None]
    else:
        amounts, lowest = np.exp(np.arange(0.33, 1.7, 0.006)), 25
        light = srgb_to_linear(levels)[None] * amounts[:, None]
        sources = np.where(light < _REACHED, linear_to_srgb(light), np.nan)
    phases = np.exp(2j * np.pi * 255 * sources)[:, lowest:_TOP]
    phases = np.nan_to_num(phases)
    return amounts, lowest, phases, np.abs(phases)


def is_coarse_jpeg(data: bytes) -> bool:
    """Return whether a file is a JPEG so coarse, of about quality 75 or less, that it leaves combs of its own."""
    if not data.startswith(b"\xff\xd8"):
        return False
    for marker, at in jpeg_segments(data):
        if marker == START_OF_SCAN:
            break
        if marker == _QUANTIZATION:  # the first table is luma's (ITU-T T.81, B.2.4.1)
            size = 2 if data[at + 2] >> 4 else 1
            steps = np.frombuffer(data[at + 3 : at + 3 + 64 * size], ">u2" if size == 2 else "u1")  # noqa: PLR2004
            return bool(steps.size and steps.mean() >= COARSE_FROM)
    return False
