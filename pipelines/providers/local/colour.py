"""Colour casts: evidence that the light's colour was recorded wrongly, and the way back to neutral."""

import colorsys

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.imaging.geometry import STRIP_ROWS
from pipelines.providers.local.light import (
    LIGHT,
    channel_counts,
    counted_percentile,
    highest_of,
    level_counts,
    levels_of,
    lowest_of,
    small_copy,
)
from pipelines.providers.local.scores import Score, fitted, verdict

SIDE_PX = 256
"""Casts are measured on a copy with this long side, since colour needs no detail."""

ANSWERS = 11
"""So many estimators tell the colour of the light."""

MAX_CAST = 1.3
"""Natural logarithm of the strongest gain over green that is undone; that of a lamp's light is about 0.9."""

_CLIPPING_FROM, _CLIPPED_FROM = 240, 252
"""Between these levels a channel counts more and more as clipped, since JPEG changes 255 by a few levels."""

_WEIGHTS = np.array([0.2126, 0.7152, 0.0722])
"""Weights of linear red, green and blue in luminance (ITU-R BT.709)."""

_NEUTRAL = 0.12
"""Distance from grey, in natural logarithms of linear light, up to which no colour is visible."""

_WHITE_APART = 0.4
"""The colour of white may differ from the cast's by this natural logarithm. White does so in 88 % of the strong casts
that are found, and in half of the sound pictures with one main colour, in which channels end independently."""

_HUES = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "magenta")
_HUE_DEGREES = (0, 30, 60, 120, 180, 230, 275, 310)

Pair = NDArray[np.float64]
"""Red over green and blue over green, as natural logarithms of linear light."""


