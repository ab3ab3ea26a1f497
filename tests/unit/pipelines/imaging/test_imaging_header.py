import io
import re
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.errors import BadImageError
from pipelines.imaging import header
from pipelines.imaging.decode import decode
from pipelines.imaging.header import MAX_SEGMENTS, DecodeLimits, jpeg_segments, read_header, unturned_size
from pipelines.imaging.orientation import oriented_size
from tests.support.imaging_pictures import (
    animated_gif,
    encoded,
    jpeg_claiming,
    jpeg_of_scans,
    oriented,
    photo,
    png_bomb,
    png_chunk,
)

LIMITS = DecodeLimits()


class Searches:
    """A pattern that notes from where each search for a marker began."""

    def __init__(self, pattern: re.Pattern[bytes]) -> None:
        self._pattern = pattern
        self.starts: list[int] = []

    def search(self, data: bytes, at: int) -> re.Match[bytes] | None:
        self.starts.append(at)
        return self._pattern.search(data, at)


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> Searches:
    counted = Searches(header._NEXT_MARKER)
    monkeypatch.setattr(header, "_NEXT_MARKER", counted)
    return counted


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True, "comment": b"x" * 300}),
        ("PNG", {}),
        ("GIF", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"quality": 50}),
        ("WEBP", {"quality": 50, "xmp": b"<x/>"}),
    ],
)
def test_header_of_accepted_format_gives_its_size(kind: str, options: dict[str, Any]) -> None:
    header = read_header(encoded(photo(123, 45), kind, **options), LIMITS)

    assert (header.format, header.width_px, header.height_px) == (kind, 123, 45)


def test_header_of_webp_animation_gives_its_canvas() -> None:
    frames = [photo(30, 20), photo(30, 20).rotate(180)]
    header = read_header(encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:]), LIMITS)

    assert (header.width_px, header.height_px) == (30, 20)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "picture is empty: 0 bytes"),
        (b"hello, world", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
        (b"%PDF-1.7", "PDF"),
        (b"II*\0" + bytes(60), "TIFF"),
        (b"\0\0\0\x18ftypheic" + bytes(60), "HEIC"),
        (b"\0\0\0\x18ftypavif" + bytes(60), "AVIF"),
        (b"BM" + bytes(60), "BMP"),
        (b"v/1\x01\2" + bytes(60), "OpenEXR"),
        (b"#?RADIANCE\n" + bytes(60), "Radiance HDR"),
        (b"qoif" + bytes(60), "QOI"),
        (b"\0\0\2\0" + bytes(60), "ICO"),
        (b"RIFF\0\0\0\0AVI LIST" + bytes(60), "a video"),
        (b"FLV\1" + bytes(60), "a video"),
        (b"\0\0\1\xba" + bytes(60), "a video"),
        (b"<!DOCTYPE html><html>", "HTML"),
        (b"<?xml version='1.0'?><svg onload='x'/>", "SVG"),
        (b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>", "XML"),
        (b"\x89PNG\r\n\x1a\n", "ends in its header"),
        (b"\xff\xd8\xff\xe0", "ends in its header"),
        (b"\xff\xd8\xff\xd9", "ends in its header"),
        (b"\xff\xd8\xff" + b"\xe0\0\2\xff" * 3, "ends in its header"),
        (b"RIFF\0\0\0\0WEBPjunkjunk", "ends in its header"),
        (b"GIF89a", "ends in its header"),
    ],
)
def test_header_of_anything_else_is_refused_and_named(data: bytes, words: str) -> None:
    with pytest.raises(BadImageError, match=words):
        read_header(data, LIMITS)


def test_header_of_too_many_bytes_names_both_numbers() -> None:
    with pytest.raises(BadImageError, match="picture has 1,001 bytes; the limit is 1,000"):
        read_header(b"x" * 1001, DecodeLimits(max_bytes=1000))


def test_header_of_png_bomb_names_both_numbers() -> None:
    bomb = png_bomb(30_000)
    assert len(bomb) < 1_000_000

    with pytest.raises(BadImageError, match="picture has 900,000,000 pixels; the limit is 64,000,000"):
        read_header(bomb, LIMITS)


def test_header_of_small_jpeg_claiming_much_is_refused() -> None:
    lie = jpeg_claiming(12_000, 12_000)
    assert len(lie) < 4_000

    with pytest.raises(BadImageError, match="picture has 144,000,000 pixels; the limit is 64,000,000"):
        read_header(lie, LIMITS)


def test_header_of_strip_beyond_a_side_is_refused() -> None:
    with pytest.raises(BadImageError, match="the limit of a side is 65,535"):
        read_header(encoded(Image.new("1", (65_536, 1)), "PNG"), LIMITS)


def test_header_without_pixels_is_refused() -> None:
    data = bytearray(animated_gif())
    data[6:8] = b"\0\0"

    with pytest.raises(BadImageError, match="0 x 10 pixels"):
        read_header(bytes(data), LIMITS)


def test_header_of_thousand_scans_is_refused() -> None:
    with pytest.raises(BadImageError, match="picture has 1,000 scans; the limit is 200"):
        read_header(jpeg_of_scans(1000, 64), LIMITS)


def test_header_of_jpeg_counts_no_scans_in_what_follows_it() -> None:
    video = b"\xff\xda" * 1000  # phones append one to a photograph

    assert read_header(encoded(photo(), "JPEG", comment=video) + video, LIMITS).width_px == 64


def test_header_of_every_cut_picture_is_read_or_refused() -> None:
    for kind in ("JPEG", "PNG", "GIF", "WEBP"):
        data = encoded(photo(), kind)
        for length in range(min(len(data), 700)):
            try:
                header = read_header(data[:length], LIMITS)
            except BadImageError:
                continue
            assert (header.width_px, header.height_px) == Image.open(io.BytesIO(data)).size


