"""Reading of a picture's header: its format and size, without any decoder.

This is pure Python over a few bytes, so that it may run in the worker's own
process: it refuses pictures that are too large before a child gets them, and
estimates how much memory the decoding of the others needs. The worker does nothing
else meanwhile, so whatever the bytes are, the steps are few.
"""

import re
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from pipelines.errors import BadImageError

BYTES_PER_PIXEL = 4
"""Pillow keeps a pixel of RGB, RGBA or CMYK in 4 bytes."""

MAX_SIDE_PX = 65_535
"""A JPEG's side has at most so many pixels. A PNG may claim 2**31, but 64,000,000 x 1 is no photograph."""


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """Limits of a picture that is decoded.

    Attributes:
        max_bytes: largest length of the encoded picture that is accepted.
        max_pixels: largest width times height of its first frame that is accepted.
        max_scans: largest number of scans of a progressive JPEG that is accepted;
            real encoders write about ten, and for each scan the decoder goes over
            the whole picture.
    """

    max_bytes: int = 25_000_000
    max_pixels: int = 64_000_000
    max_scans: int = 200


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """A picture's format, which is one of those accepted, and the size that its header claims, before orientation."""

    format: str
    width_px: int
    height_px: int

    @property
    def decoded_bytes(self) -> int:
        """Return an estimate of the bytes that the decoder holds at its peak: the pixels twice."""
        return 2 * BYTES_PER_PIXEL * self.width_px * self.height_px


# Signatures of formats that users send although they aren't accepted, so that a
# refusal can name the format. Source: the `file` magic database, 5.45.
_REFUSED: tuple[tuple[int, bytes, str], ...] = (
    (0, b"II*\x00", "TIFF or camera raw"),
    (0, b"MM\x00*", "TIFF or camera raw"),
    (0, b"IIRO", "camera raw"),
    (0, b"IIRS", "camera raw"),
    (0, b"IIU\x00", "camera raw"),
    (0, b"II\x1a\x00\x00\x00HEAPCCDR", "camera raw"),
    (0, b"FUJIFILMCCD-RAW", "camera raw"),
    (0, b"FOVb", "camera raw"),
    (0, b"\x00MRM", "camera raw"),
    (0, b"II+\x00", "BigTIFF"),
    (0, b"MM\x00+", "BigTIFF"),
    (0, b"BM", "BMP"),
    (0, b"%!PS", "PostScript"),
    (0, b"\xc5\xd0\xd3\xc6", "PostScript"),
    (0, b"%PDF", "PDF"),
    (0, b"8BPS", "Photoshop"),
    (0, b"\x00\x00\x01\x00", "ICO"),
    (0, b"\x00\x00\x02\x00", "ICO"),
    (0, b"v/1\x01", "OpenEXR"),
    (0, b"#?RADIANCE", "Radiance HDR"),
    (0, b"qoif", "QOI"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (0, b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\x1aE\xdf\xa3", "a video"),
    (8, b"AVI LIST", "a video"),
    (0, b"FLV\x01", "a video"),
    (0, b"\x00\x00\x01\xba", "a video"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "gzip"),
)


_BRANDS: tuple[tuple[frozenset[bytes], str], ...] = (
    (frozenset({b"avif", b"avis", b"avio", b"MA1A", b"MA1B"}), "AVIF"),
    (frozenset({b"jxl "}), "JPEG XL"),
    (frozenset({b"jp2 ", b"jpx ", b"jpm ", b"mjp2"}), "JPEG 2000"),
    (frozenset({b"crx "}), "camera raw"),
    (frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}), "HEIC"),
)
"""Brands that say how pictures in an ISO base media file are encoded (mp4ra.org, read 2026-11-28)."""

_BRANDS_OF_ANY_PICTURE = frozenset({b"mif1", b"mif2", b"msf1", b"miaf", b"MiHB", b"MiHA", b"MiHE", b"MiPr"})
"""Brands of the same list that only say that a file holds pictures; without another brand these are HEIC."""


