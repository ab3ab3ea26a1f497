import io
import struct
import time
import zlib

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipelines.errors import BadImageError
from pipelines.imaging.decode import decode
from pipelines.imaging.encode import encode_jpeg
from pipelines.imaging.geometry import PixelBox
from pipelines.imaging.header import DecodeLimits
from pipelines.imaging.jpeg import rgb_of
from tests.support.imaging_pictures import (
    CANARY,
    animated_gif,
    encoded,
    jpeg_claiming,
    oriented,
    photo,
    png_with,
    swapped_profile,
    telling_jpeg,
    telling_png,
    text_bomb,
)

LIMITS = DecodeLimits()
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def corner_picture() -> Image.Image:
    """3 x 2 pixels, all different."""
    return Image.fromarray(np.arange(18, dtype=np.uint8).reshape(2, 3, 3) * 10)


def largest_difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> int:
    return int(np.abs(one.astype(int) - other.astype(int)).max())


def test_decode_of_png_is_pixel_exact() -> None:
    decoded = decode(encoded(photo(), "PNG"), LIMITS)

    assert np.array_equal(decoded.pixels, np.asarray(photo()))
    assert (decoded.pixels.dtype, decoded.pixels.flags.writeable) == (np.uint8, True)
    assert (decoded.format, decoded.width_px, decoded.height_px) == ("PNG", 64, 48)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("is_progressive", [False, True])
def test_decode_of_jpeg_gives_pillows_pixels(subsampling: int, *, is_progressive: bool) -> None:
    file = io.BytesIO()
    photo(333, 251).save(file, "JPEG", quality=80, subsampling=subsampling, progressive=is_progressive)

    decoded = decode(file.getvalue(), LIMITS)

    with Image.open(file) as by_pillow:
        assert np.array_equal(decoded.pixels, np.asarray(by_pillow))
    assert rgb_of(file.getvalue()) is not None
    assert decoded.pixels.flags.writeable


def test_decode_of_jpeg_to_which_libjpeg_objects_is_pillows() -> None:
    data = bytearray(encoded(photo(300, 200), "JPEG"))
    middle = len(data) * 2 // 3
    data[middle : middle + 8] = bytes(range(8))

    assert rgb_of(bytes(data)) is None
    with Image.open(io.BytesIO(bytes(data))) as by_pillow:
        assert np.array_equal(decode(bytes(data), LIMITS).pixels, np.asarray(by_pillow))


@pytest.mark.parametrize("cut_fraction", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_decode_of_truncated_picture_says_so(kind: str, cut_fraction: float) -> None:
    data = encoded(photo(300, 200), kind)

    with pytest.raises(BadImageError, match=f"truncated or broken: a {kind} of 300 x 200 pixels|no valid {kind}"):
        decode(data[: int(len(data) * cut_fraction)], LIMITS)


def test_decode_of_jpeg_claiming_what_it_has_not_is_refused() -> None:
    with pytest.raises(BadImageError, match="picture has 144,000,000 pixels; the limit is 64,000,000"):
        decode(jpeg_claiming(12_000, 12_000), LIMITS)
    with pytest.raises(BadImageError, match=r"truncated: [\d,]+ bytes can't hold the 9,000,000 pixels"):
        decode(jpeg_claiming(3000, 3000), LIMITS)


def test_decode_of_postscript_is_refused_before_pillow_sees_it() -> None:
    with pytest.raises(BadImageError, match="picture is PostScript"):
        decode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage", LIMITS)


def test_decode_of_corrupt_png_keeps_the_decoders_words_apart() -> None:
    data = bytearray(encoded(photo(), "PNG"))
    data[60] ^= 0xFF

    with pytest.raises(BadImageError, match="truncated or broken") as refused:
        decode(bytes(data), LIMITS)

    assert refused.value.evidence
    assert refused.value.evidence not in str(refused.value)


def test_decode_of_16_bit_grey_is_scaled_not_clipped() -> None:
    levels = np.array([[0, 128, 257, 32_768, 65_535]], np.uint16)

    pixels = decode(encoded(Image.fromarray(levels), "PNG"), LIMITS).pixels

    assert pixels[0].tolist() == [[0] * 3, [0] * 3, [1] * 3, [128] * 3, [255] * 3]


def test_decode_of_16_bit_colour_keeps_its_levels() -> None:
    row = b"\0" + struct.pack(">6H", 65_535, 0, 32_896, 0, 65_535, 257)
    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in ((b"IHDR", header), (b"IDAT", zlib.compress(row)), (b"IEND", b""))
    )

    assert decode(data, LIMITS).pixels[0].tolist() == [[255, 0, 128], [0, 255, 1]]