@pytest.mark.parametrize("options", [{}, {"progressive": True, "comment": b"x" * 300, "dpi": (72, 72)}])
def test_size_of_a_jpeg_without_metadata_needs_no_child(options: dict[str, Any]) -> None:
    data = encoded(photo(123, 45), "JPEG", **options)

    assert unturned_size(data, LIMITS) == oriented_size(data, LIMITS) == (123, 45)


@pytest.mark.parametrize(
    "data",
    [
        oriented(photo(), 6, "JPEG"),
        encoded(photo(), "JPEG", xmp=b"<x:xmpmeta xmlns:x='adobe:ns:meta/' tiff:Orientation='6'/>"),
        encoded(photo(), "PNG"),
        encoded(photo(), "WEBP"),
        encoded(photo(), "JPEG")[:100],
        b"",
    ],
    ids=["EXIF", "XMP", "PNG", "WebP", "cut off", "empty"],
)
def test_picture_that_may_be_turned_is_left_to_a_child(data: bytes) -> None:
    assert unturned_size(data, LIMITS) is None


def test_size_without_a_child_is_refused_beyond_the_limits_all_the_same() -> None:
    with pytest.raises(BadImageError, match="the limit is 100"):
        unturned_size(encoded(photo(), "JPEG"), DecodeLimits(max_pixels=100))


@pytest.mark.parametrize("at", [2, -2], ids=["before its scan", "after its scan"])
@pytest.mark.parametrize(
    "segment",
    [b"\xff\x01", b"\xff\xd8", b"\xff\xfe\0\2", b"\xff\xe2\0\2", b"\xff\xc4\0\2", b"\xff\xdd\0\4\0\0", b"\xff\xfe\0\0"],
    ids=["TEM", "start", "comment", "APP2", "tables", "restart interval", "no length"],
)
@pytest.mark.parametrize("read", [read_header, unturned_size])
def test_endless_segments_are_refused_after_bounded_steps(
    read: Any, segment: bytes, at: int, searches: Searches
) -> None:
    data = encoded(photo(), "JPEG")

    with pytest.raises(BadImageError, match="picture has more than 10,000 segments"):
        read(data[:at] + segment * 100_000 + data[at:], LIMITS)

    assert len(searches.starts) == MAX_SEGMENTS + 1


@pytest.mark.parametrize("read", [read_header, unturned_size])
def test_endless_scans_are_refused_after_bounded_steps(read: Any, searches: Searches) -> None:
    with pytest.raises(BadImageError, match="picture has more than 10,000 segments"):
        read(jpeg_of_scans(20_000, 16), LIMITS)

    assert len(searches.starts) == MAX_SEGMENTS + 1


@pytest.mark.parametrize(
    "filling", [b"\xff", b"\xff\0", b"\xff\xd0", b"\0"], ids=["fill", "stuffed", "restarts", "zeros"]
)
@pytest.mark.parametrize("read", [read_header, unturned_size])
def test_filling_is_passed_once_without_a_step_for_each_byte(read: Any, filling: bytes, searches: Searches) -> None:
    data = encoded(photo(), "JPEG")
    frame = data.index(b"\xff\xc0")

    read(data[:frame] + filling * 100_000 + data[frame:-2] + filling * 100_000 + data[-2:], LIMITS)

    assert len(searches.starts) < 20
    assert searches.starts == sorted(set(searches.starts))


def test_sound_jpeg_with_very_many_restarts_is_one_scan(searches: Searches) -> None:
    grain = np.random.default_rng(3).integers(0, 255, (1024, 1024), np.uint8)
    data = encoded(Image.fromarray(grain), "JPEG", restart_marker_blocks=1)
    assert len(re.findall(rb"\xff[\xd0-\xd7]", data)) > MAX_SEGMENTS

    assert unturned_size(data, LIMITS) == (1024, 1024)
    assert len(searches.starts) < 20
    assert decode(data, LIMITS).width_px == 1024


def test_sound_jpeg_with_thousands_of_segments_is_accepted() -> None:
    data = encoded(photo(), "JPEG", progressive=True)
    metadata = b"".join(b"\xff" + bytes([0xE1 + number % 2]) + b"\0\x40" + bytes(0x3E) for number in range(5_000))

    long = data[:2] + metadata + data[2:]

    assert (read_header(long, LIMITS).width_px, decode(long, LIMITS).width_px) == (64, 64)


def test_jpeg_with_as_many_segments_as_the_limit_is_read() -> None:
    data = encoded(photo(), "JPEG")
    more = MAX_SEGMENTS - len(list(jpeg_segments(data)))

    assert unturned_size(data[:2] + b"\xff\xfe\0\2" * more + data[2:], LIMITS) == (64, 48)
    with pytest.raises(BadImageError):
        unturned_size(data[:2] + b"\xff\xfe\0\2" * (more + 1) + data[2:], LIMITS)


def test_sound_png_with_very_many_chunks_is_accepted() -> None:
    grain = np.random.default_rng(3).integers(0, 255, (200, 100), np.uint8)
    data = encoded(Image.fromarray(grain), "PNG")
    start = data.index(b"IDAT") - 4
    length = int.from_bytes(data[start : start + 4], "big")
    packed = data[start + 8 : start + 8 + length]
    small = b"".join(png_chunk(b"IDAT", packed[at : at + 1]) for at in range(len(packed)))
    assert len(packed) > MAX_SEGMENTS

    many = data[:start] + small + data[start + 12 + length :]

    assert read_header(many, LIMITS).width_px == 100
    assert np.array_equal(decode(many, LIMITS).pixels[..., 0], grain)
