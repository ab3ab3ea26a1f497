"""Files that viewers show although something is odd about them, and broken ones that look sound."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pipelines.errors import BadImageError
from pipelines.imaging.decode import decode
from pipelines.imaging.header import DecodeLimits
from pipelines.imaging.orientation import oriented_size
from pipelines.imaging.pool import PixelPool
from pipelines.imaging.profiles import (
    ADOBE_GAMMA,
    ADOBE_RGB,
    DISPLAY_P3,
    linear_to_srgb,
    matrix_profile,
    srgb_to_linear,
)
from tests.support import imaging_tasks as tasks
from tests.support.imaging_pictures import encoded, photo, png_chunk, png_with, text_bomb

LIMITS = DecodeLimits()
END = b"\xff\xd9"


def pixels_of(data: bytes) -> np.ndarray:
    return decode(data, LIMITS).pixels


def grained(width_px: int = 320, height_px: int = 240) -> Image.Image:
    """A picture of which no part is flat, so that every missing byte takes pixels."""
    grain = np.random.default_rng(5).integers(-40, 40, (height_px, width_px, 1))
    return Image.fromarray(np.clip(np.asarray(photo(width_px, height_px)) + grain, 0, 255).astype(np.uint8))


def distance_db(found: np.ndarray, truth: np.ndarray) -> float:
    error = ((found.astype(float) - truth.astype(float)) ** 2).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def broken(chunk: bytes) -> bytes:
    return chunk[:-4] + bytes(4)


def after_header(png: bytes, *chunks: bytes) -> bytes:
    return png[:33] + b"".join(chunks) + png[33:]


# PNG: what isn't needed


@pytest.mark.parametrize("name", [b"zTXt", b"iTXt", b"iCCP"])
def test_png_whose_text_or_profile_unpacks_past_a_megabyte_is_shown(name):
    assert np.array_equal(pixels_of(text_bomb(name)), np.asarray(photo()))


@pytest.mark.parametrize("name", [b"tEXt", b"pHYs", b"tIME", b"eXIf", b"iCCP", b"prVt", b"bKGD"])
def test_png_with_a_wrong_checksum_in_an_ancillary_chunk_is_shown(name):
    data = after_header(encoded(photo(), "PNG"), broken(png_chunk(name, b"something\0edited")))

    assert np.array_equal(pixels_of(data), np.asarray(photo()))


def test_png_with_a_wrong_checksum_in_its_header_is_refused():
    data = bytearray(encoded(photo(), "PNG"))
    data[29:33] = b"\1\2\3\4"

    with pytest.raises(BadImageError):
        pixels_of(bytes(data))


def test_png_without_its_end_chunk_is_shown():
    assert np.array_equal(pixels_of(encoded(photo(), "PNG")[:-12]), np.asarray(photo()))


# Ends and holes of JPEG


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True}, {"subsampling": 0}])
@pytest.mark.parametrize("behind", [b"", b"\0" * 40, b"\0\0\x01\x0aSEFHj\0\0SEFT"], ids=["nothing", "zeros", "trailer"])
def test_jpeg_without_its_end_marker_is_shown(options, behind):
    data = encoded(grained(), "JPEG", quality=90, **options)

    assert np.array_equal(pixels_of(data[:-2] + behind), pixels_of(data))


@pytest.mark.parametrize("ending", [b"\0", b"\xff\0"], ids=["zero", "stuffed"])
def test_jpeg_without_its_end_marker_whose_last_bytes_are_zeros_is_shown(ending):
    pictures = (encoded(grained(48, 32 + n), "JPEG", quality=90, progressive=True) for n in range(400))
    data = next(one for one in pictures if one[:-2].endswith(ending))

    assert np.array_equal(pixels_of(data[:-2]), pixels_of(data))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 2}])
@pytest.mark.parametrize("filler", [b"\0", b"\xff"], ids=["zeros", "ones"])
@pytest.mark.parametrize(("start", "length"), [(0.4, 0.25), (0.7, 0.3), (0.5, 0.05)])
def test_jpeg_with_a_hole_is_refused(options, filler, start, length):
    data = bytearray(encoded(grained(), "JPEG", quality=90, **options))
    at, size = int(start * len(data)), int(length * len(data))
    data[at : at + size] = filler * size

    with pytest.raises(BadImageError, match="truncated or broken"):
        pixels_of(bytes(data))


@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("length", [128, 512])
def test_jpeg_with_a_small_hole_anywhere_is_refused(options, length):
    data = encoded(grained(160, 120), "JPEG", quality=88, **options)
    first = data.index(b"\xff\xda") + 14

    for at in range(first, len(data) - length - 8, 331):
        with pytest.raises(BadImageError, match="truncated or broken"):
            pixels_of(data[:at] + bytes(length) + data[at + length :])


@pytest.mark.parametrize("quality", [50, 75, 95, 100])
@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"progressive": True}])
@pytest.mark.parametrize("across", [True, False], ids=["across", "down"])
def test_jpeg_of_a_gradient_is_read(options, quality, across):
    ramp = np.linspace(255, 0, 2048).astype(np.uint8)
    grey = np.broadcast_to(ramp if across else ramp[:160, None], (160, 2048))
    data = encoded(Image.fromarray(np.ascontiguousarray(grey)), "JPEG", quality=quality, **options)

    assert np.abs(pixels_of(data).astype(int)[..., 0] - grey).max() <= 6


@pytest.mark.parametrize("cut", [0.35, 0.6, 0.9])
def test_jpeg_whose_tail_is_zeros_is_refused(cut):
    data = encoded(grained(), "JPEG", quality=90)
    kept = int(cut * len(data))

    with pytest.raises(BadImageError, match="truncated or broken"):
        pixels_of(data[:kept] + bytes(len(data) - kept))


def test_progressive_jpeg_that_ends_between_two_scans_is_refused():
    data = encoded(grained(), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")

    with pytest.raises(BadImageError, match="truncated or broken"):
        pixels_of(data[:last])


@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"progressive": True}, {"optimize": True, "quality": 10}])
@pytest.mark.parametrize("colour", ["white", "black", (128, 128, 128)])
def test_flat_jpeg_whose_codes_are_zeros_is_no_hole(options, colour):
    picture = Image.new("RGB", (1600, 1200), colour)
    ImageDraw.Draw(picture).line((100, 100, 400, 300), "red", 5)

    assert pixels_of(encoded(picture, "JPEG", **options)).shape == (1200, 1600, 3)


@pytest.mark.parametrize("quality", [60, 90, 98])
@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("colour", [0, 10, 254, 255])
def test_flat_jpeg_without_its_end_marker_is_shown(quality, mode, colour):
    picture = Image.new(mode, (200, 150), colour if mode == "L" else (colour, 200, 40))
    data = encoded(picture, "JPEG", quality=quality, optimize=True)

    assert np.array_equal(pixels_of(data[:-2]), pixels_of(data))


@pytest.mark.parametrize("change", [-20, 20])
def test_flat_jpeg_without_its_end_that_has_another_number_of_zeros_is_refused(change):
    """Zeros are flat parts only if there are as many as the picture's size needs; others replace lost bytes."""
    data = encoded(Image.new("L", (200, 150), 255), "JPEG", quality=90, optimize=True)[:-2]

    with pytest.raises(BadImageError, match="truncated or broken"):
        pixels_of(data[:change] if change < 0 else data + bytes(change))