def test_decode_of_cmyk_gives_its_colours() -> None:
    picture = Image.new("CMYK", (16, 16), (0, 255, 255, 0))

    pixels = decode(encoded(picture, "JPEG", quality=95), LIMITS).pixels

    assert largest_difference(pixels, np.full((16, 16, 3), RED, np.uint8)) <= 3


@pytest.mark.parametrize("mode", ["1", "L"])
def test_decode_of_grey_fills_three_channels(mode: str) -> None:
    pixels = decode(encoded(photo().convert(mode), "PNG"), LIMITS).pixels

    assert np.array_equal(pixels, np.asarray(photo().convert(mode).convert("RGB")))


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_decode_lays_alpha_on_white(mode: str, kind: str) -> None:
    picture = Image.new(mode, (8, 8), (0, 0) if mode == "LA" else (0, 0, 0, 0))
    picture.paste((0, 128) if mode == "LA" else (0, 0, 0, 128), (0, 0, 4, 8))

    pixels = decode(encoded(picture, kind, lossless=True), LIMITS).pixels

    assert pixels[0, 7].tolist() == list(WHITE)
    assert pixels[0, 0].tolist() == [127] * 3


def test_decode_of_palette_with_transparency_lays_it_on_white() -> None:
    picture = Image.new("P", (4, 4), 1)
    picture.putpalette([*GREEN, *RED, *BLUE])
    picture.paste(0, (0, 0, 2, 4))

    pixels = decode(encoded(picture, "PNG", transparency=0), LIMITS).pixels
    graded = decode(encoded(picture, "PNG", transparency=b"\xff\x00"), LIMITS).pixels

    assert (pixels[0, 0].tolist(), pixels[0, 3].tolist()) == (list(WHITE), list(RED))
    assert (graded[0, 0].tolist(), graded[0, 3].tolist()) == (list(GREEN), list(WHITE))


def test_decode_of_rgb_with_a_transparent_colour_lays_it_on_white() -> None:
    picture = Image.new("RGB", (2, 1), RED)
    picture.putpixel((1, 0), GREEN)

    assert decode(encoded(picture, "PNG", transparency=GREEN), LIMITS).pixels[0].tolist() == [list(RED), list(WHITE)]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_decode_of_animation_gives_its_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (20, 10), colour) for colour in (RED, GREEN, BLUE)]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)

    assert np.array_equal(decode(data, LIMITS).pixels, np.asarray(frames[0]))


def test_decode_of_gif_with_fifty_thousand_frames_reads_one() -> None:
    data = animated_gif(2)
    second = data.index(b"\x21\xf9", data.index(b"\x2c"))
    many = data[:second] + data[second:-1] * 50_000 + data[-1:]
    started = time.process_time()

    decode(many, LIMITS)

    assert time.process_time() - started < 1


def test_decode_of_mpo_gives_its_first_picture() -> None:
    data = encoded(photo(), "MPO", save_all=True, append_images=[photo().rotate(180)], quality=95)

    decoded = decode(data, LIMITS)

    assert decoded.format == "MPO"
    assert largest_difference(decoded.pixels, np.asarray(photo())) < 30


# EXIF 2.32, tag 274, on rows "ABC" and "DEF"
AS_SEEN = {
    1: ["ABC", "DEF"],
    2: ["CBA", "FED"],
    3: ["FED", "CBA"],
    4: ["DEF", "ABC"],
    5: ["AD", "BE", "CF"],
    6: ["DA", "EB", "FC"],
    7: ["FC", "EB", "DA"],
    8: ["CF", "BE", "AD"],
}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_decode_applies_each_orientation_to_the_pixel(orientation: int) -> None:
    stored = dict(zip("ABCDEF", np.asarray(corner_picture()).reshape(6, 3).tolist(), strict=True))

    decoded = decode(oriented(corner_picture(), orientation), LIMITS)

    assert decoded.pixels.tolist() == [[stored[letter] for letter in row] for row in AS_SEEN[orientation]]
    assert (decoded.height_px, decoded.width_px) == decoded.pixels.shape[:2]


@pytest.mark.parametrize("orientation", [0, 9, 700])
def test_decode_ignores_an_orientation_that_is_none(orientation: int) -> None:
    assert np.array_equal(decode(oriented(corner_picture(), orientation), LIMITS).pixels, np.asarray(corner_picture()))


