"""Evidence of a damaged exposure, which pictures of dark or bright subjects don't show, and the correction of it."""

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.imaging.geometry import STRIP_ROWS
from pipelines.imaging.profiles import linear_to_srgb, srgb_to_linear
from pipelines.providers.local.light import (
    LIGHT,
    channel_counts,
    counted_percentile,
    every,
    highest_of,
    level_counts,
    lowest_of,
    mapped,
)
from pipelines.providers.local.scores import Score, fitted, verdict

_BANDS = ((8, 30), (30, 70), (70, 130), (130, 190), (190, 240))
_MIDDLE_BAND = 2

WHITE_LEVEL = 245
"""An underexposed picture's white is raised to this level, which leaves room for what is whiter."""

MAX_GAIN = 8.0
"""Light is raised by at most this gain, three stops: a picture that lacks more has too few levels left."""

OVER_GAIN = 2.2
"""Overexposure without a comb is taken for this gain of linear light, a little over a stop: what clipped is lost, so
that it can't be measured."""

_SHOULDER, _OWN_SHOULDER = 0.80, 0.94
"""Levels, 0 to 1, from which an overexposed picture's highlights rise again to white, and single channels a little."""

_HIGHEST_SHARE = 0.15
"""How white a highlight is, is decided by its lowest channel, and by its highest one to this fraction."""

_OWN_SHARE = 0.15
"""A channel that clipped alone rises by this fraction of what white rises: it was brighter than its level shows."""

_CLIPS_FROM = 253
"""From this level on a channel of a single pixel counts as clipped."""

_SHADOW_LEVELS = 10.0
"""Shadows under this level are coarse."""

_SHADOW_COLOUR = 0.7
"""This fraction of a coarse shadow's colour is kept: at two levels of 255 most of it is rounding."""

_SHADOW_BLUR_PX = 1.0
_REACH_ROWS = 8
"""So many rows beyond a strip affect its blur: eight sigmas."""


def every_second(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return every second pixel of every second row, which are enough for the figures of a histogram."""
    return every(2, pixels)


def white_level(seconds: NDArray[np.uint8]) -> int:
    """Return the level that all but a thousandth of these pixels (`every_second`) don't exceed in any channel."""
    highest = highest_of(seconds)
    below = np.cumsum(channel_counts(highest))
    return int(np.searchsorted(below, 0.999 * below[-1]))


def ends_apart(seconds: NDArray[np.uint8]) -> float:
    """Return how far the ends of the channels lie apart, as a natural logarithm of linear light.

    A channel ends at the level that all but a thousandth of these pixels (`every_second`) don't exceed.
    """
    counts = level_counts(seconds)
    ends = np.array([counted_percentile(channel, 99.9) for channel in counts])
    return float(np.ptp(np.log(LIGHT[ends.astype(np.int32)] + 0.001)))


def exposure_figures(
    seconds: NDArray[np.uint8], small: NDArray[np.uint8], white_at_full_size: int
) -> NDArray[np.float64]:
    """Compute the figures that describe how light is spread.

    They are: where black and white lie and how abruptly light ends there; how
    bright the middle is compared with white, which a smaller exposure doesn't
    change and a dark scene does; local contrast compared with brightness, and
    saturation, both of which a gamma multiplies; channels that clip alone; and
    the comb that a stretched range leaves in the histogram.

    Args:
        seconds: every second pixel of the picture, height x width x 3, uint8, sRGB.
        small: its small copy.
        white_at_full_size: its `white_level`.
    """
    luma = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.float32)
    highest = highest_of(small)
    white = max(counted_percentile(channel_counts(highest), 99.9), 8.0)
    return np.array(
        [
            *np.log(np.percentile(luma, [1, 5, 25, 50, 75, 95, 99]) + 2),
            *_ends(small, white, white_at_full_size),
            *_middle(luma, white),
            *_contrasts(luma),
            *_saturations(small, white),
            *_clippings(small),
            *_combs(seconds),
        ],
        np.float64,
    )


