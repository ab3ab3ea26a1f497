"""The chunks of a PNG: removal of those that its picture doesn't need, and the profile of its colours.

Source: PNG specification, third edition (W3C, 2025-06-24), sections 5 and 11; ITU-T H.273 (2021) for cICP.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from pipelines.errors import BadImageError
from pipelines.imaging.profiles import BT709, BT2020, DISPLAY_P3, Chromaticities, matrix_profile

SIGNATURE = b"\x89PNG\r\n\x1a\n"

MAX_PROFILE_BYTES = 1_000_000
"""An unpacked profile may have so many bytes. Pillow refuses a picture whose profile unpacks past one mebibyte, and no
honest RGB profile is so long."""

_NEEDED = frozenset(
    {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT"}  # the pixels, and those of an animation
    | {b"iCCP", b"cICP", b"sRGB", b"gAMA", b"cHRM", b"eXIf"}  # their colours and orientation
)

_DISPLAY_GAMMA = 0.45455
_GAMMA_TOLERANCE = 0.02
"""Programs write a gAMA this near to 1/2.2 beside sRGB pixels, and viewers show these as they are."""

_PRIMARIES = {1: BT709, 9: BT2020, 12: DISPLAY_P3}
_SRGB_LIKE = frozenset({1, 6, 13, 14, 15})
_LINEAR = 8
_HDR = {16: "PQ", 18: "HLG"}
"""These codes are from H.273: primaries from table 2, transfer characteristics from table 3."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk as it stands in the file."""

    kind: bytes
    body: memoryview = field(repr=False)
    whole: memoryview = field(repr=False)
    checksum: int

    @property
    def is_intact(self) -> bool:
        """Return whether the checksum is that of the chunk's content."""
        return zlib.crc32(self.body, zlib.crc32(self.kind)) == self.checksum

    @property
    def is_critical(self) -> bool:
        """Return whether the picture can't be decoded without this chunk."""
        return not self.kind[0] & 0x20


def chunks(data: bytes) -> Iterator[Chunk]:
    """Yield the chunks of a PNG up to its end, or up to the point at which the file was cut off."""
    view, at = memoryview(data), len(SIGNATURE)
    while at + 12 <= len(view):
        (length,) = struct.unpack_from(">I", view, at)
        end = at + 12 + length
        if end > len(view):
            return
        kind = bytes(view[at + 4 : at + 8])
        (checksum,) = struct.unpack_from(">I", view, end - 4)
        yield Chunk(kind, view[at + 8 : end - 4], view[at:end], checksum)
        if kind == b"IEND":
            return
        at = end


def without_the_unneeded(data: bytes) -> bytes:
    """Return a PNG without what viewers ignore: texts of any length, and broken chunks that the picture doesn't need.

    A file that is cut off stays so, and its decoder reports it.
    """
    kept, end = [data[: len(SIGNATURE)]], len(SIGNATURE)
    is_same = True
    for chunk in chunks(data):
        end += len(chunk.whole)
        is_kept = chunk.is_critical or (chunk.kind in _NEEDED and chunk.is_intact and not _is_too_long(chunk))
        is_same = is_same and is_kept
        if is_kept:
            kept.append(bytes(chunk.whole))
    return data if is_same else b"".join((*kept, data[end:] if kept[-1][4:8] != b"IEND" else b""))


def _is_too_long(chunk: Chunk) -> bool:
    return chunk.kind == b"iCCP" and _unpacked_profile(chunk.body) is None


def _unpacked_profile(body: memoryview) -> bytes | None:
    """Unpack an embedded profile; return None where it is broken or too long."""
    _, _, rest = bytes(body).partition(b"\0")
    unpacking = zlib.decompressobj()
    try:
        profile = unpacking.decompress(rest[1:], MAX_PROFILE_BYTES)
    except zlib.error:
        return None
    return profile if unpacking.eof else None


def bit_depth(data: bytes) -> int:
    """Return the bits of one sample, from the header."""
    return data[24] if len(data) > 24 else 0  # noqa: PLR2004 - PNG, 11.2.1


def profile_of(data: bytes) -> bytes | None:
    """Return the ICC profile of a PNG's pixels; None means sRGB.

    If another chunk than iCCP declares the colours, a profile is built from it. cICP has precedence over iCCP, iCCP
    over sRGB, and sRGB over gAMA and cHRM (PNG, 12.1).

    Raises:
        BadImageError: the picture is HDR, so its levels stand for light that sRGB can't show.
    """
    told = {chunk.kind: chunk.body for chunk in chunks(data) if chunk.kind in _NEEDED and chunk.is_intact}
    if b"cICP" in told and len(told[b"cICP"]) == 4:  # noqa: PLR2004 - PNG, 11.3.2.6
        primaries, transfer = told[b"cICP"][0], told[b"cICP"][1]
        if transfer in _HDR:
            raise BadImageError(f"picture is HDR ({_HDR[transfer]}); accepted are pictures of standard range")
        if primaries in _PRIMARIES and (transfer in _SRGB_LIKE or transfer == _LINEAR):
            is_plain = primaries == 1 and transfer in _SRGB_LIKE
            return None if is_plain else matrix_profile(_PRIMARIES[primaries], 1.0 if transfer == _LINEAR else None)
    if b"iCCP" in told:
        return _unpacked_profile(told[b"iCCP"])
    if b"sRGB" in told or b"gAMA" not in told or len(told[b"gAMA"]) != 4:  # noqa: PLR2004 - PNG, 11.3.2.2
        return None
    gamma = int.from_bytes(told[b"gAMA"], "big") / 100_000
    if not 0.1 <= gamma <= 10 or abs(gamma - _DISPLAY_GAMMA) <= _GAMMA_TOLERANCE:  # noqa: PLR2004 - no real encoding
        return None
    return matrix_profile(_chromaticities(told.get(b"cHRM")), 1 / gamma)


def _chromaticities(body: memoryview | None) -> Chromaticities:
    """Read cHRM (white, red, green, blue as x and y, times 100,000).

    Return BT.709's values if the chunk is missing or invalid.
    """
    if body is None or len(body) != 32:  # noqa: PLR2004 - PNG, 11.3.2.1
        return BT709
    numbers = [number / 100_000 for number in struct.unpack(">8I", body)]
    white, red, green, blue = zip(numbers[::2], numbers[1::2], strict=True)
    found = Chromaticities(red, green, blue, white)
    return found if found.is_a_triangle else BT709
