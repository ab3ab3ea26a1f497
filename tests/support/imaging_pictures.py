"""Pictures for tests: sound ones, and hostile ones as users may send them."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image, ImageCms, PngImagePlugin

CANARY = b"CANARY-7f3a"


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def photo(width_px: int = 64, height_px: int = 48) -> Image.Image:
    """A smooth picture in which every corner differs."""
    x = np.linspace(0, 255, width_px)[None, :].repeat(height_px, 0)
    y = np.linspace(0, 255, height_px)[:, None].repeat(width_px, 1)
    return Image.fromarray(np.stack([x, y, 255 - (x + y) / 2], -1).astype(np.uint8))


def oriented(image: Image.Image, orientation: int, kind: str = "PNG", **options: Any) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image, kind, exif=exif, **options)


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_bomb(side_px: int) -> bytes:
    """A valid PNG of white 1-bit pixels: thousands of times smaller than what it unpacks to."""
    row = b"\0" + b"\xff" * ((side_px + 7) // 8)
    packer = zlib.compressobj(1)
    packed = b"".join(packer.compress(row * 100) for _ in range(side_px // 100)) + packer.flush()
    header = struct.pack(">IIBBBBB", side_px, side_px, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", packed) + png_chunk(b"IEND", b"")


def png_with(name: bytes, body: bytes) -> bytes:
    """A small PNG with one more chunk after its header."""
    data = encoded(photo(), "PNG")
    return data[:33] + png_chunk(name, body) + data[33:]


def text_bomb(name: bytes) -> bytes:
    """A PNG whose text or profile unpacks to 200 MB."""
    packed = zlib.compress(b"\0" * 200_000_000, 1)
    prefix = {b"zTXt": b"k\0\0", b"iTXt": b"k\0\1\0\0\0", b"iCCP": b"k\0\0"}[name]
    return png_with(name, prefix + packed)


def jpeg_claiming(width_px: int, height_px: int) -> bytes:
    """A small JPEG whose frame header lies about its size."""
    data = bytearray(encoded(photo(200, 150), "JPEG", quality=60))
    at = data.index(b"\xff\xc0")
    struct.pack_into(">HH", data, at + 5, height_px, width_px)
    return bytes(data)


def jpeg_of_scans(scans: int, side_px: int) -> bytes:
    """A progressive JPEG that goes over all of its blocks many times, each pass in a few bytes."""
    data = encoded(Image.new("L", (side_px, side_px), 128), "JPEG", progressive=True)
    starts = [at for at in range(len(data) - 1) if data[at : at + 2] == b"\xff\xda"]
    last = data[starts[-1] : -2]
    return data[:-2] + last * (scans - len(starts)) + data[-2:]


def animated_gif(frames: int = 3) -> bytes:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    pictures = [Image.new("RGB", (20, 10), colours[number % 3]) for number in range(frames)]
    return encoded(pictures[0], "GIF", save_all=True, append_images=pictures[1:])


def swapped_profile() -> bytes:
    """An RGB profile whose red is sRGB's blue and the other way round."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"????", 1).replace(b"bXYZ", b"rXYZ", 1).replace(b"????", b"bXYZ", 1)


def telling_jpeg() -> bytes:
    """A JPEG with a text to be searched for in every field of metadata."""
    exif = Image.Exif()
    exif[0x010E] = CANARY.decode()
    exif.get_ifd(0x8825)[29] = CANARY.decode()
    xmp = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>" + CANARY + b"</x:xmpmeta>"
    data = encoded(photo(), "JPEG", exif=exif, xmp=xmp, comment=CANARY, icc_profile=swapped_profile() + CANARY)
    iptc = b"Photoshop 3.0\0" + CANARY
    return data[:2] + b"\xff\xed" + struct.pack(">H", len(iptc) + 2) + iptc + data[2:] + CANARY


def telling_png() -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", CANARY.decode(), zip=True)
    text.add_itxt("XML:com.adobe.xmp", CANARY.decode())
    exif = Image.Exif()
    exif[0x010E] = CANARY.decode()
    return encoded(photo(), "PNG", pnginfo=text, exif=exif)
