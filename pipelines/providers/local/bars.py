"""Black bars, found to the pixel."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.imaging.geometry import PixelBox

MIN_BAR_FRACTION = 0.01
"""A bar narrower than this fraction of its side isn't cut off, since a picture's own edge may be as dark."""

MAX_BAR_FRACTION = 0.37
"""Two bars wider than this fraction of their side leave little of it: that is more likely a subject on black."""

NARROW_FRACTION = 0.1
"""A bar without a twin is cut off up to this fraction of its side; a wider one may be a sky, a table or a margin."""

TWIN_FRACTION = 0.7
"""Two bars are a pair if the narrower one has at least this fraction of the wider one's width."""

_USED_INSIDE = 0.15
"""Bars stay if more than this fraction of the picture has their colour, within two levels: the picture uses it."""

BLACK_UP_TO = 40
"""A bar's level is at most this: video black is 16, and that of a photographed screen is a little more."""

_RING = 14
"""JPEG of quality 75 and better changes the block of a bar that touches the picture by up to so many levels."""

_STEP = 10
"""A rise by so many levels from bar to picture counts as a step."""

_STRONG_VOTE = 0.35
"""A row is a candidate for the edge with this fraction of the most votes that a row has."""

_FAINT_STEP = 3
"""A rise by so many levels counts as a step where the bar opposite shows where the edge must be."""

_NEAR_PX = 9
"""The step is searched within so many rows of where the picture has surely begun: a JPEG block and one row."""


@dataclass(frozen=True, slots=True)
class _Bar:
    """The bar on one side: its width, and the fraction of the columns in which the bar's edge is a clear step."""

    width_px: int
    clarity: float


_NONE = _Bar(0, 0.0)


def picture_box(luma: NDArray[np.uint8]) -> PixelBox | None:
    """Find the picture between black bars.

    A bar is black and even over its whole length, and ends in one straight
    step. A night sky is dark but ends nowhere; a dark subject's outline isn't
    straight. A wide bar has a second one of its width on the other side, and a bar's colour
    isn't used in the picture itself. So a black sky over the sea isn't taken for a bar,
    and neither are the margins of a dark screen, which have the colour of its
    background.

    Args:
        luma: height x width, uint8, of the oriented original at full size.

    Returns:
        The picture's box, or None if there are no bars.
    """
    height, width = luma.shape
    top, left, bottom, right = 0, 0, height, width
    for _ in range(2):  # of bars on all four sides, the second pass finds those whose rows ended in other bars
        inner = luma[:, left:right]
        top, end = _pair(inner)
        bottom = height - end
        inner = luma[top:bottom].T
        left, end = _pair(inner)
        right = width - end
    if (top, left, bottom, right) == (0, 0, height, width):
        return None
    if _is_used(luma, left, top, right, bottom):
        return None
    return PixelBox(left, top, right - left, bottom - top)


def _is_used(luma: NDArray[np.uint8], left: int, top: int, right: int, bottom: int) -> bool:
    """Return whether the picture between bars uses their colour.

    Levels are counted, since luma may have 64 million pixels.
    """
    inside = _level_counts(luma[top:bottom, left:right])
    outside = (_level_counts(luma) - inside).cumsum()
    black = int(np.searchsorted(outside, outside[-1] / 2))
    return bool(inside[max(0, black - 2) : black + 3].sum() > _USED_INSIDE * inside.sum())


def _level_counts(luma: NDArray[np.uint8]) -> NDArray[np.float64]:
    return np.asarray(cv2.calcHist([luma], [0], None, [256], [0, 256]), np.float64).ravel()


def _pair(luma: NDArray[np.uint8]) -> tuple[int, int]:
    """Return the widths of the bars at the first and at the last rows; 0 means no bar."""
    if min(luma.shape) < 16:  # noqa: PLR2004 - too small to have bars
        return 0, 0
    first, last = _bar(luma), _bar(luma[::-1])
    if first.width_px + last.width_px > 2 * MAX_BAR_FRACTION * luma.shape[0]:
        return 0, 0
    is_pair = first.width_px > 0 and abs(first.width_px - last.width_px) <= 1
    needed = 0.2 if is_pair else 0.3
    widths = [bar.width_px if bar.clarity >= needed else 0 for bar in (first, last)]
    if not is_pair and widths[0] and _echoes(luma[::-1], widths[0]):
        return widths[0], widths[0]
    if not is_pair and widths[1] and _echoes(luma, widths[1]):
        return widths[1], widths[1]
    if min(widths) < TWIN_FRACTION * max(widths):
        widths = [width if width <= NARROW_FRACTION * luma.shape[0] else 0 for width in widths]
    return widths[0], widths[1]


def _echoes(luma: NDArray[np.uint8], width_px: int) -> bool:
    """Return whether the first rows hold a bar exactly as wide as the one on the opposite side.

    Its edge may be faint, because the picture begins dark.
    """
    rows = luma[: width_px + 1].astype(np.int16)
    black = float(np.median(rows[0]))
    bar = rows[: max(1, width_px - _NEAR_PX)]
    if black > BLACK_UP_TO or float(np.percentile(bar, 99)) > black + 2:
        return False
    return bool((rows[width_px] - rows[width_px - 1] >= _FAINT_STEP).mean() >= 0.1)  # noqa: PLR2004 - of the columns


def _bar(luma: NDArray[np.uint8]) -> _Bar:
    """Measure the bar at the first rows."""
    limit = int(luma.shape[0] * MAX_BAR_FRACTION * 1.5) + _NEAR_PX
    rows = luma[: min(limit, luma.shape[0])]
    black = float(np.median(rows[0]))
    if black > BLACK_UP_TO or float(np.percentile(rows[0], 99)) > black + _RING:
        return _NONE
    # 1 % of a row may be anything: a channel's logo, a scratch
    reach = np.percentile(rows, 99, axis=1) > black + _RING
    begun = int(np.argmax(reach)) if reach.any() else 0
    if begun < max(2, MIN_BAR_FRACTION * luma.shape[0]):
        return _NONE
    low, high = max(begun - _NEAR_PX, 1), min(begun + _NEAR_PX, rows.shape[0] - 1)
    near = rows[low - 1 : high + 1].astype(np.int16)
    rises = near[1:] - near[:-1]
    steepest = rises.argmax(0)
    is_step = rises.max(0) >= _STEP
    if not is_step.any():
        return _NONE
    votes = np.bincount(steepest[is_step], weights=rises.max(0)[is_step], minlength=rises.shape[0])
    # the outermost candidate, since a picture's own first rows may rise more steeply than its edge
    edge = int(np.argmax(votes >= _STRONG_VOTE * votes.max()))
    at_edge = is_step & (np.abs(steepest - edge) <= 1)
    return _Bar(_past_soft_row(near, edge, at_edge, black) + low, float(at_edge.mean()))


def _past_soft_row(near: NDArray[np.int16], edge: int, columns: NDArray[np.bool_], black: float) -> int:
    """Return where the picture begins, behind a first row that is half bar, as scaling leaves it."""
    if edge + 2 >= near.shape[0]:
        return edge
    here, next_row = near[edge + 1, columns] - black, near[edge + 2, columns] - black
    share = float(np.median(here / np.maximum(next_row, 1)))
    return edge + 1 if share < 0.7 else edge  # noqa: PLR2004 - a hard edge has 0.9 to 1.1, a soft one about 0.5
