"""Files as hostile users send them, made by code, each with the outcome that its job must have."""

import io
import random
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, PngImagePlugin

from tests.support.imaging_pictures import (
    CANARY,
    animated_gif,
    encoded,
    jpeg_claiming,
    jpeg_of_scans,
    oriented,
    photo,
    png_bomb,
    png_chunk,
    png_with,
    swapped_profile,
    telling_jpeg,
    telling_png,
    text_bomb,
)

End = Literal["accepted", "refused", "either"]


@dataclass(frozen=True)
class HostileFile:
    """Bytes, and how the job that has them must end; `either` is what only the decoder can say of damaged bytes."""

    name: str
    data: bytes
    end: End


def corpus(*, with_heavy: bool = True) -> list[HostileFile]:
    """Return all files, equal in each call; names are unique.

    Args:
        with_heavy: also those that take seconds each.
    """
    files = [
        *_odd_modes(),
        *_odd_shapes(),
        *_telling(),
        *_polyglots(),
        *_no_pictures(),
        *_truncated(),
        *_flipped(),
        *_lying(),
        *_bombs(),
    ]
    if with_heavy:
        files += _heavy()
    assert len({file.name for file in files}) == len(files)
    return files


def _bases() -> dict[str, bytes]:
    """One whole picture of each kind, grained: of an even one, a cut may take nothing that anyone could see."""
    grain = np.random.default_rng(7).integers(-20, 20, (64, 96, 1))
    picture = Image.fromarray(np.clip(np.asarray(photo(96, 64)) + grain, 0, 255).astype(np.uint8))
    return {
        "jpeg": encoded(picture, "JPEG", quality=85),
        "progressive": encoded(picture, "JPEG", quality=85, progressive=True),
        "png": encoded(picture, "PNG"),
        "webp": encoded(picture, "WEBP", quality=80),
        "lossless": encoded(picture, "WEBP", lossless=True),
        "gif": encoded(picture, "GIF"),
        "mpo": encoded(picture, "MPO", save_all=True, append_images=[picture.rotate(180)]),
    }


def _odd_modes() -> Iterator[HostileFile]:
    """Pictures that are whole, in every mode that the formats know."""
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        picture = Image.linear_gradient("L").convert("I;16") if mode == "I;16" else photo(50, 40).convert(mode)
        yield HostileFile(f"mode {mode}.png", encoded(picture, "PNG"), "accepted")
    for mode in ("L", "RGB", "CMYK", "YCbCr"):
        yield HostileFile(f"mode {mode}.jpg", encoded(photo(50, 40).convert(mode), "JPEG"), "accepted")
    for mode in ("RGB", "RGBA"):
        for is_lossless in (True, False):
            data = encoded(photo(50, 40).convert(mode), "WEBP", lossless=is_lossless)
            yield HostileFile(f"mode {mode} lossless {is_lossless}.webp", data, "accepted")
    for subsampling in (0, 1, 2):
        data = encoded(photo(45, 33), "JPEG", subsampling=subsampling, optimize=True)
        yield HostileFile(f"subsampling {subsampling}.jpg", data, "accepted")
    yield HostileFile("palette with transparency.png", encoded(photo().convert("P"), "PNG", transparency=0), "accepted")
    for name, profile in (("empty", b"\0"), ("garbage", b"\xff" * 3000), ("cut", swapped_profile()[:200])):
        yield HostileFile(f"{name} profile.png", encoded(photo(), "PNG", icc_profile=profile), "accepted")
    yield HostileFile("swapped profile.jpg", encoded(photo(), "JPEG", icc_profile=swapped_profile()), "accepted")