def read_header(data: bytes, limits: DecodeLimits) -> ImageHeader:
    """Check a picture's bytes, format, size and scans against limits before anything decodes it.

    Args:
        data: the encoded picture, whatever its name or declared type.
        limits: what the picture may have.

    Raises:
        BadImageError: the picture is empty, too long, none of JPEG, PNG, WebP,
            GIF and MPO, or claims more than a limit; then the message has the claim and the limit.
    """
    if not data:
        raise BadImageError("picture is empty: 0 bytes")
    _check_length(data, limits)
    if data.startswith(_JPEG):
        return _jpeg_header(data, limits, jpeg_segments(data))
    name, size_px = _format_of(data)
    try:
        width_px, height_px = size_px(data)
    except (struct.error, IndexError) as error:
        raise _ends_in_header(name, data) from error
    check_size(width_px, height_px, limits)
    return ImageHeader(name, width_px, height_px)


def unturned_size(data: bytes, limits: DecodeLimits) -> tuple[int, int] | None:
    """Return width and height of a JPEG that nothing can turn, because it has no segment in which EXIF or XMP stand.

    None: the picture's orientation has to be read, which a child does.

    Raises:
        BadImageError: the header is refused.
    """
    if not data.startswith(_JPEG):
        return None
    _check_length(data, limits)
    segments, head = jpeg_segments(data), []
    for segment in segments:
        head.append(segment)
        if segment[0] == _METADATA:
            return None
        if segment[0] == START_OF_SCAN:
            header = _jpeg_header(data, limits, chain(head, segments))
            return header.width_px, header.height_px
    return None  # it is cut off, which the child reports


def _check_length(data: bytes, limits: DecodeLimits) -> None:
    if len(data) > limits.max_bytes:
        raise BadImageError(f"picture has {len(data):,} bytes; the limit is {limits.max_bytes:,}")


def _ends_in_header(name: str, data: bytes) -> BadImageError:
    return BadImageError(f"picture is broken: a {name} of {len(data):,} bytes that ends in its header")


