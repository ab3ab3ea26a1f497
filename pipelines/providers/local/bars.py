"""Black bars, found to the pixel."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.imaging.geometry import PixelBox

MIN_BAR_FRACTION = 0.01
"""A bar narrower than this of its side is left: a frame's own edge may be as dark."""

MAX_BAR_FRACTION = 0.37
"""Two bars wider than this leave less than a quarter: more likely a picture on black than a picture with bars."""

NARROW_FRACTION = 0.1
"""A bar without a twin is cut off up to this of its side: what is wider may be a sky, a table or a margin."""

TWIN_FRACTION = 0.7
"""Two bars of which the narrower has this of the wider are a pair."""

_USED_INSIDE = 0.15
"""Part of a picture that may have its bars' colour, within two levels: from there on it is a colour of the picture."""

BLACK_UP_TO = 40
"""Levels: video black is 16, and a photographed screen's a little more."""

_RING = 14
"""Levels by which JPEG rings into the block of a bar that touches the picture, at quality 75 and better."""

_STEP = 10
"""Levels from bar to picture that count as a step."""

_STRONG_VOTE = 0.35
"""Of the most votes for a row, what makes another row a candidate."""

_FAINT_STEP = 3
"""Levels that count as a step where the other side's bar says where it must be."""

_NEAR_PX = 9
"""How far from where the picture has surely begun the step is looked for: a JPEG block and one."""


@dataclass(frozen=True, slots=True)
class _Bar:
    """One side's bar: how wide, and in which part of the columns its edge is a clear step, 0 to 1."""

    width_px: int
    clarity: float


_NONE = _Bar(0, 0.0)


def picture_box(luma: NDArray[np.uint8]) -> PixelBox | None:
    """Find the picture between black bars.

    A bar is black and even over its whole length, and ends in one straight
    step. A night sky is dark but ends nowhere; a dark subject's outline isn't
    straight. A wide bar has a twin on the other side, and no bar has a colour
    that the picture uses, too: a black sky over the sea has neither, and the
    margins of a dark screen have its background's colour.

    Args:
        luma: height x width, uint8, of the oriented original at full size.

    Returns:
        The picture's box, or None if there are no bars.
    """
    height, width = luma.shape
    top, left, bottom, right = 0, 0, height, width
    for _ in range(2):  # bars on all four sides: the second look sees rows without the bars at their ends
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
    """Say whether the picture between bars uses the bars' colour; by counts, since luma may have 64 million pixels."""
    inside = _level_counts(luma[top:bottom, left:right])
    outside = (_level_counts(luma) - inside).cumsum()
    black = int(np.searchsorted(outside, outside[-1] / 2))
    return bool(inside[max(0, black - 2) : black + 3].sum() > _USED_INSIDE * inside.sum())


def _level_counts(luma: NDArray[np.uint8]) -> NDArray[np.float64]:
    return np.asarray(cv2.calcHist([luma], [0], None, [256], [0, 256]), np.float64).ravel()


def _pair(luma: NDArray[np.uint8]) -> tuple[int, int]:
    """Return the widths of the bars at the first and the last rows, 0 where there is none."""
    if min(luma.shape) < 16:  # noqa: PLR2004 - nothing to tell a bar from
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
    """Say whether the first rows hold a bar exactly as wide as the one opposite, though the picture begins dark."""
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
    # the outermost of the strong: a picture's own first rows may rise more steeply than its edge
    edge = int(np.argmax(votes >= _STRONG_VOTE * votes.max()))
    at_edge = is_step & (np.abs(steepest - edge) <= 1)
    return _Bar(_past_soft_row(near, edge, at_edge, black) + low, float(at_edge.mean()))


def _past_soft_row(near: NDArray[np.int16], edge: int, columns: NDArray[np.bool_], black: float) -> int:
    """Step over a first row that is half bar, as scaling leaves it."""
    if edge + 2 >= near.shape[0]:
        return edge
    here, next_row = near[edge + 1, columns] - black, near[edge + 2, columns] - black
    share = float(np.median(here / np.maximum(next_row, 1)))
    return edge + 1 if share < 0.7 else edge  # noqa: PLR2004 - a hard edge has 0.9 to 1.1, a soft one about 0.5
