"""Pictures as they are sent to a provider: upright, sRGB, without metadata, small enough, of a known ratio."""

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.imaging.answers import SENT_SIDE_PX, Outgoing
from pipelines.imaging.decode import decode
from pipelines.imaging.encode import encode_jpeg, resize_long_side
from pipelines.imaging.geometry import PixelBox, nearest_ratio
from pipelines.imaging.header import DecodeLimits
from pipelines.imaging.looking import mean_colour, spread_levels

MAX_BYTES = 5_000_000
"""A picture that is sent has at most so many bytes: a request may have 20 MB, and one picture in it 7 MB, as base64."""

QUALITIES = (92, 85, 75)
LEAST_SIDE_PX = 16
"""Smallest side of a picture that is sent, in pixels: models don't accept a single pixel."""


def outgoing(
    data: bytes,
    limits: DecodeLimits,
    box: PixelBox | None,
    ratios: Mapping[str, float] | None = None,
    max_side_px: int = SENT_SIDE_PX,
) -> Outgoing:
    """Decode a picture and encode it anew, for sending to a provider. Run it in a pixel child.

    Args:
        data: the picture as its user uploaded it.
        limits: the limits of untrusted pictures.
        box: what to keep; None keeps all.
        ratios: aspect ratios by name. The picture is brought to the nearest of them by margins that repeat its edges,
            so that no part of it is cut off; `finishing.finish` cuts the answer back around its middle.
        max_side_px: the longest side of what is sent.

    Raises:
        BadImageError: the picture can't be decoded.
    """
    pixels = decode(data, limits, box=box, max_long_side_px=max_side_px).pixels
    if max(pixels.shape[:2]) < LEAST_SIDE_PX:
        pixels = resize_long_side(pixels, LEAST_SIDE_PX)
    ratio, spread, mean = None, spread_levels(pixels), mean_colour(pixels)
    if ratios is not None:
        ratio = nearest_ratio(pixels.shape[1] / pixels.shape[0], ratios)
        pixels = _padded(pixels, ratios[ratio])
    for quality in QUALITIES:
        encoded = encode_jpeg(pixels, quality=quality)
        if len(encoded) <= MAX_BYTES:
            break
    else:
        encoded = encode_jpeg(resize_long_side(pixels, max_side_px // 2), quality=QUALITIES[-1])
    return Outgoing(encoded, ratio, pixels.shape[1], pixels.shape[0], spread, mean)


def _padded(pixels: NDArray[np.uint8], ratio: float) -> NDArray[np.uint8]:
    """Add equal margins on two opposite sides, until width / height is `ratio`."""
    height, width = pixels.shape[:2]
    across, down = max(0, round(height * ratio) - width), max(0, round(width / ratio) - height)
    edges = (down // 2, down - down // 2, across // 2, across - across // 2)
    padded = cv2.copyMakeBorder(pixels, *edges, cv2.BORDER_REPLICATE)
    return np.asarray(padded, np.uint8)
