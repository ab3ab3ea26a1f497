"""How light a picture is: figures that tell a damaged exposure from a dark or bright subject, and the way back."""

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.providers.local.scores import Score, fitted

SIDE_PX = 384
"""Light is measured on a small copy: faster, and noise has averaged out."""

LIGHT_FIGURES = 17
"""So many of the figures describe light and colour without clipping."""

_BANDS = ((8, 30), (30, 80), (80, 160), (160, 236))
_MIDDLE_BAND = 2

BLOWN_GAIN = 1.5
"""Overexposure can't be measured exactly, since what was clipped is lost: this undoes less than most of it."""

_SHOULDER = 0.86
"""Part of the range above which a blown picture's highlights are spread out again."""

_SHADOW_LEVELS = 10.0
"""Under so many levels a shadow is coarse."""

_SHADOW_COLOUR = 0.7
"""Of a coarse shadow's colour, how much is kept: at two levels of 255 most of it is rounding."""

_SHADOW_BLUR_PX = 1.0
_STRIP_ROWS = 256
_REACH_ROWS = 8
"""Rows beyond a strip that its blur sees: four sigmas."""

_CLIPPED_TO = 0.80
"""Where white goes in a blown picture: the mean of what a gain of 1.6 clips, over photographs, is 0.76."""