def highlight_figures(pixels: NDArray[np.uint8], counts: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Compute how a picture ends at white, which distinguishes a surplus of light from what is bright on purpose.

    The figures are: how much clips in one, two and three channels; the pixels
    beside it, since a surplus leaves coloured rims, whose channels clip one
    after the other; how low the channels are that didn't clip; and how steeply
    levels accumulate towards the end of the range.

    Args:
        pixels: the picture, height x width x 3, uint8, sRGB, not resampled, since averages don't clip.
        counts: the picture's `level_counts`, if they are known already.
    """
    counts = (level_counts(pixels) if counts is None else counts).sum(0) + 1
    clipping = pixels[_places(~np.asarray(cv2.inRange(pixels, (0, 0, 0), (_CLIPS_FROM - 1,) * 3), np.uint8))]
    channels = (clipping >= _CLIPS_FROM).sum(1)
    parts = np.bincount(channels, minlength=4)
    rims = [-1.0] * 3
    rim = _rim(pixels) if parts[3] else pixels[:0, 0]
    if rim.size:
        low, high = rim.min(1).astype(np.float32), rim.max(1).astype(np.float32)
        rims = [float(low.mean()) / 255, float((high - low).mean()), float((high >= _CLIPS_FROM).mean())]
    lowest = [lowest_of(clipping[channels == count]) for count in (1, 2)]
    others = [np.bincount(levels, minlength=256).astype(np.float64) for levels in lowest]
    last, next_to_last = counts[250:].sum(), counts[240:250].sum()
    return np.array(
        [
            *(float(parts[count] / (pixels.size // 3)) ** 0.5 for count in (1, 2, 3)),
            *rims,
            *(counted_percentile(other, 50) / 255 if other.sum() > 50 else -1.0 for other in others),  # noqa: PLR2004 - too few
            np.log(last / next_to_last),
            np.log(next_to_last / (counts[200:240].sum() / 4)),
            np.log(counts[254:].sum() / counts[250:254].sum()),
        ],
        np.float64,
    )


def _rim(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the pixels beside those that clip in all three channels, n x 3."""
    white = np.asarray(cv2.inRange(pixels, (_CLIPS_FROM,) * 3, (255, 255, 255)), np.uint8)
    around = np.asarray(cv2.dilate(white, np.ones((5, 5), np.uint8)), np.uint8)
    rim: NDArray[np.uint8] = pixels[_places(around - white)]
    return rim


def _places(mask: NDArray[np.uint8]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the rows and columns where a mask isn't 0. Indexing by them is faster than by the mask if they are few."""
    found = cv2.findNonZero(mask)
    columns, rows = np.empty((2, 0), np.int32) if found is None else np.asarray(found, np.int32).reshape(-1, 2).T
    return rows, columns


def _ends(small: NDArray[np.uint8], white: float, white_at_full_size: int) -> list[float]:
    """Return how bright the brightest pixels are, how abruptly light ends there, and how much is black."""
    highest = highest_of(small)
    counts = channel_counts(highest)
    return [
        white / 255,
        white_at_full_size / 255,
        counted_percentile(counts, 99) / white,
        counted_percentile(counts, 95) / white,
        float((highest >= 0.96 * white).mean()) ** 0.5,
        float((highest <= 4).mean()) ** 0.5,  # noqa: PLR2004 - JPEG changes 0 by a few levels
        float(np.log(counted_percentile(channel_counts(lowest_of(small)), 1) + 2)),
    ]


def _middle(luma: NDArray[np.float32], white: float) -> list[float]:
    """Return the median light relative to white, and the dark area relative to it, in total and in one piece."""
    dark = (luma < 0.1 * white).astype(np.uint8)
    count, _, parts, _ = cv2.connectedComponentsWithStats(dark)
    largest = float(parts[1:, cv2.CC_STAT_AREA].max()) / luma.size if count > 1 else 0.0
    return [
        float(np.log(np.median(luma) / white + 0.01)),
        float(np.log(luma.mean() / white + 0.01)),
        float(np.log(luma / white + 0.02).mean()),
        float((luma < 0.05 * white).mean()),
        float(dark.mean()),
        float((luma < 0.2 * white).mean()),
        largest,
    ]


def _contrasts(luma: NDArray[np.float32]) -> list[float]:
    """Return local contrast relative to brightness (Weber), contrast at each brightness, and how much is flat."""
    local = np.asarray(cv2.blur(luma, (7, 7)), np.float32)
    spread = np.sqrt(np.maximum(cv2.blur(luma * luma, (7, 7)) - local * local, 0))
    inside = (local > 8) & (local < 225)  # noqa: PLR2004 - clipped ends have no contrast of their own
    weber = np.percentile((spread / np.maximum(local, 2))[inside], [25, 50, 90]) if inside.any() else np.full(3, 0.1)
    bands = [spread[(local >= low) & (local < high)] for low, high in _BANDS]
    typical = [float(np.log(np.median(band) + 0.5)) if band.size > 100 else None for band in bands]  # noqa: PLR2004
    middle = typical[_MIDDLE_BAND]
    others = [band for place, band in enumerate(typical) if place != _MIDDLE_BAND]
    relative = [0.0 if band is None or middle is None else band - middle for band in others]
    return [*np.log(weber + 0.01), *relative, float((spread < 0.5).mean())]  # noqa: PLR2004 - levels


def _saturations(small: NDArray[np.uint8], white: float) -> list[float]:
    """Return how saturated all pixels but black ones are, how saturated bright ones are, and whether all is grey."""
    highest = highest_of(small).astype(np.float32)
    saturation = (highest - lowest_of(small)) / np.maximum(highest, 1)
    seen, bright = saturation[highest > 24], saturation[highest > 0.5 * white]  # noqa: PLR2004 - black has no hue
    quantiles = np.percentile(seen, [50, 75, 90]) if seen.size else np.zeros(3)
    calmest = float(np.percentile(bright, 20)) if bright.size else 0.0
    return [*quantiles, calmest, float(quantiles[2] < 0.05)]  # noqa: PLR2004 - grey


def _clippings(small: NDArray[np.uint8]) -> list[float]:
    """Return how much clips in all channels, and in some; its ratio to what nearly clips, and how much nearly clips."""
    clipped = np.count_nonzero(small >= 250, axis=2)  # noqa: PLR2004 - JPEG changes 255 by a few levels
    every, some = float((clipped == 3).mean()), float(((clipped > 0) & (clipped < 3)).mean())  # noqa: PLR2004 - channels
    highest = highest_of(small)
    near = float(((highest >= 225) & (highest < 250)).mean())  # noqa: PLR2004 - the last tenth
    return [every**0.5, some**0.5, float(np.log((every + some + 0.002) / (near + 0.002))), near]


def _combs(seconds: NDArray[np.uint8]) -> list[float]:
    """Return how ragged the histogram of green is in its lower and its upper part."""
    counts = level_counts(seconds)[1]
    ragged = np.abs(counts[2:254] - (counts[1:253] + counts[3:255]) / 2)
    lower, upper = slice(0, 100), slice(120, 252)
    return [float(ragged[part].sum() / max(counts[2:254][part].sum(), 1.0)) for part in (lower, upper)]


def darkening_gamma(figures: NDArray[np.float64]) -> tuple[float, float]:
    """Estimate a gamma that darkened a picture.

    Returns:
        How sure it is (a score; a picture above 0 is treated) and the gamma, 1 to 3.
    """
    gamma = float(np.exp(fitted(Score.GAMMA).of(figures)))
    return verdict(Score.DARK).of(figures), min(max(gamma, 1.0), 3.0)


def underexposure(figures: NDArray[np.float64], white: int) -> tuple[float, float]:
    """Estimate by how much light was lacking.

    Returns:
        How sure it is, and the gain in linear light that brings white to WHITE_LEVEL, 1 to MAX_GAIN.
    """
    gain = float(LIGHT[WHITE_LEVEL] / max(LIGHT[white], 1e-4))
    return verdict(Score.UNDEREXPOSED).of(figures), min(max(gain, 1.0), MAX_GAIN)


def overexposure(figures: NDArray[np.float64], highlights: NDArray[np.float64]) -> float:
    """Return how sure it is that a picture was overexposed; a picture with a value above 0 is treated."""
    return verdict(Score.OVEREXPOSED).of(np.concatenate([figures, highlights]))


def exposed(pixels: NDArray[np.uint8], gain: float) -> NDArray[np.uint8]:
    """Raise the light by a gain, and protect highlights: what would exceed white approaches it along a smooth shoulder.

    All channels follow the same curve.
    """
    light = srgb_to_linear(np.arange(256) / 255) * gain
    knee = 0.85
    over = np.maximum(light - knee, 0)
    soft = np.where(light <= knee, light, knee + (1 - knee) * (1 - np.exp(-over / (1 - knee))))
    return _with_soft_shadows(pixels, linear_to_srgb(soft))


def brightened(pixels: NDArray[np.uint8], gamma: float) -> NDArray[np.uint8]:
    """Undo a gamma on all channels (pixels are height x width x 3, uint8, sRGB)."""
    return _with_soft_shadows(pixels, (np.arange(256) / 255) ** (1 / gamma))


def calmed(pixels: NDArray[np.uint8], gain: float = OVER_GAIN) -> NDArray[np.uint8]:
    """Lower the light by a gain; highlights rise along a smooth shoulder to white, since what clipped was white.

    All channels of a pixel rise by the same number of levels, which depends
    mostly on its lowest channel. White therefore stays white, and pale colours
    keep their hue. Where one channel clipped, the others show that the colour
    wasn't white, so that it is lowered with them.
    """
    levels = np.arange(256) / 255
    lowered = linear_to_srgb(srgb_to_linear(levels) / gain)
    whole = 255 * (1 - lowered[255])
    lowered = (255 * lowered).astype(np.float32)
    together, own = (_smooth_step(levels, start).astype(np.float32) for start in (_SHOULDER, _OWN_SHOULDER))
    own *= _OWN_SHARE
    result = np.empty_like(pixels)
    for top in range(0, pixels.shape[0], STRIP_ROWS):
        strip = pixels[top : top + STRIP_ROWS]
        whiteness = lowest_of(strip) + _HIGHEST_SHARE * (highest_of(strip) - lowest_of(strip)).astype(np.float32)
        rise = together[np.round(whiteness).astype(np.uint8)][..., None]
        result[top : top + STRIP_ROWS] = np.round(lowered[strip] + whole * (rise + (1 - rise) * own[strip]))
    return result


def _smooth_step(levels: NDArray[np.float64], start: float) -> NDArray[np.float64]:
    """Return 0 up to the start and 1 at level 1, without an edge at either."""
    t = np.clip((levels - start) / (1 - start), 0, 1)
    return np.asarray(t * t * (3 - 2 * t))


def _with_soft_shadows(pixels: NDArray[np.uint8], table: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Replace each level by a brighter one from a lookup table, without coloured steps in the deepest shadows.

    The deepest shadows have only a few levels. There the table is applied to the
    mean of the pixels around, since means also lie between those levels.
    """
    result = mapped(pixels, table)
    for top in range(0, pixels.shape[0], STRIP_ROWS):
        low, high = max(0, top - _REACH_ROWS), top + STRIP_ROWS + _REACH_ROWS
        strip = pixels[low:high].astype(np.float32)
        inside = slice(top - low, top - low + min(STRIP_ROWS, pixels.shape[0] - top))
        # what is brighter than a shadow counts as its brightest level, or it would brighten the shadow
        soft = np.asarray(cv2.GaussianBlur(np.minimum(strip, _SHADOW_LEVELS), (0, 0), _SHADOW_BLUR_PX))
        grey = soft @ np.array([0.299, 0.587, 0.114], np.float32)
        soft = grey[..., None] + _SHADOW_COLOUR * (soft - grey[..., None])
        depth = np.clip(1.4 - strip.max(2) / (0.7 * _SHADOW_LEVELS), 0, 1)[inside]
        shadows = depth > 0
        if not shadows.any():
            continue
        share = depth[shadows][:, None]
        mixed = soft[inside][shadows] * share + strip[inside][shadows] * (1 - share)
        lit = 255 * np.interp(mixed, np.arange(256), table)
        result[top : top + STRIP_ROWS][shadows] = np.clip(np.round(lit), 0, 255).astype(np.uint8)
    return result