def cast_answers(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Compute the colour of the light by every classical estimator.

    Grey world and shades of grey (Finlayson and Trezzi 2004), white patch
    (Land 1977), grey edge (van de Weijer, Gevers, Gijsenij 2007), the
    brightest pixels, the darkest, and those next to neutral are used. Each
    estimator alone errs on some kind of picture.

    Args:
        pixels: height x width x 3, uint8, sRGB.

    Returns:
        Red and blue over green by each of the ANSWERS estimators, as natural
        logarithms of linear light, and then where each channel ends.
    """
    small = small_copy(pixels, SIDE_PX)
    usable, ratios = _usable(small), _ratios(small)
    levels = small.astype(np.float32) + 1
    inside, counts = levels[usable], level_counts(small)
    soft = cv2.GaussianBlur(levels, (0, 0), 1)
    edges = np.hypot(cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1))[usable]
    red_blue = ratios[usable]
    highest = highest_of(small)
    bright = usable & (highest >= np.percentile(highest[usable], 96))
    distance = _from_grey(red_blue)
    neutral = red_blue[distance <= np.percentile(distance, 8)]
    answers = np.array(
        [
            _of_light(LIGHT[small[usable]].mean(0)),
            _of_levels(inside.mean(0)),
            _of_levels((inside**6).mean(0) ** (1 / 6)),
            _of_levels(_percentile(counts, 99.5).astype(np.float32) + 1),
            _of_levels(_percentile(counts, 90).astype(np.float32) + 1),
            _of_levels(_percentile(counts, 10).astype(np.float32) + 7),
            _of_levels(edges.mean(0) + 1),
            _of_levels((edges**5).mean(0) ** (1 / 5) + 1),
            np.median(red_blue, axis=0),
            np.median(ratios[bright], axis=0),
            np.median(neutral, axis=0),
        ],
        np.float64,
    )
    return np.concatenate([answers.ravel(), _channel_ends(small)])


def evidence_of(pixels: NDArray[np.uint8], answers: NDArray[np.float64], estimate: Pair) -> NDArray[np.float64]:
    """Measure how much speaks for one cast over the whole picture, whichever hue the cast has.

    Under a cast nothing bright is neutral, and few colours lie on the side of
    grey that is opposite to the cast. A cast is the same in each part of a picture and at each
    brightness, and leaves black black. Once it is removed there are hues on
    all sides. Light that belongs to a scene fails at least one of these
    tests, and a toned picture fails the last.
    """
    small = small_copy(pixels, SIDE_PX)
    usable, ratios = _usable(small), _ratios(small)
    strength = max(float(np.hypot(*estimate)), 1e-3)
    unit = max(strength, 0.25)
    along = ratios @ (estimate / strength).astype(np.float32)
    across = ratios @ (np.array([-estimate[1], estimate[0]]) / strength).astype(np.float32)
    highest = highest_of(small)
    counts = channel_counts(highest)
    white = max(counted_percentile(counts, 99.5), 8.0)
    bright = highest > 0.55 * white
    whites = bright & (_from_grey(ratios) < _NEUTRAL)
    seen, seen_across = along[usable], across[usable]
    parts = _medians_by_part(along, usable)
    levels = [along[usable & (highest >= low * white) & (highest < high * white)] for low, high in _THIRDS]
    by_level = [float(np.median(level)) if level.size > 50 else strength for level in levels]  # noqa: PLR2004 - pixels
    pairs, ends = answers[: 2 * ANSWERS].reshape(-1, 2), answers[2 * ANSWERS :]
    opinions = pairs @ (estimate / strength)
    dark = small.reshape(-1, 3)[highest.ravel() <= counted_percentile(counts, 3)]
    clipped = (small >= _CLIPPED_FROM).sum(2)
    return np.array(
        [
            strength,
            float(whites.mean()) ** 0.5,
            float((seen < -_NEUTRAL).mean()) ** 0.5,
            float((seen < strength / 3).mean()) ** 0.5,
            float(parts.std()) / unit,
            float(parts.min()) / unit,
            by_level[0] / unit,
            by_level[2] / unit,
            float(opinions.std()) / unit,
            float(opinions.min()) / unit,
            float(_of_levels(dark.mean(0) + 6.0) @ (estimate / strength)),
            float(np.log(seen.std() + 0.03)),
            float(np.log(seen_across.std() + 0.03)),
            float((np.abs(seen - np.median(seen)) < 0.1).mean()),  # noqa: PLR2004 - one hue
            float((clipped == 3).mean()) ** 0.5,  # noqa: PLR2004 - channels
            float(((clipped > 0) & (clipped < 3)).mean()) ** 0.5,  # noqa: PLR2004 - channels
            estimate[0] / strength,
            estimate[1] / strength,
            *opinions,
            *(pairs @ np.array([-estimate[1], estimate[0]]) / strength),
            *ends,
        ]
    )


_THIRDS = ((0.1, 0.35), (0.35, 0.65), (0.65, 1.1))
"""Parts of the range up to white: shadows, middle and highlights."""


def _channel_ends(small: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return where each channel ends compared with green, and how abruptly.

    If white has clipped, all three end with it.
    """
    levels = small.reshape(-1, 3)
    counts = level_counts(small)
    quantiles = np.array([_percentile(counts, percent) for percent in (50, 95, 99, 99.9)])
    light = np.log(LIGHT[quantiles.astype(np.int32)] + 0.001)
    ratios = np.stack([light[:, 0] - light[:, 1], light[:, 2] - light[:, 1]], -1)[::-1]
    end = quantiles[3]
    abrupt = np.log((quantiles[[2, 1]] + 8) / (end + 8))
    heaped = (levels >= np.maximum(end * 0.96, 1)).mean(0) ** 0.5
    return np.concatenate([ratios.ravel(), abrupt.ravel(), heaped, end / 255])


def _percentile(counts: NDArray[np.float64], percent: float) -> NDArray[np.float64]:
    """Return a percentile of each channel, from how often each of its levels occurs."""
    return np.array([counted_percentile(channel, percent) for channel in counts])


def _medians_by_part(along: NDArray[np.float32], usable: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the median of each of sixteen parts of a picture that has enough usable pixels."""
    height, width = along.shape
    medians = []
    for row in range(4):
        for column in range(4):
            part = np.s_[row * height // 4 : (row + 1) * height // 4, column * width // 4 : (column + 1) * width // 4]
            seen = along[part][usable[part]]
            if seen.size > 40:  # noqa: PLR2004 - pixels
                medians.append(float(np.median(seen)))
    return np.array(medians or [0.0])


def estimated_cast(answers: NDArray[np.float64]) -> Pair:
    """Return the cast that the estimators' answers make likely, weighed by the fitted scores."""
    return np.array([fitted(Score.CAST_RED).of(answers), fitted(Score.CAST_BLUE).of(answers)])


def colour_cast(pixels: NDArray[np.uint8]) -> tuple[float, tuple[float, float]]:
    """Estimate a picture's cast.

    Returns:
        How sure it is (a score; a cast above 0 is treated), and red and blue
        over green, as natural logarithms of linear light.
    """
    answers = cast_answers(pixels)
    cast = estimated_cast(answers)
    sureness = verdict(Score.CAST).of(evidence_of(pixels, answers, cast))
    if not is_confirmed(answers, cast):
        sureness = min(sureness, -1.0)
    red, blue = (float(gain) for gain in np.clip(cast, -MAX_CAST, MAX_CAST))
    return sureness, (red, blue)


def is_confirmed(answers: NDArray[np.float64], cast: Pair) -> bool:
    """Return whether the ends of the channels confirm a cast: under a cast, white ends each channel at another level.

    A channel that clipped would end higher if it hadn't, so a difference that
    this explains doesn't count against the cast.
    """
    red, blue = answers[2 * ANSWERS : 2 * ANSWERS + 2] - cast
    red_clipped, green_clipped, blue_clipped = answers[-3:] >= _CLIPPED_FROM / 255
    for apart, is_clipped in ((red, red_clipped), (blue, blue_clipped)):
        is_excused = (apart < 0 and is_clipped) or (apart > 0 and green_clipped)
        if abs(apart) > _WHITE_APART and not is_excused:
            return False
    return True


def balanced(pixels: NDArray[np.uint8], cast: tuple[float, float]) -> NDArray[np.uint8]:
    """Undo a cast's gains in linear light, and keep the luminance (height x width x 3, uint8, sRGB).

    A channel that clipped was brighter than its level shows, so it is raised
    to the brightest other one, and a clipped pixel that comes out almost
    neutral is made neutral. Otherwise a white wall by lamp light would turn
    turquoise.
    """
    gains = np.array([np.exp(cast[0]), 1.0, np.exp(cast[1])])
    scale = (float(gains @ _WEIGHTS) / gains).astype(np.float32)
    result = np.empty_like(pixels)
    for top in range(0, pixels.shape[0], STRIP_ROWS):
        strip = pixels[top : top + STRIP_ROWS]
        light = LIGHT[strip] * scale
        clipped = np.clip((strip.astype(np.float32) - _CLIPPING_FROM) / (_CLIPPED_FROM - _CLIPPING_FROM), 0, 1)
        highest = light.max(2, keepdims=True)
        light += clipped * (highest - light)
        nearness = np.clip(2 - 8 * (1 - light.min(2, keepdims=True) / np.maximum(highest, 1e-4)), 0, 1)
        light += clipped.max(2, keepdims=True) * nearness * (highest - light)
        result[top : top + STRIP_ROWS] = levels_of(light)
    return result


def is_grey(small: NDArray[np.uint8]) -> bool:
    """Return whether a picture has no colour at all, and therefore no cast."""
    return float((highest_of(small) - lowest_of(small)).mean()) < 1.5  # noqa: PLR2004 - JPEG's rounding


def hue_name(cast: tuple[float, float]) -> str:
    """Return the name of a cast's hue."""
    gains = np.array([np.exp(cast[0]), 1.0, np.exp(cast[1])]) ** (1 / 2.2)
    hue, _, _ = colorsys.rgb_to_hsv(*(float(gain) for gain in gains / gains.max()))
    distances = [min(abs(hue * 360 - degrees), 360 - abs(hue * 360 - degrees)) for degrees in _HUE_DEGREES]
    return _HUES[int(np.argmin(distances))]


def _usable(small: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return which pixels show their colour, being neither clipped nor black."""
    usable = (highest_of(small) < 250) & (highest_of(small) > 24)  # noqa: PLR2004 - JPEG changes 255 by a few levels
    return usable if usable.sum() >= 200 else np.ones_like(usable)  # noqa: PLR2004 - fewer prove nothing


def _ratios(small: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return each pixel's red over green and blue over green, as logarithms of linear light."""
    logs = np.log(LIGHT[small] + 0.0015)
    return np.asarray(np.stack([logs[..., 0] - logs[..., 1], logs[..., 2] - logs[..., 1]], -1), np.float32)


def _from_grey(ratios: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how far colours are from grey, by a measure that is the same for every hue."""
    red, blue = ratios[..., 0], ratios[..., 1]
    return np.sqrt((red**2 + blue**2 + (red - blue) ** 2) / 2)


def _of_light(rgb: NDArray[np.float32]) -> Pair:
    red, green, blue = np.log(np.maximum(rgb, 1e-5))
    return np.array([red - green, blue - green])


def _of_levels(rgb: NDArray[np.float32]) -> Pair:
    """Convert ratios of levels to those of light, for which sRGB's curve is about a power of 2.3."""
    return 2.3 * _of_light(np.asarray(rgb))
