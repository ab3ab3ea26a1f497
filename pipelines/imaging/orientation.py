"""Reading of a picture's orientation, for the decoder and for code that only needs the size."""

import io
import numbers

from PIL import ExifTags, Image

from pipelines.imaging.header import DecodeLimits, read_header

LYING = frozenset({5, 6, 7, 8})
"""These EXIF orientations swap width and height (EXIF 2.32, tag 274)."""

BROKEN_METADATA = (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError, ArithmeticError)
"""Pillow's reader of EXIF raises these on broken input: its documentation names none, its issues name these."""


def orientation_of(image: Image.Image) -> int:
    """Return EXIF's orientation, 1 to 8, whatever type of number it is written as; 1 if EXIF has no valid one."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
        if isinstance(value, tuple | list | bytes) and len(value) == 1:
            value = value[0]
        number = float(value) if isinstance(value, numbers.Real) else 0.0
    except BROKEN_METADATA:
        return 1
    return int(number) if number in range(1, 9) else 1


def oriented_size(data: bytes, limits: DecodeLimits) -> tuple[int, int]:
    """Return width and height in pixels after EXIF orientation, without decoding pixels. Run it in a child.

    Raises:
        BadImageError: the header is refused.
    """
    header = read_header(data, limits)
    try:
        with Image.open(io.BytesIO(data), formats=[header.format]) as image:
            orientation = orientation_of(image)
    except (OSError, SyntaxError, ValueError):
        orientation = 1  # the decoder doesn't turn a picture either whose EXIF can't be read
    if orientation in LYING:
        return header.height_px, header.width_px
    return header.width_px, header.height_px