def _jpeg_header(data: bytes, limits: DecodeLimits, segments: Iterable[tuple[int, int]]) -> ImageHeader:
    """Read the first start of frame (ITU-T T.81, B.2.2), and count the scans, in one pass over a JPEG's segments.

    Raises:
        BadImageError: the picture has no frame, has too many scans, or claims more pixels than the limits allow or
            its bytes can hold.
    """
    frame, width_px, height_px, scans = None, 0, 0, 0
    for marker, at in segments:
        if marker == START_OF_SCAN:
            scans += 1
        elif marker in _FRAMES and frame is None and scans == 0 and at + 7 <= len(data):
            frame, (height_px, width_px) = marker, struct.unpack_from(">HH", data, at + 3)
    if frame is None:
        raise _ends_in_header("JPEG", data)
    check_size(width_px, height_px, limits)
    if scans > limits.max_scans:
        raise BadImageError(f"picture has {scans:,} scans; the limit is {limits.max_scans:,}")
    if len(data) * 8 < _BITS_PER_BLOCK.get(frame, 0) * (width_px // 8) * (height_px // 8):
        raise BadImageError(
            f"picture is truncated: {len(data):,} bytes can't hold the {width_px * height_px:,} pixels that it claims"
        )
    return ImageHeader("JPEG", width_px, height_px)


def check_size(width_px: int, height_px: int, limits: DecodeLimits) -> None:
    """Refuse a size that is empty or over the limits.

    Raises:
        BadImageError: the message has the value found and the limit.
    """
    if width_px < 1 or height_px < 1:
        raise BadImageError(f"picture is {width_px} x {height_px} pixels; the least is 1 x 1")
    if width_px * height_px > limits.max_pixels:
        raise BadImageError(f"picture has {width_px * height_px:,} pixels; the limit is {limits.max_pixels:,}")
    if max(width_px, height_px) > MAX_SIDE_PX:
        raise BadImageError(f"picture is {width_px:,} x {height_px:,} pixels; the limit of a side is {MAX_SIDE_PX:,}")


_JPEG = b"\xff\xd8\xff"
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_NO_LENGTH = frozenset({0x01, 0xD8})
START_OF_SCAN = 0xDA
_METADATA = 0xE1
_END_OF_IMAGE = 0xD9
_NEXT_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # stuffed bytes and restarts belong to the pixels
"""JPEG's markers are listed in ITU-T T.81, table B.1."""

MAX_SEGMENTS = 10_000
"""A JPEG may have so many segments. One of 200 scans has about 600, and 25 MB of metadata take 400; hostile bytes of
the same length hold 12 million, and a worker would do nothing else for seconds."""

_BITS_PER_BLOCK = {0xC0: 2, 0xC1: 2, 0xC2: 1}
"""The fewest bits that 8 x 8 pixels take, by start of frame: a Huffman code each for DC and end of block; in a
progressive JPEG, one for DC alone.

libjpeg fills what is missing with grey and reports no error, so a false size has to be found here."""


def _format_of(data: bytes) -> tuple[str, Callable[[bytes], tuple[int, int]]]:
    """Return the name of a format other than JPEG, and the reader of its size."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG", _png_size_px
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF", _gif_size_px
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP", _webp_size_px
    raise BadImageError(f"picture is {_refused_name(data)}; accepted are JPEG, PNG, WebP and GIF")


def _refused_name(data: bytes) -> str:
    """Return the name, for a message, of a format that isn't accepted."""
    for offset, magic, name in _REFUSED:
        if data.startswith(magic, offset):
            return name
    if data[4:8] == b"ftyp":
        return _name_of_brands(data)
    start = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in start:
        return "SVG"
    if start.startswith((b"<!doctype html", b"<html")):
        return "HTML"
    if start.startswith(b"<?xml"):
        return "XML"
    return "not an image"


def _name_of_brands(data: bytes) -> str:
    """Return the name of an ISO base media file's format: by its major brand, else by its compatible brands."""
    size = min(int.from_bytes(data[:4], "big"), 512)
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, size - 3, 4))]
    for brand in brands:
        for known, name in _BRANDS:
            if brand in known:
                return name
    return "a video" if _BRANDS_OF_ANY_PICTURE.isdisjoint(brands) else "HEIC"


def _png_size_px(data: bytes) -> tuple[int, int]:
    width_px, height_px = struct.unpack_from(">II", data, 16)
    return width_px, height_px


def _gif_size_px(data: bytes) -> tuple[int, int]:
    width_px, height_px = struct.unpack_from("<HH", data, 6)
    return width_px, height_px


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the marker of each segment of the first picture, and where its length stands (ITU-T T.81, B.1.1).

    Thumbnails inside of segments and whatever follows the picture's end (a
    second picture, a phone's video) are left out. A file that is cut off ends early.

    Raises:
        BadImageError: the picture has more than MAX_SEGMENTS segments.
    """
    at, count = 2, 0
    while (found := _NEXT_MARKER.search(data, at)) and (marker := data[found.end() - 1]) != _END_OF_IMAGE:
        count += 1
        if count > MAX_SEGMENTS:
            raise BadImageError(f"picture has more than {MAX_SEGMENTS:,} segments, which is the limit")
        at = found.end()
        yield marker, at
        if marker not in _NO_LENGTH:
            if at + 2 > len(data):
                return
            at += int.from_bytes(data[at : at + 2], "big")


def _webp_size_px(data: bytes) -> tuple[int, int]:
    """Read the size from VP8X, VP8L or VP8 (RFC 9649); Pillow's reader would allocate the canvas first."""
    chunk = data[12:16]
    if chunk == b"VP8X":
        canvas = data[24:30]
        return 1 + int.from_bytes(canvas[:3], "little"), 1 + int.from_bytes(canvas[3:], "little")
    if chunk == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 ":
        width_px, height_px = struct.unpack_from("<HH", data, 26)
        return width_px & 0x3FFF, height_px & 0x3FFF
    raise IndexError
