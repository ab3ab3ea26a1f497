"""What a pipeline allows a crop to remove: black bars are those that are measured, whatever a model calls them."""

import numpy as np
import pytest

from pipelines.analysis import Analysis, Cropping, Defects
from pipelines.cropping import CropSuggestion
from pipelines.job import Crop
from pipelines.options import resolve
from pipelines.stages.crop import crop
from tests.unit.pipelines.stages.test_stages import context_of, encoded, letterboxed, scene, storage

__all__ = ["storage"]  # fixtures

NO_UI = {"allowUIElementCrop": False}
NO_BARS = {"allowBlackBarRemoval": False}
NEITHER = NO_UI | NO_BARS

SOUND = Defects(
    is_dark=False,
    is_blurry=False,
    has_noise=False,
    is_low_resolution=False,
    is_overexposed=False,
    has_color_cast=False,
)
UPPER = CropSuggestion(y=0.15, height=0.85)
BARS = CropSuggestion(y=40 / 280, height=200 / 280)
"""Of `letterboxed(scene())`: 200 of 280 rows."""


@pytest.fixture
def cropped(pixels, storage):
    """Run the stage on a picture for which a model suggests a crop for a reason; return whether it cropped."""

    async def run(picture, suggestion, reason, config):
        context = await context_of(
            pixels, storage, encoded(picture), options=resolve({"autoCropConfig": {"minCropRatio": 0.01} | config})
        )
        cropping = Cropping(is_cropping_needed=True, suggested_crop=suggestion, crop_reason=reason)
        analysis = Analysis(defects=SOUND, cropping=cropping, source="a model")
        context.add(analysis)
        result: Crop = await crop(context)
        return result.was_cropped

    return run


@pytest.mark.parametrize(
    "reason",
    [
        *("navigation bar", "toolbar", "status bar", "sidebar", "Search Bar", "scrollbars", "a black navigation bar"),
        *("black bars", "letterboxing", "user interface", "Statusleiste", "remove the dock", None, ""),
        *("window border", "frame of a phone", "barcode"),
        *(
            "navigation at the top edge",
            "a ribbon along the upper edge",
            "watermark in the corner",
            "text in the frame",
        ),
    ],
)
async def test_crop_that_is_no_measured_bar_is_left_where_interfaces_must_stay(cropped, reason):
    assert not await cropped(scene(), UPPER, reason, NO_UI)
    assert await cropped(scene(), UPPER, reason, {})


@pytest.mark.parametrize("reason", ["black bars", "navigation bar", "user interface", None])
async def test_measured_bars_are_cropped_whatever_they_are_called(cropped, reason):
    assert await cropped(letterboxed(scene()), BARS, reason, NO_UI)
    assert not await cropped(letterboxed(scene()), BARS, reason, NO_BARS)
    assert not await cropped(letterboxed(scene()), BARS, reason, NEITHER)


@pytest.mark.parametrize("reason", ["navigation bar", "bare wall", "barely visible white border", None])
async def test_crop_that_takes_no_black_bar_is_done_where_only_those_must_stay(cropped, reason):
    assert await cropped(scene(), UPPER, reason, NO_BARS)


@pytest.mark.parametrize("reason", ["black bars", "Black borders at top and bottom", "pillarbox", "dark bands"])
async def test_crop_that_is_said_to_take_black_bars_is_left_where_those_must_stay(cropped, reason):
    assert not await cropped(scene(), UPPER, reason, NO_BARS)


@pytest.mark.parametrize("reason", ["white border", "empty margin on the left", "bare wall", "tighter composition"])
async def test_crop_for_the_pictures_own_sake_is_done_where_interfaces_must_stay(cropped, reason):
    assert await cropped(scene(), UPPER, reason, NO_UI)


async def test_crop_that_takes_more_than_the_bars_needs_both(cropped):
    deeper = CropSuggestion(y=0.3, height=0.55)

    assert not await cropped(letterboxed(scene()), deeper, "black bars", NO_UI)
    assert not await cropped(letterboxed(scene()), deeper, "navigation bar", NO_BARS)


async def test_estimate_that_misses_a_bar_by_a_little_still_means_the_bar(cropped):
    assert await cropped(letterboxed(scene()), CropSuggestion(y=0.155, height=0.69), "black bars", NO_UI)


async def test_crop_of_a_side_without_a_bar_takes_the_picture(cropped):
    picture = np.pad(scene(), ((40, 40), (0, 0), (0, 0)))

    assert not await cropped(picture, CropSuggestion(x=0.1, width=0.9), "side bar", NO_UI)
    assert await cropped(picture, CropSuggestion(x=0.1, width=0.9), "side bar", NO_BARS)
