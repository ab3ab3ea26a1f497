"""Measurement of a picture's defects."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from config.pipeline_rules import Defect
from pipelines.providers.local import colour, exposure, noise, sharpness
from pipelines.providers.local.comb import Curve, comb_of
from pipelines.providers.local.kind import is_drawn, is_toned
from pipelines.providers.local.light import SIDE_PX, every, level_counts, small_copy

LOW_RESOLUTION_PX = 800
"""A picture with a shorter long side has a low resolution: the smallest tier enlarges it by more than a quarter."""

DETAIL_PX = 2048
"""Noise and edges are measured in the middle of a picture, up to this side."""

SMALL_DOUBT = 2.0
"""Sureness falls by this with each halving below the size at which light is measured, since local contrast differs."""

LEAST_CAST = 0.55
"""A cast weaker than this natural logarithm of linear light may be the light of the scene, and stays."""

LEAST_GAIN = 1.35
"""A white that lacks a smaller gain than this may be the scene's own, and stays."""

LEAST_GAMMA = 1.4
"""A weaker gamma than this stays."""

COMB_SURENESS = 3.0
"""A clear comb raises a sureness by this."""

GAMMA_DOUBT, LACK_DOUBT, SURPLUS_DOUBT = 1.0, 1.5, 0.3
"""Without a comb a sureness is lowered by this, since the picture only resembles damaged ones: stage light resembles a
gamma, and fog and dusk have a low white, as a lack of light has."""

UNPROVED = -1.0
"""The largest score where evidence is missing. For a lack of light it is a white that is neutral among colours.
Where all is grey or of one hue, fog and blue dusk end as abruptly, and only a comb proves anything."""

NEUTRAL_WHITE = 0.7
"""The channels of a neutral white end within this natural logarithm of linear light. So do three in four of the
photographs that a fit found to lack light; those of flowers end 1.5 and more apart."""

FAINT_COMB, FAINT_PROMINENCE, SAME_GAMMA = 12.0, 1.3, 0.12
"""A comb of this height and prominence is too faint to prove a gamma. It removes the doubt where its gamma differs by
less than SAME_GAMMA, a natural logarithm, from the one that the other figures make likely."""

CLIPPED_WHITE = 250
"""A white under this level has not clipped."""

SRGB_POWER = 2.3
"""A gain of sRGB values is about this power of it in linear light."""

SURE_FROM = 1.0
"""From this sureness on a defect is treated in full, and below it in part."""

LEAST_SHARE = 0.75
"""This fraction of a correction is made where a defect is only just found."""


@dataclass(frozen=True, slots=True)
class Light:
    """How a picture's light was recorded. A sureness above 0 means a defect.

    Attributes:
        dark_sureness: how sure it is that a gamma darkened it.
        gamma: that gamma, at least 1.
        under_sureness: how sure it is that it got too little light.
        light_gain: the factor by which it got too little linear light, at least 1.
        over_sureness: how sure it is that it got so much light that channels clipped.
        over_gain: the factor by which it got too much linear light.
    """

    dark_sureness: float
    gamma: float
    under_sureness: float
    light_gain: float
    over_sureness: float
    over_gain: float

    @property
    def is_underexposed(self) -> bool:
        """Return whether light was lacking, rather than bent by a gamma."""
        return self.under_sureness > 0 and self.light_gain >= LEAST_GAIN and self.under_sureness >= self.dark_sureness

    @property
    def is_darkened(self) -> bool:
        """Return whether a gamma darkened it."""
        return self.dark_sureness > 0 and self.gamma >= LEAST_GAMMA and not self.is_underexposed


@dataclass(frozen=True, slots=True)
class Proof:
    """What only a picture as decoded proves, since resampling mixes levels and makes noise resemble texture.

    Attributes:
        light: how its light was recorded.
        noisy_sureness: how sure it is that it has noise; above 0 means yes.
        noise_sigma: the noise of its luma, in levels, with a long side of about `DETAIL_PX`.
    """

    light: Light
    noisy_sureness: float
    noise_sigma: float


