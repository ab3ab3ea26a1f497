"""The comb that a stretched range leaves in a histogram: evidence of what was done to a picture, and by how much.

Where 8 bits were multiplied or bent, some levels are never reached and others
twice. The gaps lie where the curve puts them, so that the curve can be looked
for. Resampling and coarse JPEG fill them: without a comb nothing is proved.
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import cache

import numpy as np
from numpy.typing import NDArray

from pipelines.imaging.header import START_OF_SCAN, jpeg_segments
from pipelines.providers.local.light import from_light, in_light

CLEAR_FROM = 20.0
"""Of `Comb.height`: of 200 sound pictures the clearest that wasn't drawn had 24, and nine in ten under 17."""

ALONE_FROM = 1.6
"""Of `Comb.prominence`: what a histogram's own raggedness resembles, it resembles at many amounts alike."""

_PEAK_WIDTH = 0.05
"""Of an amount, as a natural logarithm, to both sides."""

_NEAR = 0.3
"""Natural logarithm up to which an amount is like another."""

_TOP = 250
"""Levels from here on hold what has clipped."""

COARSE_FROM = 26.0
"""Mean step of a JPEG's luma from which its own steps show in the histogram; quality 75 has 29, 85 has 17."""

_QUANTIZATION = 0xDB

_REACHED = 0.96
"""Part of full light that a level may have come from: what was white before is a heap and no comb."""

_STRUCTURE = 0.03
"""Part of a level's count by which a photograph's histogram is ragged by itself."""


class Curve(StrEnum):
    """What may have stretched a range."""

    GAMMA = "gamma"
    LIGHT = "light"
    GAIN = "gain"
    LACK = "lack"


@dataclass(frozen=True, slots=True)
class Comb:
    """The best amount of one curve: how high its peak is, and how many times as high as any at another amount."""

    amount: float
    height: float
    prominence: float

    @property
    def is_clear(self) -> bool:
        """Whether it can't be chance."""
        return self.height >= CLEAR_FROM and self.prominence >= ALONE_FROM


def comb_of(counts: NDArray[np.float64], curve: Curve, near: float | None = None, *, are_alike: bool = False) -> Comb:
    """Look for the comb of a curve.

    Args:
        counts: of the levels of a picture that wasn't resampled, channels x 256.
        curve: GAMMA is a power of sRGB values, LIGHT a gain in linear light, GAIN a gain of sRGB values, and LACK
            what linear light was divided by.
        near: look at amounts like this one only, because other evidence says so.
        are_alike: whether the channels repeat each other, as those of a picture of one hue do: then they count as one.
    """
    amounts, lowest, phases = _phases(curve)
    total, highest = np.zeros(len(amounts)), np.zeros(len(amounts))
    for channel in counts:
        ragged = _raggedness(channel)[lowest:_TOP]
        height = np.abs(phases @ ragged) ** 2 / (np.abs(phases) @ ragged**2 + 20)
        total += height
        highest = np.maximum(highest, height)
    # one channel alone may have been stretched by a white balance
    heights = total / len(counts) if are_alike else np.minimum(total, 3 * (total - highest))
    if near is not None:
        heights = np.where(np.abs(np.log(amounts / near)) < _NEAR, heights, 0)
    best = int(heights.argmax())
    others = heights[np.abs(np.log(amounts / amounts[best])) > _PEAK_WIDTH]
    # where other evidence says the amount, it needn't be told from others
    prominence = heights[best] / max(others.max(), 1e-9) if near is None else np.inf
    return Comb(float(amounts[best]), float(heights[best]), float(prominence))


def _raggedness(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far each level's count is from its neighbours', in deviations that chance would have."""
    near = (np.roll(counts, 1) + np.roll(counts, -1) + np.roll(counts, 2) + np.roll(counts, -2)) / 4
    ragged = (counts - near) / np.sqrt(1.25 * near + 1 + (_STRUCTURE * near) ** 2)
    ragged[near < 60] = 0  # noqa: PLR2004 - too few pixels to have a shape
    return np.clip(ragged, -6, 6)


@cache
def _phases(curve: Curve) -> tuple[NDArray[np.float64], int, NDArray[np.complex128]]:
    """Return the amounts that are tried, the lowest level that tells, and where each level lies between two sources."""
    levels = np.arange(256) / 255
    if curve is Curve.GAMMA:
        amounts, lowest = np.arange(1.6, 3.3, 0.02), 80
        sources = levels[None] ** (1 / amounts[:, None])
    elif curve is Curve.LIGHT:
        amounts, lowest = np.arange(1.5, 3.3, 0.02), 30
        sources = from_light(in_light(levels)[None] / amounts[:, None])
    elif curve is Curve.GAIN:
        amounts, lowest = np.arange(1.4, 2.2, 0.01), 20
        sources = levels[None] / amounts[:, None]
    else:
        amounts, lowest = np.exp(np.arange(0.33, 1.7, 0.006)), 25
        light = in_light(levels)[None] * amounts[:, None]
        sources = np.where(light < _REACHED, from_light(light), np.nan)
    phases = np.exp(2j * np.pi * 255 * sources)[:, lowest:_TOP]
    return amounts, lowest, np.nan_to_num(phases)


def is_coarse_jpeg(data: bytes) -> bool:
    """Say whether a file is a JPEG so coarse, about quality 75 or less, that it makes combs of its own."""
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
