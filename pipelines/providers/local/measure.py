"""What is wrong with a picture, in figures."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.analysis import Defect
from pipelines.providers.local import colour, exposure, noise, sharpness

LOW_RESOLUTION_PX = 800
"""A long side under this can't fill the smallest tier without inventing a fifth of its pixels."""

DETAIL_PX = 2048
"""Side of the middle in which noise and edges are measured, at the picture's own scale."""

SMALL_DOUBT = 2.0
"""Sureness lost for each halving below the size that light is measured at: local contrast is another there."""

LEAST_CAST = 0.24
"""Natural logarithm: a cast weaker than this may as well be the light of the scene, and stays."""


@dataclass(frozen=True, slots=True)
class Measures:
    """A picture's figures. A sureness above 0 is a defect.

    Attributes:
        dark_sureness: that a gamma darkened it.
        gamma: which one, from 1.
        overexposed_sureness: that a gain clipped it.
        cast_sureness: that it has a colour cast.
        cast_gains: of red and blue over green.
        noisy_sureness: that there is noise, and not texture.
        noise_sigma: of luma, in levels.
        edge_width_px: of the sharpest edges, as a Gaussian's sigma; None without edges.
        long_side_px: of the picture.
        mean_luma: of the small copy's channels, 0 to 1.
        is_grey: whether it has no colour.
    """

    dark_sureness: float
    gamma: float
    overexposed_sureness: float
    cast_sureness: float
    cast_gains: tuple[float, float]
    noisy_sureness: float
    noise_sigma: float
    edge_width_px: float | None
    long_side_px: int
    mean_luma: float
    is_grey: bool

    @property
    def is_blurred(self) -> bool:
        """Whether the sharpest edges are wide, as far as noise lets anyone see."""
        width = self.edge_width_px
        return width is not None and width >= sharpness.BLURRED_FROM and self.noisy_sureness <= 0

    @property
    def cast_strength(self) -> float:
        """How far the cast's gains are from neutral, in natural logarithms."""
        return math.hypot(*map(math.log, self.cast_gains))

    def found(self) -> frozenset[Defect]:
        """Return the defects."""
        judged = {
            Defect.IS_DARK: self.dark_sureness > 0,
            Defect.IS_OVEREXPOSED: self.overexposed_sureness > 0 and self.dark_sureness <= 0,
            Defect.HAS_COLOR_CAST: self.cast_sureness > 0 and self.cast_strength >= LEAST_CAST and not self.is_grey,
            Defect.HAS_NOISE: self.noisy_sureness > 0,
            Defect.IS_BLURRY: self.is_blurred,
            Defect.IS_LOW_RESOLUTION: self.long_side_px < LOW_RESOLUTION_PX,
        }
        return frozenset(defect for defect, is_there in judged.items() if is_there)

    def as_numbers(self) -> dict[str, float]:
        """Return the figures for people, rounded."""
        numbers = {
            "gamma": self.gamma,
            "castRed": self.cast_gains[0],
            "castBlue": self.cast_gains[1],
            "noiseSigma": self.noise_sigma,
            "meanLuma": self.mean_luma,
            "longSidePx": float(self.long_side_px),
        }
        if self.edge_width_px is not None:
            numbers["edgeWidthPx"] = self.edge_width_px
        return {name: round(value, 3) for name, value in numbers.items()}


def measure(pixels: NDArray[np.uint8]) -> Measures:
    """Measure a picture without bars.

    Args:
        pixels: height x width x 3, uint8, sRGB.
    """
    detail = _middle(pixels)
    ycc = np.asarray(cv2.cvtColor(detail, cv2.COLOR_RGB2YCrCb), np.uint8)
    luma, chroma = np.ascontiguousarray(ycc[..., 0]), np.ascontiguousarray(ycc[..., 1])
    noisy_sureness, noise_sigma = noise.noise_of(noise.noise_figures(luma, chroma))
    small = exposure.small_copy(pixels)
    figures = exposure.exposure_figures(small)
    dark_sureness, gamma = exposure.darkening_gamma(figures)
    # a gamma multiplies casts, too: look at colour as it will be
    lit = exposure.brightened(small, gamma) if dark_sureness > 0 else small
    cast_sureness, cast_gains = colour.colour_cast(colour.cast_figures(lit))
    doubt = SMALL_DOUBT * max(0.0, math.log2(exposure.SIDE_PX / max(small.shape[:2])))
    return Measures(
        dark_sureness=dark_sureness - doubt,
        gamma=gamma,
        overexposed_sureness=exposure.overexposure(figures) - doubt,
        cast_sureness=cast_sureness - doubt,
        cast_gains=cast_gains,
        noisy_sureness=noisy_sureness,
        noise_sigma=noise_sigma,
        edge_width_px=sharpness.edge_width(luma),
        long_side_px=max(pixels.shape[:2]),
        mean_luma=float(small.mean()) / 255,
        is_grey=colour.is_grey(small),
    )


def _middle(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the part where noise and edges are measured: enough to know, and within a child's memory."""
    height, width = pixels.shape[:2]
    top, left = max(0, (height - DETAIL_PX) // 2), max(0, (width - DETAIL_PX) // 2)
    return np.ascontiguousarray(pixels[top : top + DETAIL_PX, left : left + DETAIL_PX])
