"""Decoding of WebP pictures that are too large for Pillow's reader.

That reader keeps two canvases and a copy of each frame, 20 bytes a pixel at its peak; libwebp's plain decoder, which
OpenCV calls, takes 3 to 8. The container is described in RFC 9649.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.imaging.child import CV_NO_MEMORY
from pipelines.imaging.geometry import STRIP_ROWS

LARGE_PIXELS = 16_000_000
"""Larger pictures are decoded by OpenCV: of 64 megapixels it takes 0.5 GB, and Pillow 1.3 GB, over a child's limit."""

_CHUNK = struct.Struct("<4sI")
_FRAME_HEAD_BYTES = 16
_ALPHA = 0x10
"""The flag of VP8X that says that a picture has an alpha channel (RFC 9649, 2.7)."""


@dataclass(frozen=True, slots=True)
class _Frame:
    """The first frame: its own chunks, and its place on the canvas."""

    chunks: bytes
    x: int
    y: int
    width_px: int
    height_px: int


def open_large_webp(data: bytes, width_px: int, height_px: int) -> Image.Image:
    """Decode the first frame of a WebP, with its profile and EXIF in `info`, as Pillow does.

    Args:
        data: the file; its header has been checked.
        width_px: of the canvas, as the header says.
        height_px: of the canvas, as the header says.

    Returns:
        A picture in RGB or RGBA as stored, neither oriented nor converted.

    Raises:
        OSError: the file is broken or truncated.
        MemoryError: the picture doesn't fit into memory.
    """
    chunks = list(_chunks(data, 12))
    frame = _first_frame(chunks, width_px, height_px)
    if frame.x + frame.width_px > width_px or frame.y + frame.height_px > height_px:
        raise OSError("the first frame leaves the canvas")
    image = Image.fromarray(_pixels(frame))
    if image.size != (width_px, height_px):
        canvas = Image.new("RGBA", (width_px, height_px))
        canvas.paste(image, (frame.x, frame.y))
        image = canvas
    image.format = "WEBP"
    for name, kind in (("icc_profile", b"ICCP"), ("exif", b"EXIF")):
        if (body := next((bytes(body) for found, body in chunks if found == kind), None)) is not None:
            image.info[name] = body
    return image


def _first_frame(chunks: list[tuple[bytes, memoryview]], width_px: int, height_px: int) -> _Frame:
    """Return the picture, or the first one of an animation (ANMF: RFC 9649, 2.7.1.1)."""
    for kind, body in chunks:
        if kind == b"ANMF":
            # places are stored halved, and sizes less one
            x, y, width, height = (int.from_bytes(body[at : at + 3], "little") for at in (0, 3, 6, 9))
            inner = list(_chunks(bytes(body), _FRAME_HEAD_BYTES))
            return _Frame(_picture_chunks(inner, width + 1, height + 1), 2 * x, 2 * y, width + 1, height + 1)
    return _Frame(_picture_chunks(chunks, width_px, height_px), 0, 0, width_px, height_px)


def _picture_chunks(chunks: list[tuple[bytes, memoryview]], width_px: int, height_px: int) -> bytes:
    """Return the chunks of one still picture, preceded by a VP8X chunk that claims the expected size."""
    picture = [(kind, body) for kind, body in chunks if kind in {b"ALPH", b"VP8 ", b"VP8L"}][:2]
    if not picture or picture[-1][0] == b"ALPH":
        raise OSError("there is no picture in it")
    if picture[0][0] != b"ALPH":
        del picture[1:]
    has_alpha = picture[0][0] != b"VP8 "
    extended = struct.pack("<I", _ALPHA if has_alpha else 0)
    extended += (width_px - 1).to_bytes(3, "little") + (height_px - 1).to_bytes(3, "little")
    return b"".join(_chunk(kind, bytes(body)) for kind, body in [(b"VP8X", extended), *picture])


def _pixels(frame: _Frame) -> NDArray[np.uint8]:
    """Decode one frame into height x width x 3 or 4, RGB.

    libwebp refuses a picture whose size isn't the one that VP8X claims, before it allocates memory.
    """
    file = b"RIFF" + struct.pack("<I", 4 + len(frame.chunks)) + b"WEBP" + frame.chunks
    try:
        decoded = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        if error.code == CV_NO_MEMORY:
            raise MemoryError from error
        raise OSError(f"libwebp refused it: {error.err}") from error
    if decoded is None or decoded.shape[:2] != (frame.height_px, frame.width_px):
        raise OSError("libwebp refused it")
    pixels = np.asarray(decoded, np.uint8)
    for top in range(0, frame.height_px, STRIP_ROWS):  # in place, since a second copy would take 256 MB
        strip = pixels[top : top + STRIP_ROWS]
        strip[..., [0, 2]] = strip[..., [2, 0]]
    return pixels


def _chunks(data: bytes, at: int) -> Iterator[tuple[bytes, memoryview]]:
    """Yield the RIFF chunks from an offset on, as kind and content.

    Raises:
        OSError: a chunk is cut off.
    """
    view = memoryview(data)
    while at + _CHUNK.size <= len(view):
        kind, size = _CHUNK.unpack_from(view, at)
        body = view[at + _CHUNK.size : at + _CHUNK.size + size]
        if len(body) < size:
            raise OSError("it is cut off")
        yield kind, body
        at += _CHUNK.size + size + size % 2


def _chunk(kind: bytes, body: bytes) -> bytes:
    return _CHUNK.pack(kind, len(body)) + body + b"\0" * (len(body) % 2)
