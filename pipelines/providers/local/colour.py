"""Colour casts: what light estimators agree on, and the way back to neutral."""

import colorsys

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.providers.local.exposure import small_copy
from pipelines.providers.local.scores import Score, fitted

_HUES = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "magenta")
_HUE_DEGREES = (0, 30, 60, 120, 180, 230, 275, 310)


def cast_figures(small: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Ask every classical estimator for the light's colour, each as log(R/G) and log(B/G).

    Grey world and shades of grey (Finlayson and Trezzi 2004), white patch
    (Land 1977), grey edge (van de Weijer, Gevers, Gijsenij 2007), the
    brightest pixels, the darkest, and those next to neutral; beside them, how
    each channel clips and how colourful the picture is. Alone each is fooled
    by its own kind of picture.

    Args:
        small: height x width x 3, uint8, sRGB.
    """
    values = small_copy(small).astype(np.float32) + 1
    highest, lowest = values.max(2), values.min(2)
    usable = (highest < 250) & (highest > 16)  # noqa: PLR2004 - clipped and black pixels have lost their colour
    if usable.sum() < 200:  # noqa: PLR2004 - too few to say anything
        usable = np.ones_like(usable)
    inside, flat = values[usable], values.reshape(-1, 3)
    soft = cv2.GaussianBlur(values, (0, 0), 1)
    edges = np.hypot(cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1))[usable]
    logs = np.log(values)
    red, blue = logs[..., 0] - logs[..., 1], logs[..., 2] - logs[..., 1]
    luma = values @ np.array([0.3, 0.59, 0.11], np.float32)
    from_neutral = np.where(usable, np.abs(red) + np.abs(blue) + np.abs(red - blue), 9)
    neutral = from_neutral <= np.percentile(from_neutral[usable], 10)
    colourful = (highest - lowest)[usable] / highest[usable]
    return np.array(
        [
            *_ratios(inside.mean(0)),
            *_ratios((inside**6).mean(0) ** (1 / 6)),
            *_ratios(np.percentile(flat, 99.5, axis=0)),
            *_ratios(np.percentile(flat, 90, axis=0)),
            *_ratios(np.percentile(flat, 10, axis=0) + 4),
            *_ratios(edges.mean(0) + 0.3),
            *_ratios((edges**5).mean(0) ** (1 / 5) + 0.3),
            np.median(red[usable]),
            np.median(blue[usable]),
            *_ratios(np.median(values[luma >= np.percentile(luma, 98)], axis=0)),
            np.median(red[neutral]),
            np.median(blue[neutral]),
            *((values > 252).mean((0, 1)) ** 0.5),  # noqa: PLR2004 - JPEG rings around 255
            *np.percentile(colourful, [10, 50]),
            np.std(red[usable]),
            np.std(blue[usable]),
            *np.log(np.percentile(flat, 99.9, axis=0) / 256),
        ],
        np.float64,
    )


def colour_cast(figures: NDArray[np.float64]) -> tuple[float, tuple[float, float]]:
    """Estimate a cast from `cast_figures`.

    Returns:
        How sure it is (a score; above 0 is treated), and the gains of red and
        blue over green that the cast has.
    """
    sureness = fitted(Score.CAST).sureness_of(figures)
    red, blue = (float(np.exp(fitted(score).of(figures))) for score in (Score.CAST_RED, Score.CAST_BLUE))
    return sureness, (min(max(red, 0.6), 1.6), min(max(blue, 0.6), 1.6))


def is_grey(small: NDArray[np.uint8]) -> bool:
    """Say whether a picture has no colour at all: then it has no cast either."""
    return float((small.max(2).astype(np.int16) - small.min(2)).mean()) < 1.5  # noqa: PLR2004 - JPEG's rounding


def balanced(pixels: NDArray[np.uint8], gains: tuple[float, float]) -> NDArray[np.uint8]:
    """Take a cast's gains of red and blue away, green stays (height x width x 3, uint8, sRGB)."""
    levels = np.arange(256, dtype=np.float64)
    tables = np.stack([levels / gains[0], levels, levels / gains[1]], axis=-1)
    table = np.clip(np.round(tables), 0, 255).astype(np.uint8).reshape(1, 256, 3)
    return np.asarray(cv2.LUT(pixels, table), np.uint8)


def hue_name(gains: tuple[float, float]) -> str:
    """Name a cast's hue."""
    highest = max(gains[0], 1.0, gains[1])
    hue, _, _ = colorsys.rgb_to_hsv(gains[0] / highest, 1.0 / highest, gains[1] / highest)
    distances = [min(abs(hue * 360 - degrees), 360 - abs(hue * 360 - degrees)) for degrees in _HUE_DEGREES]
    return _HUES[int(np.argmin(distances))]


def _ratios(rgb: NDArray[np.float32]) -> tuple[float, float]:
    red, green, blue = np.log(np.maximum(rgb, 1e-3))
    return float(red - green), float(blue - green)
