"""Checks of a JPEG's bytes for a missing end, a hole in the middle, and a lack of memory.

libjpeg fills missing pixels with grey and only warns. Pillow drops its warnings; OpenCV's decoder lets libjpeg write
them to standard error, where they are read here.
"""

import contextlib
import os
import resource
import struct
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from pipelines.imaging.header import BYTES_PER_PIXEL, START_OF_SCAN, jpeg_segments

END = b"\xff\xd9"

HOLE_BYTES = 64
"""A run of so many equal bytes comes from a bad card, an upload that was resumed wrongly, or a flat picture."""

_RUNS = (bytes(HOLE_BYTES), b"\xff" * HOLE_BYTES)

PADDING_BYTES = 4
"""A scan may end in so many bytes of zeros and ones, which look like padding where the end marker is missing."""

_HUFFMAN_TABLES = 0xC4

GRADIENT_BAND = 2
"""A progressive scan of at most so many coefficients may hold the same ones for each block of a gradient."""

_MINUS_ONE = 0x01
"""The symbol of a coefficient of 1 or -1 behind no zeros (ITU-T T.81, F.1.2.2); a bit 0 behind its code means -1."""

_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_MISSING = b"premature end"
_MOST_WARNING_BYTES = 4_096


def with_its_end(data: bytes) -> bytes:
    """Return a JPEG with an end marker behind its first picture; `data` itself if it has that marker already.

    Raises:
        OSError: pixels are missing, at the end or in a hole.
    """
    if _has_impossible_zeros(data):
        raise OSError("pixels are missing: there is a hole of zeros in them")
    found = _scans(data)
    if found is None:
        return data  # it has no pixels, which the decoder reports
    start, end, is_complete = found
    content = data[start:end] if end is not None else data[start:].rstrip(b"\0\xff")
    has_hole = any(content.find(run) >= 0 for run in _RUNS)
    if end is not None and not has_hole:
        return data
    whole, warning = (data, _warning(data)) if end is not None else _ended(data)
    # without a hole, bytes behind the pixels are a phone's trailer; with one, they are pixels that the hole displaced
    if _MISSING in warning or (has_hole and warning) or (end is None and not is_complete):
        raise OSError(f"pixels are missing: {warning.decode(errors='replace').strip() or 'a scan is cut off'}")
    return whole


def rgb_of(data: bytes) -> NDArray[np.uint8] | None:
    """Decode a JPEG of red, green and blue into height x width x 3, with a third of the CPU that Pillow takes.

    Both have libjpeg-turbo decode, to the same pixels; this writes them where they are needed, once.

    Returns:
        The pixels; None if libjpeg has any objection, of which Pillow decides whether it is an error.
    """
    try:
        return np.asarray(simplejpeg.decode_jpeg(data), np.uint8)
    except ValueError:
        return None


def _ended(data: bytes) -> tuple[bytes, bytes]:
    """Return a JPEG without an end marker with one, and libjpeg's first warning about it.

    Bytes 00 and FF at the end of the file are left out as padding, unless the last scan lacks some of them. A flat
    picture may lack all of them: its last scan is whole if libjpeg needs exactly as many, and its tables allow zeros.
    """
    kept = len(data.rstrip(b"\0\xff"))
    whole = data[:kept] + END
    warning = _warning(whole)
    if _MISSING in warning:
        lengths = [kept + more for more in range(1, PADDING_BYTES + 1)]
        if [may_have_zeros for _, may_have_zeros in _contents(data)][-1:] == [True]:
            lengths.append(len(data))
        for length in lengths:
            longer = data[:length] + END
            if not _warning(longer):
                return longer, b""
    return whole, warning


def _scans(data: bytes) -> tuple[int, int | None, bool] | None:
    """Return where the first picture's scans begin and end, and whether they hold every bit of every coefficient.

    A scan's end is None if no marker follows it. The whole result is None for a picture without scans.
    """
    first, last, missing = None, 2, set[tuple[int, int]]()
    with contextlib.suppress(IndexError):  # it is cut off within a segment
        for marker, at in jpeg_segments(data):
            last = at
            if marker in _PROGRESSIVE:
                missing = {(data[at + 8 + 3 * n], k) for n in range(data[at + 7]) for k in range(64)}
            elif marker == START_OF_SCAN:
                first = at if first is None else first
                missing -= _finished_by(data, at)
    if first is None:
        return None
    end = data.find(END, last)
    return first, end if end >= 0 else None, not missing


