"""The last step of every picture: a provider's answer is decoded, and resized to exactly the size that was ordered."""

from dataclasses import dataclass

from pipelines.imaging.decode import decode
from pipelines.imaging.encode import encode_jpeg, resize
from pipelines.imaging.header import MAX_SIDE_PX, DecodeLimits, read_header


@dataclass(frozen=True, slots=True)
class FinishedImage:
    """A JPEG ready to be stored: quality 95, 4:4:4, sRGB, no metadata."""

    data: bytes
    width_px: int
    height_px: int


def finish(data: bytes, limits: DecodeLimits, width_px: int, height_px: int) -> FinishedImage:
    """Decode an answer like any untrusted picture, and resize it to exactly the size asked for. Run it in a child.

    If the answer has another aspect ratio, it is first cut equally on two opposite sides.

    Raises:
        BadImageError: the answer is no picture, or one that is refused.
    """
    pixels = decode(data, limits).pixels
    height, width = pixels.shape[:2]
    scale = max(width_px / width, height_px / height)
    kept_width, kept_height = min(width, round(width_px / scale)), min(height, round(height_px / scale))
    left, top = (width - kept_width) // 2, (height - kept_height) // 2
    kept = pixels[top : top + max(1, kept_height), left : left + max(1, kept_width)]
    return FinishedImage(encode_jpeg(resize(kept, width_px, height_px)), width_px, height_px)


def finished(data: bytes) -> FinishedImage:
    """Return a picture that our own encoder made, unchanged; the limits of untrusted pictures don't apply to it."""
    header = read_header(data, DecodeLimits(max_bytes=len(data), max_pixels=MAX_SIDE_PX**2))
    return FinishedImage(data, header.width_px, header.height_px)
