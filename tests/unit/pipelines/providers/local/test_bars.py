import io

import numpy as np
import pytest
from PIL import Image

from bench import quality_damage as damage
from pipelines.imaging.geometry import PixelBox
from pipelines.imaging.header import DecodeLimits
from pipelines.imaging.pool import PixelPool
from pipelines.providers.local.bars import picture_box
from pipelines.providers.local.provider import CHILD_IMPORTS
from pipelines.providers.local.work import box_between_bars
from tests.support import imaging_tasks as tasks


def photograph(name="coffee.png"):
    return damage.load(damage.bundled_folder() / name)


def box_of(pixels, quality=90, subsampling=2):
    seen = damage.through_jpeg(pixels, quality, subsampling)
    luma = (seen @ np.array([0.299, 0.587, 0.114])).round().astype(np.uint8)
    return picture_box(luma)


@pytest.mark.parametrize("name", ["coffee.png", "motorcycle_right.png", "moon.png", "chelsea.png", "rocket.jpg"])
@pytest.mark.parametrize("quality", [75, 92])
def test_bars_are_found_to_the_pixel(name, quality):
    picture = photograph(name)
    height, width = picture.shape[:2]

    for above, below, left, right in [(47, 47, 0, 0), (0, 0, 60, 61), (33, 0, 0, 0), (30, 41, 25, 37)]:
        framed = np.pad(picture, ((above, below), (left, right), (0, 0)))
        assert box_of(framed, quality) == PixelBox(left, above, width, height)


def test_bars_of_video_black_are_found():
    picture = photograph()
    framed = np.pad(picture, ((50, 50), (0, 0), (0, 0)), constant_values=16)

    assert box_of(framed) == PixelBox(0, 50, 600, 400)


@pytest.mark.parametrize(
    "name", ["coffee.png", "motorcycle_right.png", "moon.png", "astronaut.png", "rocket.jpg", "hubble_deep_field.jpg"]
)
def test_a_picture_without_bars_has_none(name):
    picture = photograph(name)

    assert box_of(picture) is None
    assert box_of(damage.dark(picture)) is None


def test_a_night_sky_is_no_bar():
    y = np.linspace(0, 1, 300)[:, None]
    sky = np.repeat(np.clip((y - 0.3) * 120, 2, 255), 400, axis=1)
    rng = np.random.default_rng(1)
    picture = damage.rounded((sky + rng.normal(0, 1, sky.shape))[..., None].repeat(3, axis=2))

    assert box_of(picture) is None


def test_a_round_subject_on_black_is_no_picture_between_bars():
    y, x = np.mgrid[0:300, 0:400]
    disc = (np.hypot(y - 150, x - 200) < 100) * 180.0

    assert box_of(damage.rounded(disc[..., None].repeat(3, axis=2))) is None


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1), (8, 8), (15, 200)])
def test_the_smallest_pictures_have_no_bars(size):
    assert picture_box(np.zeros(size, np.uint8)) is None


def test_black_all_over_has_no_bars():
    assert picture_box(np.zeros((200, 300), np.uint8)) is None


async def test_bars_of_a_large_picture_are_found_in_little_more_memory_than_its_pixels():
    picture = np.asarray(Image.linear_gradient("L").resize((4_000, 4_000))).copy()
    picture[:400] = picture[-400:] = 0
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG")
    async with PixelPool(size=1, imports=CHILD_IMPORTS) as pool:
        started_bytes = await pool.run(tasks.address_space_bytes)

    async with PixelPool(size=1, imports=CHILD_IMPORTS, memory_bytes=started_bytes + 9 * picture.size) as pool:
        box = await pool.run(box_between_bars, file.getvalue(), DecodeLimits())

    assert box == PixelBox(0, 400, 4_000, 3_200)
