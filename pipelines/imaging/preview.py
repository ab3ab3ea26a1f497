"""Pictures for people to look at in a browser: small, upright, sRGB, and without metadata. It runs in a pixel child."""

from pipelines.imaging.decode import decode
from pipelines.imaging.encode import encode_jpeg
from pipelines.imaging.header import DecodeLimits

PREVIEW_QUALITY = 85


def preview(data: bytes, limits: DecodeLimits, long_side_px: int) -> bytes:
    """Decode a picture and encode it anew as a JPEG whose long side is at most `long_side_px`; it is never enlarged.

    Raises:
        BadImageError: the picture is refused or broken.
    """
    return encode_jpeg(decode(data, limits, max_long_side_px=long_side_px).pixels, quality=PREVIEW_QUALITY)