@dataclass(frozen=True, slots=True)
class Measures:
    """A picture's figures. A sureness above 0 means a defect.

    Attributes:
        light: how its light was recorded.
        cast_sureness: how sure it is that it has a colour cast.
        cast: the cast's red and blue over green, as natural logarithms of linear light.
        noisy_sureness: how sure it is that it has noise, and not texture.
        noise_sigma: the noise of its luma, in levels.
        edge_width_px: the width of its sharpest edges, as a Gaussian's sigma; None without edges.
        long_side_px: its long side.
        mean_luma: the mean of the small copy's channels, 0 to 1.
        is_grey: whether it has no colour.
        is_toned: whether it has one hue only, as sepia has.
        is_drawn: whether it was drawn, printed or shown on a screen, so that its light and colours are intended.
    """

    light: Light
    cast_sureness: float
    cast: tuple[float, float]
    noisy_sureness: float
    noise_sigma: float
    edge_width_px: float | None
    long_side_px: int
    mean_luma: float
    is_grey: bool
    is_toned: bool
    is_drawn: bool

    @property
    def is_blurred(self) -> bool:
        """Return whether the sharpest edges are wide.

        The edges of a noisy picture can't be measured: then the result is False.
        """
        width = self.edge_width_px
        return width is not None and width >= sharpness.BLURRED_FROM and self.noisy_sureness <= 0

    @property
    def cast_strength(self) -> float:
        """Return how far the cast's gains are from neutral, as a natural logarithm."""
        return math.hypot(*self.cast)

    def found(self) -> frozenset[Defect]:
        """Return the defects that the figures show."""
        is_dark = self.light.is_underexposed or self.light.is_darkened
        is_coloured = not self.is_grey and not self.is_toned
        judged = {
            Defect.IS_DARK: is_dark,
            Defect.IS_OVEREXPOSED: self.light.over_sureness > 0 and not is_dark,
            Defect.HAS_COLOR_CAST: self.cast_sureness > 0 and self.cast_strength >= LEAST_CAST and is_coloured,
            Defect.HAS_NOISE: self.noisy_sureness > 0,
            Defect.IS_BLURRY: self.is_blurred,
        }
        defects = {defect for defect, is_there in judged.items() if is_there and not self.is_drawn}
        if self.long_side_px < LOW_RESOLUTION_PX:
            defects.add(Defect.IS_LOW_RESOLUTION)
        return frozenset(defects)

    def as_numbers(self) -> dict[str, float]:
        """Return the figures for people, rounded."""
        numbers = {
            "gamma": self.light.gamma,
            "lightGain": self.light.light_gain,
            "castRed": math.exp(self.cast[0]),
            "castBlue": math.exp(self.cast[1]),
            "noiseSigma": self.noise_sigma,
            "meanLuma": self.mean_luma,
            "longSidePx": float(self.long_side_px),
        }
        if self.edge_width_px is not None:
            numbers["edgeWidthPx"] = self.edge_width_px
        return {name: round(value, 3) for name, value in numbers.items()}


def share_of(sureness: float) -> float:
    """Return which fraction of a measured defect is corrected; it grows with the sureness."""
    return min(1.0, LEAST_SHARE + (1 - LEAST_SHARE) * max(sureness, 0.0) / SURE_FROM)


def light_of(pixels: NDArray[np.uint8], *, is_coarse: bool = False) -> Light:
    """Measure how a picture's light was recorded.

    Args:
        pixels: height x width x 3, uint8, sRGB, without bars, as decoded, since resampling fills combs.
        is_coarse: whether the compression of the picture's file makes combs by itself (`is_coarse_jpeg`).
    """
    step = max(1, round(max(pixels.shape[:2]) / DETAIL_PX))
    pixels = every(step, pixels)  # leaving out pixels keeps the gaps between levels
    small = small_copy(pixels)
    seconds, counts = exposure.every_second(pixels), level_counts(pixels)
    white = exposure.white_level(seconds)
    figures = exposure.exposure_figures(seconds, small, white)
    highlights = exposure.highlight_figures(pixels, counts)
    if is_coarse:
        counts = np.zeros_like(counts)
    has_colours = not (colour.is_grey(small) or is_toned(small))
    dark_sureness, gamma = _darkening(counts, figures, has_colours=has_colours)
    is_witnessed = has_colours and exposure.ends_apart(seconds) < NEUTRAL_WHITE
    under_sureness, light_gain = _underexposure(counts, figures, white, is_witnessed=is_witnessed)
    over = exposure.overexposure(figures, highlights)
    over_sureness, over_gain = _overexposure(counts, over, white, has_colours=has_colours)
    doubt = _small_doubt(small)
    return Light(dark_sureness - doubt, gamma, under_sureness - doubt, light_gain, over_sureness - doubt, over_gain)


def proof_of(pixels: NDArray[np.uint8], *, is_coarse: bool = False) -> Proof:
    """Measure light (see `light_of`) and noise of a picture, without bars, as decoded.

    A large picture is averaged over squares of whole pixels before its noise is measured: noise stays even at every
    scale, by which it is told from texture. Lanczos, or areas that share pixels, weaken the finest of it.
    """
    return Proof(light_of(pixels, is_coarse=is_coarse), *_noise_of(_averaged_middle(pixels)))


def noise_sigma_of(pixels: NDArray[np.uint8]) -> float:
    """Return the noise of a picture's luma at its own size, in levels."""
    return _noise_of(_middle(pixels))[1]


def _noise_of(detail: NDArray[np.uint8]) -> tuple[float, float]:
    ycc = np.asarray(cv2.cvtColor(np.ascontiguousarray(detail), cv2.COLOR_RGB2YCrCb), np.uint8)
    luma, chroma = np.ascontiguousarray(ycc[..., 0]), np.ascontiguousarray(ycc[..., 1])
    return noise.noise_of(noise.noise_figures(luma, chroma))