def small_copy(pixels: NDArray[np.uint8], side_px: int = SIDE_PX) -> NDArray[np.uint8]:
    """Return a copy with a long side of at most `side_px`, averaged by area (height x width x 3, uint8, sRGB)."""
    factor = side_px / max(pixels.shape[:2])
    if factor >= 1:
        return pixels
    size = (max(1, round(pixels.shape[1] * factor)), max(1, round(pixels.shape[0] * factor)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def exposure_figures(small: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Describe how light is spread in a small copy.

    A gamma leaves black and white and pulls the middle down, so it shows in
    the darkest and the middle percentiles together; it raises local contrast
    relative to brightness (Weber) and saturation by its own factor, which a
    dark subject doesn't. A gain clips channels one by one, which a bright
    subject rarely does. And each changes how contrast goes with brightness: a
    gamma takes it from shadows, a gain brings it to highlights, where cameras
    have little.

    Returns:
        21 figures; the first LIGHT_FIGURES know nothing of clipping.
    """
    luma = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
    p1, p5, p50, p75, p95, p99 = np.percentile(luma, [1, 5, 50, 75, 95, 99]) / 255
    mean = float(luma.mean()) / 255
    local = np.asarray(cv2.blur(luma, (7, 7)), np.float32)
    spread = np.sqrt(np.maximum(cv2.blur(luma * luma, (7, 7)) - local * local, 0))
    weber = (spread / np.maximum(local, 2))[(local > 8) & (local < 220)]  # noqa: PLR2004 - clipped ends say nothing
    weber50, weber90 = np.percentile(weber, [50, 90]) if weber.size else (0.0, 0.0)
    highest = small.max(2).astype(np.float32)
    saturation = ((highest - small.min(2)) / np.maximum(highest, 1))[highest > 20]  # noqa: PLR2004 - black has no hue
    saturation50, saturation90 = np.percentile(saturation, [50, 90]) if saturation.size else (0.0, 0.0)
    clipped = (small >= 250).sum(2)  # noqa: PLR2004 - JPEG rings around 255
    return np.array(
        [
            *np.log(np.array([mean, p50, p75, p95, p5, p1]) + 0.01),
            p99,
            np.log(weber50 + 0.02),
            np.log(weber90 + 0.05),
            saturation50,
            saturation90,
            float(saturation90 < 0.03),  # noqa: PLR2004 - grey pictures say nothing by saturation
            float((luma < 26).mean()),  # noqa: PLR2004 - a tenth of the range
            float(np.log(np.maximum(luma, 1) / 255).mean()),
            *_band_contrasts(local, spread),
            float((clipped == 3).mean()) ** 0.5,  # noqa: PLR2004 - all three channels
            float(((clipped > 0) & (clipped < 3)).mean()) ** 0.5,  # noqa: PLR2004 - some of the three
            float((clipped > 0).mean()) ** 0.5,
            float(((luma > 200) & (luma < 245)).mean()),  # noqa: PLR2004 - bright and not clipped
        ]
    )


def _band_contrasts(local: NDArray[np.float32], spread: NDArray[np.float32]) -> list[float]:
    """Return the typical contrast of shadows, low tones and highlights over that of the middle, as logarithms."""
    typical = [
        float(np.median(band)) if (band := spread[(local >= low) & (local < high)]).size > 100 else None  # noqa: PLR2004
        for low, high in _BANDS
    ]
    middle = typical[_MIDDLE_BAND]
    if middle is None:
        return [0.0] * (len(_BANDS) - 1)
    others = [band for place, band in enumerate(typical) if place != _MIDDLE_BAND]
    return [0.0 if band is None else float(np.log((band + 0.5) / (middle + 0.5))) for band in others]


def darkening_gamma(figures: NDArray[np.float64]) -> tuple[float, float]:
    """Estimate a gamma that darkened a picture.

    Returns:
        How sure it is (a score; above 0 is treated) and the gamma, 1 to 3.5.
    """
    sureness = fitted(Score.DARK).sureness_of(figures[:LIGHT_FIGURES])
    gamma = float(np.exp(fitted(Score.GAMMA).of(figures[:LIGHT_FIGURES])))
    return sureness, min(max(gamma, 1.0), 3.5)


def overexposure(figures: NDArray[np.float64]) -> float:
    """Return how sure it is that a picture was overexposed; above 0 is treated."""
    return fitted(Score.OVEREXPOSED).sureness_of(figures)


def brightened(pixels: NDArray[np.uint8], gamma: float) -> NDArray[np.uint8]:
    """Undo a gamma on all channels (height x width x 3, uint8, sRGB).

    The deepest shadows hold a few levels only, which brightening would tear
    into coloured steps: there the neighbourhood's mean is brightened, which
    has levels in between.
    """
    levels = np.arange(256) / 255
    result = _mapped(pixels, levels ** (1 / gamma))
    for top in range(0, pixels.shape[0], _STRIP_ROWS):
        low, high = max(0, top - _REACH_ROWS), top + _STRIP_ROWS + _REACH_ROWS
        strip = pixels[low:high].astype(np.float32)
        inside = slice(top - low, top - low + min(_STRIP_ROWS, pixels.shape[0] - top))
        # what is brighter than a shadow counts as its brightest level, or it would shine into it
        soft = np.asarray(cv2.GaussianBlur(np.minimum(strip, _SHADOW_LEVELS), (0, 0), _SHADOW_BLUR_PX))
        grey = soft @ np.array([0.299, 0.587, 0.114], np.float32)
        soft = grey[..., None] + _SHADOW_COLOUR * (soft - grey[..., None])
        depth = np.clip(1.4 - strip.max(2) / (0.7 * _SHADOW_LEVELS), 0, 1)[inside]
        shadows = depth > 0
        if not shadows.any():
            continue
        share = depth[shadows][:, None]
        mixed = soft[inside][shadows] * share + strip[inside][shadows] * (1 - share)
        lit = 255 * (mixed / 255) ** (1 / gamma)
        result[top : top + _STRIP_ROWS][shadows] = np.clip(np.round(lit), 0, 255).astype(np.uint8)
    return result


def calmed(pixels: NDArray[np.uint8], gain: float = BLOWN_GAIN) -> NDArray[np.uint8]:
    """Undo a gain; highlights are spread along a smooth shoulder, for a flat grey would show its edge."""
    levels = np.arange(256) / 255
    linear = levels / gain
    t = np.clip((levels - _SHOULDER) / (1 - _SHOULDER), 0, 1)
    return _mapped(pixels, linear + (_CLIPPED_TO - 1 / gain) * t * t * (3 - 2 * t))


def _mapped(pixels: NDArray[np.uint8], table: NDArray[np.float64]) -> NDArray[np.uint8]:
    rounded = np.clip(np.round(table * 255), 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(pixels, rounded), np.uint8)
