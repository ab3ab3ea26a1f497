"""The result of a sound picture is made along with its analysis, and is the one that would be made later."""

import asyncio

import numpy as np
import pytest
from PIL import Image

from bench import quality_damage as damage
from pipelines.corrections import NO_CORRECTIONS, Corrections
from pipelines.imaging.geometry import PixelBox
from pipelines.imaging.header import DecodeLimits
from pipelines.imaging.pool import PixelPool
from pipelines.imaging.profiles import ADOBE_GAMMA, ADOBE_RGB, matrix_profile
from pipelines.job import Prompt
from pipelines.options import AnalysisOptions
from pipelines.prompts import Purpose
from pipelines.providers.local import kept
from pipelines.providers.local.findings import Enhanced
from pipelines.providers.local.provider import LocalProvider
from pipelines.providers.local.work import MEASURED_SIDE_PX, enhanced, findings_of
from pipelines.providers.provider import EncodedImage
from tests.support.imaging_pictures import encoded, oriented

LIMITS = DecodeLimits()
ANALYSIS = AnalysisOptions()
PLAIN = Prompt("", NO_CORRECTIONS)


def photograph(copies=3):
    """Return a sound picture of 1200 px for each three copies."""
    return np.tile(damage.load(damage.bundled_folder() / "chelsea.png", 400), (copies, copies, 1))


def as_jpeg(pixels, **options):
    return encoded(Image.fromarray(pixels), "JPEG", quality=92, **options)


def later(data, side_px):
    return enhanced(data, None, None, side_px, NO_CORRECTIONS, LIMITS)


@pytest.mark.parametrize(
    ("copies", "side_px"), [(3, 1200), (3, 1024), (3, 640), (6, MEASURED_SIDE_PX), (6, 1024), (6, 2400)]
)
def test_result_of_a_sound_picture_is_that_which_would_be_made_later(copies, side_px):
    data = as_jpeg(photograph(copies))

    findings = findings_of(data, LIMITS, side_px)

    assert findings.defects == ()
    assert findings.plain == later(data, side_px)


def turned():
    return oriented(Image.fromarray(photograph()), 6, "JPEG", quality=92)


def of_wide_colours():
    return as_jpeg(photograph(), icc_profile=matrix_profile(ADOBE_RGB, ADOBE_GAMMA))


@pytest.mark.parametrize(
    "made",
    [
        turned,
        of_wide_colours,
        lambda: encoded(Image.fromarray(photograph()), "PNG"),
        lambda: encoded(Image.fromarray(photograph()).convert("L"), "JPEG"),
        lambda: as_jpeg(np.pad(photograph(), ((120, 120), (0, 0), (0, 0)))),
        lambda: as_jpeg(damage.dark(photograph(), 2.2)),
    ],
)
def test_result_that_is_made_of_any_other_picture_is_the_same_or_none(made):
    data = made()

    plain = findings_of(data, LIMITS, 1024).plain

    assert plain in {None, later(data, 1024)}


@pytest.mark.parametrize("side_px", [300, 2048, None])
def test_result_that_takes_more_than_shrinking_is_not_made(side_px):
    """At 300 px only a quarter of the picture is decoded, and 2048 px need an enlargement."""
    assert findings_of(as_jpeg(photograph()), LIMITS, side_px).plain is None


async def analyzed(provider, data, side_px=1024):
    image = EncodedImage(data, result_side_px=side_px)
    await provider.analyze(image, ANALYSIS)
    return EncodedImage(data)


async def test_result_that_an_analysis_made_needs_no_child_and_is_given_once():
    data = as_jpeg(photograph())
    async with PixelPool(size=1) as pixels:
        provider = LocalProvider(pixels, LIMITS)
        image = await analyzed(provider, data)

    answer = await provider.generate(PLAIN, [image], 1024, None)

    assert answer.value == EncodedImage(later(data, 1024).data, is_finished=True)
    with pytest.raises(RuntimeError, match="closed"):
        await provider.generate(PLAIN, [image], 1024, None)


@pytest.mark.parametrize(
    ("prompt", "box", "side_px"),
    [
        (PLAIN, None, 640),
        (PLAIN, PixelBox(0, 0, 1100, 500), 1024),
        (Prompt("", Corrections(frozenset({"is_dark"}), frozenset({"is_dark"}))), None, 1024),
        (Prompt("", NO_CORRECTIONS, Purpose.BLEND), None, 1024),
    ],
)
async def test_result_that_an_analysis_made_is_given_for_nothing_else(prompt, box, side_px):
    data = as_jpeg(photograph())
    async with PixelPool(size=1) as pixels:
        provider = LocalProvider(pixels, LIMITS)
        await analyzed(provider, data)

    with pytest.raises(RuntimeError, match="closed"):
        await provider.generate(prompt, [EncodedImage(data, box), EncodedImage(data)], side_px, None)


async def test_kept_results_are_bounded_in_bytes_and_time(monkeypatch):
    results = kept.KeptResults()
    size_bytes = kept.KEPT_BYTES // 3
    images = [EncodedImage(bytes([number])) for number in range(4)]

    for image in images:
        results.keep(image, 1024, Enhanced(bytes(size_bytes), 1024, 768, ()))

    assert [results.take(image, 1024) is not None for image in images] == [False, True, True, True]
    monkeypatch.setattr(kept, "KEPT_S", 0.0)
    results.keep(images[0], 1024, Enhanced(b"", 1, 1, ()))
    await asyncio.sleep(0.01)
    assert results.take(images[0], 1024) is None