def _has_impossible_zeros(data: bytes) -> bool:
    """Return whether a scan holds a run of zeros, other than at its end, that its Huffman tables rule out.

    An encoder writes so many zeros only for parts that are flat or darken evenly: each block is one step of DC, and a
    code of zeros alone that ends its AC (ITU-T T.81, F.1.2 and G.1.2). libjpeg decodes any other run without a warning
    if it needs about as many blocks for it as were there.
    """
    return _RUNS[0] in data and any(
        _RUNS[0] in content.rstrip(b"\0\xff") for content, may_have_zeros in _contents(data) if not may_have_zeros
    )


def _contents(data: bytes) -> Iterator[tuple[bytes, bool]]:
    """Yield the bytes of each scan, and whether a long run of zeros in them can be flat parts of the picture."""
    codes_of_zeros: dict[int, int] = {}  # by class and number of the table: 0x00 is the first for DC, 0x10 for AC
    scan: tuple[int, bool] | None = None
    with contextlib.suppress(struct.error, IndexError):  # it is cut off within a segment
        for marker, at in jpeg_segments(data):
            if scan is not None:
                yield data[scan[0] : at - 2], scan[1]
            scan = None
            if marker == _HUFFMAN_TABLES:
                codes_of_zeros |= _codes_of_zeros(data, at)
            elif marker == START_OF_SCAN:
                (length,) = struct.unpack_from(">H", data, at)
                scan = at + length, _may_have_zeros(data, at, codes_of_zeros)
    if scan is not None:
        yield data[scan[0] :].partition(END)[0], scan[1]


def _codes_of_zeros(data: bytes, at: int) -> dict[int, int]:
    """Return the symbol that a code of zeros alone stands for, by table: its first one (ITU-T T.81, B.2.4.2 and C)."""
    end, symbols = at + struct.unpack_from(">H", data, at)[0], {}
    at += 2
    while at < end:
        symbols[data[at]] = data[at + 17]
        at += 17 + sum(data[at + 1 : at + 17])
    return symbols


def _may_have_zeros(data: bytes, at: int, codes_of_zeros: dict[int, int]) -> bool:
    """Return whether a long run of zeros in a scan can be flat parts of the picture (ITU-T T.81, B.2.3)."""
    count = data[at + 2]
    tables = [data[at + 4 + 2 * n] for n in range(count)]
    start, stop = data[at + 3 + 2 * count : at + 5 + 2 * count]
    symbols = {codes_of_zeros.get(0x10 | table & 0x0F, 0) for table in tables}
    # zeros may also be a step of -1 in the coefficients of a narrow band, which a diagonal gradient repeats
    is_gradient = start > 0 and stop - start < GRADIENT_BAND and symbols == {_MINUS_ONE}
    return stop == 0 or all(symbol & 0x0F == 0 for symbol in symbols) or is_gradient


def _finished_by(data: bytes, at: int) -> set[tuple[int, int]]:
    """Return the coefficients, by component, whose last bit a scan holds (ITU-T T.81, B.2.3 and G.1.1.1)."""
    count = data[at + 2]
    components = [data[at + 3 + 2 * n] for n in range(count)]
    start, stop, approximation = data[at + 3 + 2 * count : at + 6 + 2 * count]
    if approximation & 0x0F:
        return set()
    return {(component, k) for component in components for k in range(start, stop + 1)}


def _warning(data: bytes) -> bytes:
    """Decode at an eighth of the size, and return libjpeg's first warning; empty without one."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    saved = os.dup(2)
    try:
        os.dup2(write_end, 2)
        try:
            cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_8 | cv2.IMREAD_IGNORE_ORIENTATION)
        finally:
            os.dup2(saved, 2)
            os.close(write_end)
        return os.read(read_end, _MOST_WARNING_BYTES)
    finally:
        os.close(saved)
        os.close(read_end)


def is_out_of_memory(data: bytes) -> bool:
    """Return whether a progressive JPEG that couldn't be decoded needs more memory than this process may have.

    libjpeg keeps every coefficient of such a picture, 2 bytes each; Pillow reports a lack of memory as broken data.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return False
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    with contextlib.suppress(struct.error, IndexError):
        for marker, at in jpeg_segments(data):
            if marker in _PROGRESSIVE:
                height_px, width_px, count = struct.unpack_from(">HHB", data, at + 3)
                factors = [divmod(data[at + 9 + 3 * n], 16) for n in range(count)]
                most = max(across for across, _ in factors) * max(down for _, down in factors)
                samples = width_px * height_px * sum(across * down for across, down in factors) / most
                return bool(used + 2 * samples + BYTES_PER_PIXEL * width_px * height_px > limit)
    return False
