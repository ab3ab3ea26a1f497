"""Enlargement by a trained network, to the degree to which it is better than Lanczos.

Each picture is measured for this.
"""

import math
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.imaging.encode import resize
from pipelines.providers.local.learned import Run
from pipelines.providers.local.networks import FAITHFUL, INVENTING, Effort, NetworkUnavailableError

MOST_STEPS: Final = 2
"""The network enlarges so many times, twofold each. Lanczos does the rest, since further steps find no more detail."""

LEAST_FACTOR: Final = 1.2
"""Lanczos does enlargements by less than this: a network's twofold result, shrunk to it, isn't worth its cost."""

PULL_COMPRESSED: Final = 0.5
"""The result of a compressed picture is corrected by this fraction of the difference that shrinking it again shows;
that of others is corrected wholly. The rest of a compressed picture's difference is JPEG's own noise."""

_CONTEXT_PX: Final = 2
"""The interpolation of that correction needs so many pixels around a tile."""

_WINDOW_PX: Final = 192
_WINDOWS: Final = 4
"""A picture is judged by so many windows of this side, those with the most detail, in 0.2 s whatever its size."""

_RIM_PX: Final = 8
"""The edges of a window may change so many pixels, which aren't judged."""

SMOOTH_FROM_DB: Final = 36.0
SMOOTH_DB: Final = 40.0
"""Between these PSNRs of Lanczos on the judged windows a network's share falls to none: nobody would see the detail
that it finds, and what it invents is worse. Of 18 photographs two are over 36 (moon, retina), and the next is at 34."""

_LEAST_SHARE: Final = 0.05
_LEAST_SIDE_PX: Final = 32
"""A smaller picture can't be judged by its half."""


def enlarged(
    pixels: NDArray[np.uint8],
    width_px: int,
    height_px: int,
    effort: Effort,
    *,
    is_compressed: bool,
    model: str | None = None,
) -> tuple[NDArray[np.uint8], str | None]:
    """Resample to an exact size; enlarge by networks where they are installed, affordable and better.

    Args:
        pixels: height x width x 3, uint8, sRGB.
        width_px: of the result, at least 1.
        height_px: of the result, at least 1.
        effort: what networks may cost.
        is_compressed: whether the picture was stored with losses, as JPEG does.
        model: the network that a pipeline names; only INVENTING's name has an effect; with any other, this
            function chooses.

    Returns:
        The picture, and how it was enlarged, in words for people; None if it wasn't.
    """
    before = pixels.shape[1::-1]
    factor = max(width_px / before[0], height_px / before[1])
    if factor <= 1:
        return resize(pixels, width_px, height_px), None
    networks: list[str] = []
    why_not, instead_of = None, ""
    try:
        if model == INVENTING.name:
            pixels = _invented(pixels, effort)
            networks.append(INVENTING.name)
    except NetworkUnavailableError as error:
        instead_of = f" in place of {INVENTING.name}: {error}"
    try:
        if not networks:
            if factor < LEAST_FACTOR:
                raise NetworkUnavailableError("too little for a network")  # noqa: TRY301
            share = _network_share(pixels, effort, is_compressed=is_compressed)
            if share < _LEAST_SHARE:
                raise NetworkUnavailableError("no network is better for this picture")  # noqa: TRY301
            for _ in range(min(MOST_STEPS, math.ceil(math.log2(factor)))):
                pixels = _twofold(pixels, effort, share=share, is_compressed=is_compressed)
                networks.append(FAITHFUL.name)
    except NetworkUnavailableError as error:
        why_not = str(error)
    pixels = resize(pixels, width_px, height_px)
    return pixels, _note(factor, networks, why_not) + instead_of


def _note(factor: float, networks: list[str], why_not: str | None) -> str:
    """Return in words how a picture was enlarged, and why no network was used where one would have been expected."""
    if not networks:
        return f"enlarged {factor:.2g}x by Lanczos ({why_not})"
    steps = f"{networks[0]}, {len(networks)} steps" if len(networks) > 1 else networks[0]
    rest = f", then by Lanczos ({why_not})" if why_not else ""
    return f"enlarged {factor:.2g}x by a network ({steps}){rest}"


