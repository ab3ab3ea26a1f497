"""What a JPEG's bytes show of its soundness: an end that is missing, and a hole in the middle.

libjpeg fills what is missing with grey and calls it a picture. Pillow keeps its warnings to itself; OpenCV's decoder
lets libjpeg write them to standard error, which is where they are read here.
"""

import contextlib
import os
import resource
import struct
from pathlib import Path

import cv2
import numpy as np

from pipelines.imaging.header import BYTES_PER_PIXEL, START_OF_SCAN, jpeg_segments

END = b"\xff\xd9"

HOLE_BYTES = 64
"""So long a run of one byte comes from a bad card or an upload that was resumed wrongly, or from a flat picture."""

_RUNS = (bytes(HOLE_BYTES), b"\xff" * HOLE_BYTES)

_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_MISSING = b"premature end"
_MOST_WARNING_BYTES = 4_096


def with_its_end(data: bytes) -> bytes:
    """Return a JPEG whose first picture has an end marker; the same bytes where it has one.

    Raises:
        OSError: pixels are missing, at its end or in a hole.
    """
    found = _scans(data)
    if found is None:
        return data  # no pixels at all: the decoder says so
    start, end, is_complete = found
    content = data[start:end] if end is not None else data[start:].rstrip(b"\0\xff")
    has_hole = any(content.find(run) >= 0 for run in _RUNS)
    if end is not None and not has_hole:
        return data
    whole = data if end is not None else data[:start] + content + END
    warning = _warning(whole)
    # what follows the pixels where the end should be is a phone's trailer; beside a hole it is what the hole displaced
    if _MISSING in warning or (has_hole and warning) or (end is None and not is_complete):
        raise OSError(f"pixels are missing: {warning.decode(errors='replace').strip() or 'a scan is cut off'}")
    return whole


def _scans(data: bytes) -> tuple[int, int | None, bool] | None:
    """Return where the first picture's scans begin and end, and whether they hold every bit of every coefficient.

    The end is None where the marker is missing; nothing is returned for a picture without scans.
    """
    first, last, missing = None, 2, set[tuple[int, int]]()
    with contextlib.suppress(struct.error, IndexError):  # cut off within a segment
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


def _finished_by(data: bytes, at: int) -> set[tuple[int, int]]:
    """Return the coefficients, by component, whose last bit a scan brings (ITU-T T.81, B.2.3 and G.1.1.1)."""
    count = data[at + 2]
    components = [data[at + 3 + 2 * n] for n in range(count)]
    start, stop, approximation = data[at + 3 + 2 * count : at + 6 + 2 * count]
    if approximation & 0x0F:
        return set()
    return {(component, k) for component in components for k in range(start, stop + 1)}


def _warning(data: bytes) -> bytes:
    """Decode at an eighth, and return what libjpeg complains of: its first warning, or nothing."""
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
    """Say whether a progressive JPEG that failed needs more memory than this process may have.

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