def _odd_shapes() -> Iterator[HostileFile]:
    """Sizes, orientations and frames that are allowed."""
    for width, height in ((1, 1), (1, 2), (2, 1), (7, 3), (16, 16), (1, 5000), (5000, 1), (8000, 40), (20_000, 1)):
        for kind in ("PNG", "JPEG", "GIF"):
            name = f"{width} x {height}.{kind.lower()}"
            yield HostileFile(name, encoded(Image.new("RGB", (width, height), (9, 99, 199)), kind), "accepted")
    for number in range(1, 9):
        for kind in ("JPEG", "PNG", "WEBP"):
            data = oriented(photo(40, 30), number, kind)
            yield HostileFile(f"orientation {number}.{kind.lower()}", data, "accepted")
    yield HostileFile("animated.gif", animated_gif(20), "accepted")
    frames = [photo(), photo().rotate(180)]
    for kind in ("WEBP", "PNG"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        yield HostileFile(f"animated.{kind.lower()}", data, "accepted")
    for number in (0, 9, 255, 65_535):
        yield HostileFile(f"orientation {number} of none.jpg", oriented(photo(40, 30), number, "JPEG"), "accepted")


def _telling() -> Iterator[HostileFile]:
    """A text to be searched for in every field of metadata."""
    yield HostileFile("canaries.jpg", telling_jpeg(), "accepted")
    yield HostileFile("canaries.png", telling_png(), "accepted")
    exif = Image.Exif()
    for tag in (0x010E, 0x010F, 0x0110, 0x013B, 0x8298, 0x9C9B):
        exif[tag] = CANARY.decode()
    exif.get_ifd(0x8825)[29] = CANARY.decode()
    exif.get_ifd(0x8769)[0x927C] = CANARY
    for kind in ("JPEG", "PNG", "WEBP", "MPO"):
        yield HostileFile(f"exif canary.{kind.lower()}", encoded(photo(), kind, exif=exif), "accepted")
    for kind in ("JPEG", "WEBP"):
        xmp = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>" + CANARY + b"</x:xmpmeta>"
        yield HostileFile(f"xmp canary.{kind.lower()}", encoded(photo(), kind, xmp=xmp), "accepted")
    for kind in ("JPEG", "PNG", "WEBP"):
        data = encoded(photo(), kind, icc_profile=swapped_profile() + CANARY)
        yield HostileFile(f"profile canary.{kind.lower()}", data, "accepted")
    for kind in ("JPEG", "GIF"):
        yield HostileFile(f"comment canary.{kind.lower()}", encoded(photo(), kind, comment=CANARY), "accepted")
    for kind in ("JPEG", "PNG", "GIF", "WEBP"):
        yield HostileFile(f"trailer canary.{kind.lower()}", encoded(photo(), kind) + CANARY * 50, "accepted")
    text = PngImagePlugin.PngInfo()
    for name in ("Author", "GPS", "prompt", "parameters"):
        text.add_text(name, CANARY.decode())
        text.add_itxt(name, CANARY.decode(), zip=True)
    yield HostileFile("text canaries.png", encoded(photo(), "PNG", pnginfo=text), "accepted")
    for chunk in (b"tIME", b"prVt", b"caBX", b"eXIf"):
        yield HostileFile(f"{chunk.decode()} canary.png", png_with(chunk, CANARY), "either")
    for marker in range(0xE0, 0xF0):
        body = CANARY * 3
        segment = bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body
        data = encoded(photo(), "JPEG")
        yield HostileFile(f"segment {marker:x} canary.jpg", data[:2] + segment + data[2:], "either")


def _polyglots() -> Iterator[HostileFile]:
    """Pictures that are something else as well: they pass, and only their pixels come out."""
    script = b"<script>alert('" + CANARY + b"')</script>"
    tails = {"zip": b"PK\x03\x04" + CANARY, "php": b"<?php echo '" + CANARY + b"';", "html": script, "pdf": b"%PDF-1.7"}
    for kind in ("JPEG", "PNG", "GIF", "WEBP"):
        for name, tail in tails.items():
            yield HostileFile(f"{name} behind.{kind.lower()}", encoded(photo(), kind) + tail, "accepted")
    yield HostileFile("script in a comment.jpg", encoded(photo(), "JPEG", comment=script), "accepted")
    yield HostileFile("script in a comment.gif", encoded(photo(), "GIF", comment=b"*/=1;" + script), "accepted")


def _no_pictures() -> Iterator[HostileFile]:
    """Files of formats that aren't accepted, whatever their names are."""
    for kind in ("TIFF", "BMP", "ICO", "PPM", "TGA", "PCX", "DDS", "SGI", "JPEG2000", "AVIF", "PDF", "EPS", "ICNS"):
        picture = photo(64, 64)
        yield HostileFile(f"a {kind} called.jpg", encoded(picture, kind), "refused")
    others = {
        "nothing": b"",
        "one byte": b"\xff",
        "zeros": bytes(5000),
        "text": b"this is no picture\n" * 100,
        "html": b"<!doctype html><html><body>404</body></html>",
        "s3 error": b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>',
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        "svg with entities": b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><svg>&a;</svg>',
        "postscript": b"%!PS-Adobe-3.0\n%%BoundingBox: 0 0 10 10\n(%pipe%id) (r) file\nshowpage\n",
        "mvg": b"push graphic-context\nviewbox 0 0 9 9\nfill 'url(https://127.0.0.1/)'\npop graphic-context",
        "zip": b"PK\x03\x04" + bytes(200),
        "gzip": b"\x1f\x8b" + bytes(200),
        "elf": b"\x7fELF" + bytes(200),
        "mp4": b"\0\0\0\x18ftypmp42" + bytes(200),
        "heic": b"\0\0\0\x18ftypheic" + bytes(200),
        "jpeg's first bytes": b"\xff\xd8\xff",
        "png's first bytes": b"\x89PNG\r\n\x1a\n",
        "gif's first bytes": b"GIF89a",
        "webp's first bytes": b"RIFF\0\0\0\0WEBP",
        "riff of sound": b"RIFF\x24\0\0\0WAVEfmt " + bytes(100),
        "picture behind html": b"<html>" + encoded(photo(), "JPEG"),
        "picture behind spaces": b"   " + encoded(photo(), "PNG"),
    }
    for name, data in others.items():
        yield HostileFile(name, data, "refused")


def _truncated() -> Iterator[HostileFile]:
    """Cut off at many places: what is missing must not become grey."""
    for name, data in _bases().items():
        if name == "mpo":
            continue  # its second picture may be missing
        for percent in (1, 3, 8, 15, 25, 40, 55, 70, 80, 90, 95):
            yield HostileFile(f"{name} cut at {percent} %", data[: len(data) * percent // 100], "refused")


def _flipped() -> Iterator[HostileFile]:
    """Damaged at random places, the same ones each time."""
    luck = random.Random(20261121)
    for name, data in _bases().items():
        for number in range(12):
            damaged = bytearray(data)
            for _ in range(luck.choice((1, 3, 20))):
                damaged[luck.randrange(3, len(damaged))] ^= 1 << luck.randrange(8)
            yield HostileFile(f"{name} damaged {number}", bytes(damaged), "either")


def _lying() -> Iterator[HostileFile]:
    """Headers that claim what the file doesn't contain."""
    for width, height in ((12_000, 12_000), (65_535, 65_535), (3000, 3000), (65_535, 1000)):
        yield HostileFile(f"jpeg claiming {width} x {height}", jpeg_claiming(width, height), "refused")
    png = encoded(photo(), "PNG")
    for width, height in ((2**31 - 1, 1), (0, 10), (10, 0), (100_000, 100_000), (640, 480), (2**32 - 1, 2**32 - 1)):
        header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        yield HostileFile(
            f"png claiming {width} x {height}", png[:8] + png_chunk(b"IHDR", header) + png[33:], "refused"
        )
    gif = bytearray(encoded(photo(), "GIF"))
    gif[6:10] = struct.pack("<HH", 65_535, 65_535)
    yield HostileFile("gif claiming 65535 x 65535", bytes(gif), "refused")
    webp = bytearray(encoded(photo(), "WEBP", exif=Image.Exif(), icc_profile=swapped_profile()))
    for side in (16_384, 8_000, 65):
        webp[24:27] = webp[27:30] = (side - 1).to_bytes(3, "little")
        yield HostileFile(f"webp claiming {side} x {side}", bytes(webp), "refused")
    yield HostileFile("png of bit depth 64", png[:24] + b"\x40" + png[25:], "refused")
    yield HostileFile("jpeg without tables", encoded(photo(), "JPEG").replace(b"\xff\xdb", b"\xff\xfe"), "refused")
    yield HostileFile("png without pixels", png[:33] + png_chunk(b"IEND", b""), "refused")


def _bombs() -> Iterator[HostileFile]:
    for side in (9_000, 30_000):
        yield HostileFile(f"png of {side} x {side} in a few bytes", png_bomb(side), "refused")
    gif = animated_gif(2)
    second = gif.index(b"\x21\xf9", gif.index(b"\x2c"))
    yield HostileFile("gif of 20,000 frames", gif[:second] + gif[second:-1] * 20_000 + gif[-1:], "accepted")
    yield HostileFile("jpeg of 1,000 scans", jpeg_of_scans(1000, 512), "refused")
    jpeg = encoded(photo(), "JPEG")
    for name, segment in (("TEM", b"\xff\x01"), ("empty comments", b"\xff\xfe\0\2")):
        yield HostileFile(f"jpeg of 100,000 {name}", jpeg[:2] + segment * 100_000 + jpeg[2:], "refused")
        yield HostileFile(f"jpeg with 100,000 {name} at its end", jpeg[:-2] + segment * 100_000 + jpeg[-2:], "refused")
    yield HostileFile("too many bytes", encoded(photo(), "JPEG") + bytes(25_000_000), "refused")
    header = struct.pack(">IIBBBBB", 64, 48, 8, 2, 0, 0, 0)
    packed = zlib.compress(bytes(50_000_000), 9)
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        png_chunk(name, body) for name, body in ((b"IHDR", header), (b"IDAT", packed), (b"IEND", b""))
    )
    yield HostileFile("png whose pixels unpack to 50 MB", data, "either")


def _heavy() -> Iterator[HostileFile]:
    """At the limits: they pass, in the memory of one child, or say which limit they meet."""
    for name in (b"zTXt", b"iTXt", b"iCCP"):
        yield HostileFile(f"{name.decode()} of 200 MB.png", text_bomb(name), "accepted")
    yield HostileFile("64 megapixels of white.png", png_bomb(8_000), "accepted")
    blocks = np.random.default_rng(1).integers(0, 255, (250, 250, 3), np.uint8).repeat(32, 0).repeat(32, 1)
    large = Image.fromarray(blocks)
    for kind, options in (("JPEG", {"progressive": True}), ("WEBP", {"method": 0}), ("GIF", {})):
        file = io.BytesIO()
        large.save(file, kind, quality=40, **options)
        yield HostileFile(f"64 megapixels.{kind.lower()}", file.getvalue(), "accepted")
    yield HostileFile("jpeg of 200 scans", jpeg_of_scans(200, 4096), "either")
