import io

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from pipelines.imaging.encode import encode_jpeg, resize, resize_long_side
from pipelines.imaging.resampling import lanczos
from tests.support.imaging_pictures import photo


def test_encode_gives_baseline_jpeg_with_full_chroma() -> None:
    data = encode_jpeg(np.asarray(photo()))

    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (64, 48))
        assert JpegImagePlugin.get_sampling(image) == 0
        assert not image.info.get("progressive")
        assert np.abs(np.asarray(image).astype(int) - np.asarray(photo())).max() <= 6


def test_encode_takes_a_view_of_pixels() -> None:
    turned = np.asarray(photo()).transpose(1, 0, 2)[::-1]

    with Image.open(io.BytesIO(encode_jpeg(turned))) as image:
        assert image.size == (48, 64)


@pytest.mark.parametrize(
    ("width_px", "height_px", "long_side_px", "expected"),
    [
        (64, 48, 128, (128, 96)),
        (64, 48, 32, (32, 24)),
        (20_000, 1, 1024, (1024, 1)),
        (1, 3000, 1024, (1, 1024)),
        (1, 1, 1024, (1024, 1024)),
        (3000, 2001, 1024, (1024, 683)),
    ],
)
def test_resize_long_side_keeps_aspect_and_every_side(
    width_px: int, height_px: int, long_side_px: int, expected: tuple[int, int]
) -> None:
    resized = resize_long_side(np.asarray(photo(width_px, height_px)), long_side_px)

    assert (resized.shape[1], resized.shape[0]) == expected
    assert resized.dtype == np.uint8


def test_resize_to_the_same_size_changes_nothing() -> None:
    pixels = np.asarray(photo())

    assert resize(pixels, 64, 48) is pixels


@pytest.mark.parametrize("long_side_px", [0, -1, 4097])
def test_resize_beyond_every_tier_is_refused(long_side_px: int) -> None:
    with pytest.raises(ValueError, match="it may be 1 to 4096"):
        resize_long_side(np.asarray(photo()), long_side_px)


@pytest.mark.parametrize(
    ("width_px", "height_px"), [(2048, 1536), (1000, 751), (300, 225), (61, 46), (1, 1), (2600, 1), (3300, 2475)]
)
def test_lanczos_gives_what_pillow_gives(width_px: int, height_px: int) -> None:
    picture = photo(2600, 1951)
    by_pillow = np.asarray(picture.resize((width_px, height_px), Image.Resampling.LANCZOS)).astype(int)

    difference = np.abs(lanczos(np.asarray(picture), width_px, height_px).astype(int) - by_pillow)

    assert difference.mean() < 0.2
    assert np.percentile(difference, 99.9) <= 1


def test_lanczos_without_the_library_is_pillows(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = photo(300, 200)
    monkeypatch.setattr("pipelines.imaging.resampling.fast", None)

    resized = lanczos(np.asarray(picture), 120, 80)

    assert np.array_equal(resized, np.asarray(picture.resize((120, 80), Image.Resampling.LANCZOS)))
    assert resized.flags.writeable