def test_zeros_behind_the_end_are_no_hole():
    data = encoded(grained(), "JPEG")

    assert np.array_equal(pixels_of(data + bytes(5_000)), pixels_of(data))


# Colours


@pytest.mark.parametrize("exponent", [1.0, 1.8])
def test_png_with_a_gamma_alone_is_converted(exponent):
    truth = np.asarray(photo(96, 64))
    told = np.round(255 * srgb_to_linear(truth / 255) ** (1 / exponent)).astype(np.uint8)
    chunk = png_chunk(b"gAMA", struct.pack(">I", round(100_000 / exponent)))

    assert distance_db(pixels_of(after_header(encoded(Image.fromarray(told), "PNG"), chunk)), truth) > 38


@pytest.mark.parametrize("chunks", [[(b"gAMA", 45_455)], [(b"gAMA", 45_000)], [(b"sRGB", None), (b"gAMA", 100_000)]])
def test_png_with_the_usual_gamma_or_srgb_beside_it_is_left_as_it_is(chunks):
    bodies = [png_chunk(name, b"\0" if value is None else struct.pack(">I", value)) for name, value in chunks]

    assert np.array_equal(pixels_of(after_header(encoded(photo(), "PNG"), *bodies)), np.asarray(photo()))


def test_png_with_display_p3_told_by_cicp_is_converted():
    picture = Image.new("RGB", (8, 8), (0, 255, 0))

    by_code = pixels_of(after_header(encoded(picture, "PNG"), png_chunk(b"cICP", bytes([12, 13, 0, 1]))))
    by_profile = pixels_of(encoded(picture, "PNG", icc_profile=matrix_profile(DISPLAY_P3, None)))

    assert np.array_equal(by_code, by_profile)
    assert by_code[0, 0].tolist() == [0, 255, 0]  # greener than sRGB can show
    muted = Image.new("RGB", (8, 8), (100, 180, 90))
    shown = pixels_of(after_header(encoded(muted, "PNG"), png_chunk(b"cICP", bytes([12, 13, 0, 1]))))
    assert shown[0, 0, 1] >= 180
    assert shown[0, 0, 0] < 95


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
@pytest.mark.parametrize("primaries", [1, 9, 12])
def test_hdr_picture_is_refused_by_name(transfer, name, primaries):
    with pytest.raises(BadImageError, match=rf"HDR \({name}\)"):
        pixels_of(png_with(b"cICP", bytes([primaries, transfer, 0, 1])))


