"""Small ICC profiles: built for pictures that declare their colours by other means, and read for linear light.

Source: ICC.1:2001-04 (version 2.4), sections 6.1, 6.2, 6.5.3 and 6.5.14; Bradford adaptation as in annex E.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float]

_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_CURVE_POINTS = 1024
_HEADER_BYTES = 128


@dataclass(frozen=True, slots=True)
class Chromaticities:
    """The CIE 1931 coordinates x and y of three primaries and of white."""

    red: Point
    green: Point
    blue: Point
    white: Point = (0.3127, 0.3290)

    @property
    def is_a_triangle(self) -> bool:
        """Return whether the primaries span colours, and white has a luminance."""
        (rx, ry), (gx, gy), (bx, by) = self.red, self.green, self.blue
        area = abs((gx - rx) * (by - ry) - (bx - rx) * (gy - ry)) / 2
        return area > 0.01 and min(ry, gy, by, self.white[1]) > 0.001  # noqa: PLR2004 - a hundredth of the diagram


BT709 = Chromaticities((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
BT2020 = Chromaticities((0.708, 0.292), (0.170, 0.797), (0.131, 0.046))
DISPLAY_P3 = Chromaticities((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
ADOBE_RGB = Chromaticities((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
"""Primaries of ITU-R BT.709 and BT.2020, of SMPTE EG 432-1 with white D65, and of Adobe RGB (1998)."""

ADOBE_GAMMA = 563 / 256


def srgb_to_linear(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Decode sRGB levels to linear light, both 0 to 1 (IEC 61966-2-1)."""
    return np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)  # noqa: PLR2004 - the standard's


def linear_to_srgb(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """Encode linear light as sRGB levels, both 0 to 1 (IEC 61966-2-1); what lies outside clips."""
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)  # noqa: PLR2004 - the standard's


def matrix_profile(primaries: Chromaticities, gamma: float | None) -> bytes:
    """Build a profile of three primaries and one curve.

    Args:
        primaries: of the pixels.
        gamma: the exponent that turns a level into linear light; None means sRGB's curve.
    """
    return _profile(_columns_in_d50(primaries), gamma)


def with_srgb_curve(profile: bytes) -> bytes:
    """Return a matrix profile with the same primaries and sRGB's curve.

    Raises:
        ValueError: the profile has no primaries of its own.
    """
    tags = _tags(profile)
    columns = np.array([_xyz(tags[name]) for name in (b"rXYZ", b"gXYZ", b"bXYZ") if name in tags])
    if columns.shape != (3, 3):
        raise ValueError("no matrix profile")
    return _profile(columns, None)


def tone_curve(profile: bytes) -> NDArray[np.float64] | None:
    """Return the linear light, 0 to 1, of 65,536 evenly spaced levels; None if the channels don't share a curve."""
    tags = _tags(profile)
    curves = {tags.get(name) for name in (b"rTRC", b"gTRC", b"bTRC")} if b"rTRC" in tags else {tags.get(b"kTRC")}
    if len(curves) != 1 or (curve := curves.pop()) is None:
        return None
    levels = np.linspace(0, 1, 65_536)
    if curve[:4] != b"curv":
        return None  # profiles of version 4 have parametric curves for encodings like sRGB, whose shadows 8 bits hold
    (count,) = struct.unpack_from(">I", curve, 8)
    if count == 0:
        return levels
    if count == 1:
        return np.asarray(levels ** (struct.unpack_from(">H", curve, 12)[0] / 256))
    points = np.frombuffer(curve, ">u2", count, 12) / 65_535
    return np.interp(levels, np.linspace(0, 1, count), points)


def _columns_in_d50(primaries: Chromaticities) -> NDArray[np.float64]:
    """Return the XYZ of red, green and blue, one a row, adapted from the primaries' white to D50."""
    colours = np.array([_to_xyz(point) for point in (primaries.red, primaries.green, primaries.blue)])
    white = _to_xyz(primaries.white)
    columns = colours * np.linalg.solve(colours.T, white)[:, None]
    adapted = np.linalg.inv(_BRADFORD) @ np.diag((_BRADFORD @ _D50) / (_BRADFORD @ white)) @ _BRADFORD
    return np.asarray(columns @ adapted.T)


def _to_xyz(point: Point) -> NDArray[np.float64]:
    x, y = point
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _profile(columns: NDArray[np.float64], gamma: float | None) -> bytes:
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 9) + b"darkroom\0" + bytes(78),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": _xyz_tag(_D50),
        **{name: _xyz_tag(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)},
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _curve_tag(gamma)),
    }
    at, body, table = _HEADER_BYTES + 4 + 12 * len(tags), b"", struct.pack(">I", len(tags))
    for name, content in tags.items():
        table += name + struct.pack(">II", at + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    size = at + len(body)
    header = struct.pack(">I", size) + bytes(4) + b"\x02\x40\0\0mntrRGB XYZ " + struct.pack(">6H", 2026, 1, 1, 0, 0, 0)
    header = (header + b"acsp").ljust(68, b"\0") + b"".join(_fixed(value) for value in _D50)
    return header.ljust(_HEADER_BYTES, b"\0") + table + body


def _curve_tag(gamma: float | None) -> bytes:
    if gamma is not None:
        return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    light = srgb_to_linear(np.linspace(0, 1, _CURVE_POINTS))
    return b"curv\0\0\0\0" + struct.pack(">I", _CURVE_POINTS) + np.round(light * 65_535).astype(">u2").tobytes()


def _xyz_tag(value: NDArray[np.float64]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(_fixed(float(part)) for part in value)


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65_536))


def _xyz(tag: bytes) -> list[float]:
    return [part / 65_536 for part in struct.unpack_from(">3i", tag, 8)]


def _tags(profile: bytes) -> Mapping[bytes, bytes]:
    """Return a profile's tags by name; an empty mapping where its table is broken."""
    try:
        (count,) = struct.unpack_from(">I", profile, _HEADER_BYTES)
        entries = [struct.unpack_from(">4sII", profile, _HEADER_BYTES + 4 + 12 * n) for n in range(min(count, 100))]
    except struct.error:
        return {}
    return {name: profile[at : at + size] for name, at, size in entries}
