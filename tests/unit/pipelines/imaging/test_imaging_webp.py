"""Large WebP files, decoded by libwebp's simple decoder: the same pixels as Pillow's, within a child's memory."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from pipelines.errors import BadImageError
from pipelines.imaging import opening
from pipelines.imaging.decode import decode
from pipelines.imaging.header import DecodeLimits
from pipelines.imaging.pool import PixelPool
from tests.support.imaging_pictures import encoded, photo, swapped_profile
from tests.support.imaging_tasks import decoded_shape, peak_memory_bytes

LIMITS = DecodeLimits()


@pytest.fixture
def every_webp_is_large(monkeypatch):
    monkeypatch.setattr(opening, "LARGE_PIXELS", 0)


def with_alpha() -> Image.Image:
    picture = photo(61, 47).convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    return picture


def animation(**options) -> bytes:
    frames = [photo(61, 47), photo(61, 47).rotate(180), photo(61, 47).rotate(90, expand=False)]
    return encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], **options)


def exif(orientation: int) -> Image.Exif:
    made = Image.Exif()
    made[0x0112] = orientation
    return made


PICTURES = {
    "lossy": encoded(photo(61, 47), "WEBP", quality=80),
    "lossless": encoded(photo(61, 47), "WEBP", lossless=True),
    "lossy alpha": encoded(with_alpha(), "WEBP", quality=80),
    "lossless alpha": encoded(with_alpha(), "WEBP", lossless=True, exact=True),
    "animation": animation(lossless=True),
    "lossy animation": animation(quality=80),
    "profile": encoded(photo(61, 47), "WEBP", lossless=True, icc_profile=swapped_profile()),
    "orientation": encoded(photo(61, 47), "WEBP", lossless=True, exif=exif(6)),
    "1 x 1": encoded(photo(1, 1), "WEBP", lossless=True),
}


@pytest.mark.parametrize("name", PICTURES)
def test_large_webp_has_the_same_pixels_as_a_small_one(name, monkeypatch):
    expected = decode(PICTURES[name], LIMITS)
    monkeypatch.setattr(opening, "LARGE_PIXELS", 0)

    found = decode(PICTURES[name], LIMITS)

    assert (found.format, found.width_px, found.height_px) == ("WEBP", expected.width_px, expected.height_px)
    assert int(np.abs(found.pixels.astype(int) - expected.pixels).max()) <= 1


def test_first_frame_beside_the_corner_lies_where_it_should(every_webp_is_large):
    inner = encoded(Image.new("RGB", (10, 8), (255, 0, 0)), "WEBP", lossless=True)[12:]
    head = (6 // 2).to_bytes(3, "little") + (4 // 2).to_bytes(3, "little") + (9).to_bytes(3, "little")
    frame = head + (7).to_bytes(3, "little") + bytes(4) + inner
    chunks = [(b"VP8X", struct.pack("<I", 0x12) + (39).to_bytes(3, "little") + (29).to_bytes(3, "little"))]
    chunks += [(b"ANIM", bytes(6)), (b"ANMF", frame)]
    body = b"WEBP" + b"".join(kind + struct.pack("<I", len(data)) + data for kind, data in chunks)

    pixels = decode(b"RIFF" + struct.pack("<I", len(body)) + body, LIMITS).pixels

    assert pixels.shape == (30, 40, 3)
    assert pixels[4:12, 6:16].reshape(-1, 3).tolist() == [[255, 0, 0]] * 80
    assert pixels[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("name", sorted(PICTURES.keys() - {"1 x 1"}))
@pytest.mark.parametrize("cut_fraction", [0.2, 0.5, 0.9, 0.99])
def test_truncated_large_webp_is_refused(name, cut_fraction, every_webp_is_large):
    data = PICTURES[name]

    with pytest.raises(BadImageError, match="broken"):
        decode(data[: int(len(data) * cut_fraction)], LIMITS)


def test_large_webp_that_lies_about_its_size_is_refused(every_webp_is_large):
    data = bytearray(encoded(photo(61, 47), "WEBP", exif=exif(1)))
    data[24:27] = (3000).to_bytes(3, "little")

    with pytest.raises(BadImageError, match="broken"):
        decode(bytes(data), LIMITS)


@pytest.mark.parametrize("is_lossless", [True, False])
async def test_webp_of_64_megapixels_fits_into_a_child(is_lossless):
    flat = Image.new("RGB", (8000, 8000), (200, 100, 50))
    file = io.BytesIO()
    flat.save(file, "WEBP", lossless=is_lossless, quality=10, method=0)
    async with PixelPool(size=1) as pixels:
        assert await pixels.run(decoded_shape, file.getvalue(), LIMITS) == (8000, 8000, 3)
        assert await pixels.run(peak_memory_bytes) < 1_000_000_000