def test_adobe_rgb_told_by_exif_alone_is_converted_as_by_its_profile():
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA005] = {1: "R03", 2: b"0100"}
    picture = Image.new("RGB", (32, 32), (60, 160, 70))

    told = pixels_of(encoded(picture, "JPEG", quality=98, exif=exif.tobytes()))
    embedded = pixels_of(encoded(picture, "JPEG", quality=98, icc_profile=matrix_profile(ADOBE_RGB, ADOBE_GAMMA)))

    assert np.array_equal(told, embedded)
    assert told[0, 0, 0] < 40  # as it stands, the red is 60


def sixteen_bits(samples: np.ndarray, profile: bytes) -> bytes:
    """A PNG of height x width x 3 samples, 0 to 65,535."""
    height, width, _ = samples.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
    told = png_chunk(b"iCCP", b"told\0\0" + zlib.compress(profile))
    return b"\x89PNG\r\n\x1a\n" + header + told + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")


def test_sixteen_bits_in_linear_light_keep_their_shadows():
    ramp = np.linspace(0.02, 0.35, 480)[None, :, None] * np.ones((40, 1, 3))
    light = np.round(65_535 * srgb_to_linear(ramp)).astype(np.uint16)

    shown = pixels_of(sixteen_bits(light, matrix_profile(DISPLAY_P3, 1.0)))

    assert len(np.unique(shown[..., 0])) > 70
    assert distance_db(shown, np.round(255 * linear_to_srgb(srgb_to_linear(ramp)))) > 50


def test_sixteen_bits_with_an_everyday_curve_are_as_before():
    samples = np.asarray(photo(48, 32)).astype(np.uint16) * 257
    profile = matrix_profile(DISPLAY_P3, None)

    deep, plain = sixteen_bits(samples, profile), encoded(photo(48, 32), "PNG", icc_profile=profile)

    assert np.abs(pixels_of(deep).astype(int) - pixels_of(plain)).max() <= 1


# Orientation


@pytest.mark.parametrize(
    ("kind", "value", "behind"),
    [
        (1, b"\6\0\0\0", b""),
        (3, struct.pack(">HH", 6, 0), b""),
        (4, struct.pack(">I", 6), b""),
        (5, struct.pack(">I", 26), struct.pack(">II", 6, 1)),
        (11, struct.pack(">f", 6.0), b""),
        (12, struct.pack(">I", 26), struct.pack(">d", 6.0)),
    ],
    ids=["byte", "short", "long", "rational", "float", "double"],
)
def test_orientation_of_any_number_type_turns_the_picture_for_every_reader(kind, value, behind):
    exif = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">HHHI", 1, 0x0112, kind, 1) + value + bytes(4) + behind
    data = encoded(photo(80, 50).transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif, quality=95)

    assert pixels_of(data).shape[:2] == (50, 80)
    assert oriented_size(data, LIMITS) == (80, 50)


@pytest.mark.parametrize("value", [struct.pack(">II", 13, 2), struct.pack(">II", 6, 0), struct.pack(">II", 9, 1)])
def test_orientation_that_makes_no_sense_turns_nothing_for_any_reader(value):
    exif = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">HHHII", 1, 0x0112, 5, 1, 26) + bytes(4) + value
    data = encoded(photo(80, 50), "JPEG", exif=exif)

    assert pixels_of(data).shape[:2] == (50, 80)
    assert oriented_size(data, LIMITS) == (80, 50)


# Transparency


