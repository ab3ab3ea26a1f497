"""How large a picture is when it stands upright."""

import io

from PIL import ExifTags, Image

from pipelines.imaging.header import DecodeLimits, read_header

_LYING = {5, 6, 7, 8}
"""EXIF orientations that swap width and height."""


def oriented_size(data: bytes, limits: DecodeLimits) -> tuple[int, int]:
    """Return width and height in pixels after EXIF orientation, without decoding pixels. Run it in a child.

    Raises:
        BadImageError: the header is refused.
    """
    header = read_header(data, limits)
    try:
        with Image.open(io.BytesIO(data), formats=[header.format]) as image:
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except (OSError, SyntaxError, ValueError):
        orientation = 1  # what can't be read can't turn the picture, for the decoder neither
    if orientation in _LYING:
        return header.height_px, header.width_px
    return header.width_px, header.height_px
