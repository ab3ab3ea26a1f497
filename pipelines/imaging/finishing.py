"""The last step of every picture: a provider's answer is decoded, and resized to exactly the size that was ordered."""

from pipelines.imaging.answers import FinishedImage
from pipelines.imaging.decode import decode
from pipelines.imaging.encode import encode_jpeg, resize
from pipelines.imaging.header import DecodeLimits


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