def logo(colour: tuple[int, int, int]) -> Image.Image:
    picture = Image.new("RGBA", (200, 100), (*colour, 0))
    ImageDraw.Draw(picture).rectangle((20, 60, 180, 70), (*colour, 255))
    return picture


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize("colour", [(255, 255, 255), (250, 252, 248), (0, 0, 0), (200, 30, 30)])
def test_drawing_on_transparency_can_be_seen(kind, colour):
    options = {"lossless": True} if kind == "WEBP" else {}
    shown = pixels_of(encoded(logo(colour), kind, **options)).astype(int)

    assert abs(shown[65, 100] - shown[10, 10]).max() > 100


def test_grey_drawing_with_alpha_can_be_seen():
    shown = pixels_of(encoded(logo((255, 255, 255)).convert("LA"), "PNG")).astype(int)

    assert abs(shown[65, 100] - shown[10, 10]).max() > 100


@pytest.mark.parametrize("alpha", [0, 5])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF"])
def test_picture_of_nothing_but_transparency_is_refused(kind, alpha):
    if kind == "GIF" and alpha:
        pytest.skip("GIF knows no partial transparency")
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}

    with pytest.raises(BadImageError, match="transparent all over"):
        pixels_of(encoded(Image.new("RGBA", (40, 30), (200, 30, 30, alpha)), kind, **options))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF"])
def test_animation_with_an_empty_first_frame_shows_its_first_visible_one(kind):
    empty, seen = Image.new("RGBA", (64, 48), (0, 0, 0, 0)), photo().convert("RGBA")
    options = {"save_all": True, "append_images": [empty, seen], "duration": [100, 120, 140]}
    if kind == "WEBP":
        options["lossless"] = True
    if kind == "PNG":
        options["default_image"] = False

    assert distance_db(pixels_of(encoded(empty, kind, **options)), np.asarray(photo())) > 25


# Names and limits


@pytest.mark.parametrize(
    ("brand", "others", "name"),
    [
        (b"avif", b"mif1", "AVIF"),
        (b"avio", b"avif", "AVIF"),
        (b"mif1", b"avifmiaf", "AVIF"),
        (b"msf1", b"isomavis", "AVIF"),
        (b"miaf", b"mif1heic", "HEIC"),
        (b"mif2", b"", "HEIC"),
        (b"heim", b"", "HEIC"),
        (b"xxxx", b"isomheic", "HEIC"),
        (b"jxl ", b"", "JPEG XL"),
        (b"crx ", b"isom", "camera raw"),
        (b"isom", b"mp42", "a video"),
        (b"qt  ", b"", "a video"),
    ],
)
def test_container_is_refused_by_what_its_brands_say(brand, others, name):
    body = brand + bytes(4) + others
    data = struct.pack(">I", 8 + len(body)) + b"ftyp" + body + bytes(200)

    with pytest.raises(BadImageError, match=f"picture is {name};"):
        pixels_of(data)


@pytest.mark.parametrize("magic", [b"MM\0*", b"II*\0", b"IIU\0", b"IIRO", b"FUJIFILMCCD-RAW "])
def test_raw_file_of_a_camera_is_refused_by_name(magic):
    with pytest.raises(BadImageError, match="camera raw"):
        pixels_of(magic + bytes(400))


async def test_progressive_picture_that_lacks_memory_is_not_called_broken():
    picture = Image.effect_noise((4_000, 3_000), 40).convert("CMYK")
    file = io.BytesIO()
    picture.save(file, "JPEG", progressive=True, quality=50)

    async with PixelPool(size=1, memory_bytes=400_000_000) as pool:
        with pytest.raises(BadImageError, match="more memory than the limit"):
            await pool.run(decode, file.getvalue(), LIMITS)


@pytest.mark.parametrize(
    ("mode", "options"),
    [("RGBA", {}), ("LA", {}), ("RGB", {"transparency": (1, 2, 3)}), ("P", {"transparency": bytes(range(200))})],
)
async def test_large_picture_with_transparency_is_held_twice_at_most(mode, options):
    size_px = (4_000, 4_000)
    picture = Image.new(
        mode, size_px, {"P": 130, "LA": (100, 128), "RGB": (200, 100, 50)}.get(mode, (200, 100, 50, 99))
    )
    data = encoded(picture, "PNG", **options)
    async with PixelPool(size=1) as pool:
        started_bytes = await pool.run(tasks.address_space_bytes)

    # 4 bytes a pixel for each of Pillow's copies, and what doesn't grow with the picture
    memory_bytes = started_bytes + 8 * size_px[0] * size_px[1] + 50_000_000
    async with PixelPool(size=1, memory_bytes=memory_bytes) as pool:
        assert await pool.run(tasks.decoded_shape, data, LIMITS) == (4_000, 4_000, 3)