def measure(pixels: NDArray[np.uint8], proof: Proof) -> Measures:
    """Measure a picture whose black bars were removed.

    Args:
        pixels: height x width x 3, uint8, sRGB, at the size that it is treated at.
        proof: of the same picture.
    """
    light = proof.light
    detail = np.ascontiguousarray(_middle(pixels))
    luma = np.asarray(cv2.extractChannel(cv2.cvtColor(detail, cv2.COLOR_RGB2YCrCb), 0), np.uint8)
    small = small_copy(pixels)
    # a gamma multiplies casts, too, so colour is measured as it will be
    is_darkened = light.dark_sureness > max(0.0, light.under_sureness)
    cast_sureness, cast = colour.colour_cast(exposure.brightened(small, light.gamma) if is_darkened else small)
    return Measures(
        light=light,
        cast_sureness=cast_sureness - _small_doubt(small),
        cast=cast,
        noisy_sureness=proof.noisy_sureness,
        noise_sigma=proof.noise_sigma,
        edge_width_px=sharpness.edge_width(luma),
        long_side_px=max(pixels.shape[:2]),
        mean_luma=float(small.mean()) / 255,
        is_grey=colour.is_grey(small),
        is_toned=is_toned(small),
        is_drawn=is_drawn(detail),
    )


def _small_doubt(small: NDArray[np.uint8]) -> float:
    return SMALL_DOUBT * max(0.0, math.log2(SIDE_PX / max(small.shape[:2])))


def _darkening(counts: NDArray[np.float64], figures: NDArray[np.float64], *, has_colours: bool) -> tuple[float, float]:
    """Return how sure it is that a gamma darkened a picture, and the gamma, which a clear comb gives exactly."""
    sureness, gamma = exposure.darkening_gamma(figures)
    comb = comb_of(counts, Curve.GAMMA, are_alike=not has_colours)
    if comb.is_clear:
        return sureness + COMB_SURENESS, comb.amount
    is_seen = comb.height >= FAINT_COMB and comb.prominence >= FAINT_PROMINENCE
    if is_seen and abs(math.log(comb.amount / gamma)) < SAME_GAMMA:
        return _likeness(sureness, 0.0, has_colours=has_colours), comb.amount
    return _likeness(sureness, GAMMA_DOUBT, has_colours=has_colours), gamma


def _underexposure(
    counts: NDArray[np.float64], figures: NDArray[np.float64], white: int, *, is_witnessed: bool
) -> tuple[float, float]:
    """Return how sure it is that light lacked, and how much: as a clear comb says if it confirms what white says."""
    sureness, gain = exposure.underexposure(figures, white)
    if gain < LEAST_GAIN:
        return sureness, gain
    comb = comb_of(counts, Curve.LACK, near=gain, are_alike=not is_witnessed)
    if comb.is_clear:
        return sureness + COMB_SURENESS, comb.amount
    return _likeness(sureness, LACK_DOUBT, has_colours=is_witnessed), gain


def _overexposure(
    counts: NDArray[np.float64], sureness: float, white: int, *, has_colours: bool
) -> tuple[float, float]:
    """Return how sure it is that a picture got too much light, and the factor: a clear comb's, else the usual one."""
    if white < CLIPPED_WHITE:
        return min(sureness, UNPROVED), exposure.OVER_GAIN
    light, gain = (comb_of(counts, curve, are_alike=not has_colours) for curve in (Curve.LIGHT, Curve.GAIN))
    if light.is_clear and light.height >= gain.height:
        return sureness + COMB_SURENESS, light.amount
    if gain.is_clear:
        return sureness + COMB_SURENESS, min(gain.amount**SRGB_POWER, exposure.MAX_GAIN)
    return _likeness(sureness, SURPLUS_DOUBT, has_colours=has_colours), exposure.OVER_GAIN


def _likeness(sureness: float, doubt: float, *, has_colours: bool) -> float:
    """Return the score of a defect without the evidence of a comb in the histogram."""
    return sureness - doubt if has_colours else min(sureness - doubt, UNPROVED)


def _averaged_middle(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    step = max(1, round(max(pixels.shape[:2]) / DETAIL_PX))
    middle = _middle(pixels, step * DETAIL_PX)
    height, width = (max(1, side // step) for side in middle.shape[:2])
    whole = middle[: height * step, : width * step]
    return np.asarray(cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _middle(pixels: NDArray[np.uint8], side_px: int = DETAIL_PX) -> NDArray[np.uint8]:
    """Return the part in which noise and edges are measured, which is large enough and fits into a child's memory."""
    height, width = pixels.shape[:2]
    top, left = max(0, (height - side_px) // 2), max(0, (width - side_px) // 2)
    return pixels[top : top + side_px, left : left + side_px]