def _twofold(pixels: NDArray[np.uint8], effort: Effort, *, share: float, is_compressed: bool) -> NDArray[np.uint8]:
    """Enlarge twofold by the faithful network.

    The result is corrected, so that it gives the original picture again when it is shrunk. Flat colours stay exactly as
    they are.

    Args:
        pixels: height x width x 3, uint8, sRGB.
        effort: what networks may still cost.
        share: the fraction of the result that is the network's; the rest is Lanczos'.
        is_compressed: whether the picture has a compression's noise.

    Raises:
        NetworkUnavailableError: the network can't be used for this picture.
    """
    pull = PULL_COMPRESSED if is_compressed else 1.0
    rim = 2 * _CONTEXT_PX
    with Run(FAITHFUL, pixels, effort, context_px=_CONTEXT_PX) as run:
        result = resize(pixels, 2 * run.width, 2 * run.height)
        for tile in run.tiles():
            was, made = run.of_tile(tile)
            lost = was - cv2.resize(made, was.shape[1::-1], interpolation=cv2.INTER_AREA)
            made += pull * cv2.resize(lost, made.shape[1::-1], interpolation=cv2.INTER_LINEAR)
            top, left, height, width = (2 * edge for edge in tile)
            part = result[top : top + height, left : left + width]
            learned = made[rim:, rim:][: part.shape[0], : part.shape[1]]
            part[:] = np.clip(np.round(part + share * (learned - part)), 0, 255)
    return result


def _network_share(pixels: NDArray[np.uint8], effort: Effort, *, is_compressed: bool) -> float:
    """Return which fraction of the network's difference from Lanczos to use, 0 to 1.

    Windows of the picture are halved and enlarged again in both ways. The fraction is the one whose mixture comes
    nearest to the windows as they were (least squares). It is small where the network would only invent detail or
    sharpen grain, and smaller where Lanczos alone is almost exact.

    Raises:
        NetworkUnavailableError: the network can't be used for this picture.
    """
    if min(pixels.shape[:2]) < _LEAST_SIDE_PX:
        return 1.0
    along, across, lost, count = 0.0, 0.0, 0.0, 0
    for top, left in _detailed_windows(pixels):
        window = pixels[top : top + _WINDOW_PX, left : left + _WINDOW_PX]
        height, width = window.shape[0] // 2 * 2, window.shape[1] // 2 * 2
        window = np.ascontiguousarray(window[:height, :width])
        half = np.asarray(cv2.resize(window, (width // 2, height // 2), interpolation=cv2.INTER_AREA), np.uint8)
        plain = resize(half, width, height).astype(np.float32)
        inside = (slice(_RIM_PX, -_RIM_PX), slice(_RIM_PX, -_RIM_PX))
        learned = _twofold(half, effort, share=1.0, is_compressed=is_compressed)
        gained, wanted = ((picture.astype(np.float32) - plain)[inside] for picture in (learned, window))
        along += float((gained * wanted).sum())
        across += float((gained * gained).sum())
        lost += float((wanted * wanted).sum())
        count += wanted.size
    if across == 0 or lost == 0:
        return 0.0  # nothing but flat colours
    psnr_db = 10 * math.log10(255**2 * count / lost)
    smoothness = (psnr_db - SMOOTH_FROM_DB) / (SMOOTH_DB - SMOOTH_FROM_DB)
    return min(1.0, max(0.0, along / across)) * min(1.0, max(0.0, 1 - smoothness))


def _detailed_windows(pixels: NDArray[np.uint8]) -> list[tuple[int, int]]:
    """Return top and left of the windows that lose most by being halved."""
    height, width = pixels.shape[:2]
    half = cv2.resize(pixels, ((width + 1) // 2, (height + 1) // 2), interpolation=cv2.INTER_AREA)
    lost = cv2.absdiff(pixels, np.asarray(cv2.resize(half, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8))
    places = [
        (float(np.square(lost[top : top + _WINDOW_PX, left : left + _WINDOW_PX], dtype=np.uint32).sum()), top, left)
        for top in _starts(height)
        for left in _starts(width)
    ]
    return [(top, left) for _, top, left in sorted(places, key=lambda place: (-place[0], place[1:]))[:_WINDOWS]]


def _starts(side_px: int) -> range:
    """Return where windows begin along a side.

    They lie next to each other; a window is cut off only if it is the only one.
    """
    return range(0, max(1, side_px - _WINDOW_PX + 1), _WINDOW_PX)


def _invented(pixels: NDArray[np.uint8], effort: Effort) -> NDArray[np.uint8]:
    """Enlarge fourfold by the network that invents texture.

    Raises:
        NetworkUnavailableError: it can't be used for this picture.
    """
    scale = INVENTING.scale
    with Run(INVENTING, pixels, effort) as run:
        result = np.empty((scale * run.height, scale * run.width, 3), np.uint8)
        for tile in run.tiles():
            _, made = run.of_tile(tile)
            top, left, height, width = (scale * edge for edge in tile)
            part = result[top : top + height, left : left + width]
            part[:] = np.clip(np.round(made[: part.shape[0], : part.shape[1]]), 0, 255)
    return result