def test_decode_ignores_broken_exif() -> None:
    data = encoded(photo(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 60)

    assert decode(data, LIMITS).width_px == 64


@pytest.mark.parametrize("orientation", range(1, 9))
def test_decode_crops_in_pixels_of_the_oriented_original(orientation: int) -> None:
    data = oriented(photo(40, 30), orientation)
    whole = decode(data, LIMITS).pixels

    cropped = decode(data, LIMITS, box=PixelBox(3, 5, 11, 7))

    assert np.array_equal(cropped.pixels, whole[5:12, 3:14])
    assert (cropped.height_px, cropped.width_px) == whole.shape[:2]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_decode_shrinks_the_same_part_that_it_crops(orientation: int) -> None:
    data = oriented(photo(1600, 1200), orientation, "JPEG", quality=95)
    box = PixelBox(100, 200, 800, 640)
    exact = Image.fromarray(decode(data, LIMITS, box=box).pixels).resize((200, 160), Image.Resampling.LANCZOS)

    shrunk = decode(data, LIMITS, box=box, max_long_side_px=200)

    assert shrunk.pixels.shape == (160, 200, 3)
    assert largest_difference(shrunk.pixels, np.asarray(exact)) <= 4


def test_decode_never_enlarges() -> None:
    assert decode(encoded(photo(), "JPEG"), LIMITS, max_long_side_px=1024).pixels.shape == (48, 64, 3)


def test_decode_clips_a_box_and_refuses_one_outside() -> None:
    data = encoded(photo(), "PNG")

    assert decode(data, LIMITS, box=PixelBox(60, 40, 100, 100)).pixels.shape == (8, 4, 3)
    with pytest.raises(BadImageError, match="crop at 64, 0 lies outside of the picture of 64 x 48"):
        decode(data, LIMITS, box=PixelBox(64, 0, 1, 1))


@pytest.mark.parametrize(("width_px", "height_px"), [(1, 1), (20_000, 1), (1, 20_000)])
def test_decode_of_extreme_shapes_never_loses_a_side(width_px: int, height_px: int) -> None:
    data = encoded(photo(width_px, height_px), "PNG")

    assert decode(data, LIMITS).pixels.shape == (height_px, width_px, 3)
    assert min(decode(data, LIMITS, max_long_side_px=64).pixels.shape) >= 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_decode_converts_by_the_embedded_profile(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    data = encoded(Image.new("RGB", (8, 8), RED), kind, icc_profile=swapped_profile(), **options)

    assert largest_difference(decode(data, LIMITS).pixels, np.full((8, 8, 3), BLUE, np.uint8)) <= 4


def test_decode_converts_by_the_profile_under_alpha_and_palette() -> None:
    glass = encoded(Image.new("RGBA", (8, 8), (255, 0, 0, 255)), "PNG", icc_profile=swapped_profile())
    palette = encoded(Image.new("RGB", (8, 8), RED).quantize(2), "PNG", icc_profile=swapped_profile())

    for data in (glass, palette):
        assert largest_difference(decode(data, LIMITS).pixels, np.full((8, 8, 3), BLUE, np.uint8)) <= 4


@pytest.mark.parametrize("profile", [b"", b"rubbish", swapped_profile()[:200], swapped_profile()[:128] + b"\xff" * 400])
def test_decode_takes_a_broken_profile_for_srgb(profile: bytes) -> None:
    data = encoded(photo(), "PNG", icc_profile=profile)

    assert np.array_equal(decode(data, LIMITS).pixels, np.asarray(photo()))


def test_decode_with_a_profile_of_another_colour_space_takes_it_for_srgb() -> None:
    data = encoded(photo().convert("L"), "PNG", icc_profile=swapped_profile())

    assert np.array_equal(decode(data, LIMITS).pixels, np.asarray(photo().convert("L").convert("RGB")))


@pytest.mark.parametrize("chunk", [b"zTXt", b"iTXt", b"iCCP"])
def test_decode_of_text_bomb_ends_cheaply(chunk: bytes) -> None:
    data = text_bomb(chunk)
    assert len(data) < 1_500_000
    started = time.process_time()

    try:
        decoded = decode(data, LIMITS)
    except BadImageError as error:
        assert "truncated or broken" in str(error)  # noqa: PT017 - both ends are good, a hang is not
    else:
        assert np.array_equal(decoded.pixels, np.asarray(photo()))
    assert time.process_time() - started < 2


def test_decode_of_many_texts_ends_cheaply() -> None:
    text = b"k\0\0" + zlib.compress(bytes(1_000_000))
    chunk = png_with(b"zTXt", text)[33 : -len(encoded(photo(), "PNG")) + 33]
    data = encoded(photo(), "PNG")

    pixels = decode(data[:33] + chunk * 200 + data[33:], LIMITS).pixels  # nothing of them is unpacked

    assert np.array_equal(pixels, np.asarray(photo()))


@pytest.mark.parametrize("data", [telling_jpeg(), telling_png()], ids=["jpeg", "png"])
def test_encoded_result_carries_nothing_of_the_upload_but_pixels(data: bytes) -> None:
    assert data.count(CANARY) >= 2

    result = encode_jpeg(decode(data, LIMITS).pixels)

    assert CANARY not in result
    with Image.open(io.BytesIO(result)) as image:
        assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
        assert not image.getexif()
