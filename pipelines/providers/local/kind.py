"""The kind of a picture. The light and colours of drawings, screens and toned pictures are intended."""

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.providers.local.light import highest_of, lowest_of

FLAT_FRACTION = 0.5
"""In a drawing at least this fraction of the pixels that are neither black nor white equal their neighbours."""

FEW_COLOURS = 0.5
"""In a drawing at least this fraction of the same pixels have one of the eight commonest colours."""

MIDDLE_FRACTION = 0.10
"""If a smaller fraction of the pixels lies between black and white, they are the edges of a drawing."""

WHITE_FRACTION = 0.5
"""From this fraction of white on a picture is paper, a page or a product on white; no exposure makes so much white."""

ONE_HUE_SPREAD = 0.035
"""A picture is toned if its colours are spread by less than four times this around the tone's own curve, in parts of
their mean chroma."""


def is_drawn(pixels: NDArray[np.uint8]) -> bool:
    """Return whether a picture was drawn, printed or shown on a screen, so that its colours are few and flat.

    Args:
        pixels: height x width x 3, uint8, sRGB, at its own size, since scaling blurs flat colours' edges.
    """
    part = pixels[: 2 * (pixels.shape[0] // 2), : 2 * (pixels.shape[1] // 2)]
    if part.size == 0:
        return False
    step = max(1, int(np.sqrt(part.shape[0] * part.shape[1] / 100_000)))
    here, right, below = part[:-1:step, :-1:step], part[:-1:step, 1::step], part[1::step, :-1:step]
    rows, columns = min(here.shape[0], below.shape[0]), min(here.shape[1], right.shape[1])
    here, right, below = (np.ascontiguousarray(one[:rows, :columns]) for one in (here, right, below))
    between = (highest_of(here) > 5) & (lowest_of(here) < 250)  # noqa: PLR2004 - JPEG changes black and white by a few levels
    if between.mean() < MIDDLE_FRACTION or (lowest_of(here) >= 250).mean() >= WHITE_FRACTION:  # noqa: PLR2004
        return True
    steps = highest_of(np.maximum(cv2.absdiff(here, right), cv2.absdiff(here, below)))
    flat = (steps == 0)[between]
    colours = here[between][:: max(1, int(between.sum() / 20_000))].astype(np.int32)
    _, counts = np.unique((colours[:, 0] << 16) + (colours[:, 1] << 8) + colours[:, 2], return_counts=True)
    commonest = np.sort(counts)[-8:].sum() / counts.sum()
    return bool(flat.mean() >= FLAT_FRACTION and commonest >= FEW_COLOURS)


def is_toned(small: NDArray[np.uint8]) -> bool:
    """Return whether a picture is monochrome and toned, so that each brightness has one colour, as in sepia.

    Args:
        small: a small copy, height x width x 3, uint8, sRGB.
    """
    ycc = np.asarray(cv2.cvtColor(cv2.blur(small, (3, 3)), cv2.COLOR_RGB2YCrCb), np.float32).reshape(-1, 3)
    band = (ycc[:, 0] / 16).astype(np.int32)
    counts = np.maximum(np.bincount(band, minlength=16), 1)
    spread = 0.0
    for channel in (1, 2):
        means = np.bincount(band, weights=ycc[:, channel], minlength=16) / counts
        spread += float(((ycc[:, channel] - means[band]) ** 2).mean())
    chroma = float(np.hypot(ycc[:, 1] - 128, ycc[:, 2] - 128).mean())
    return chroma > 2 and spread**0.5 / max(chroma, 4.0) < 4 * ONE_HUE_SPREAD  # noqa: PLR2004 - levels
