import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.cropping import CropSuggestion, crop_box
from pipelines.errors import CropTooSmallError
from pipelines.imaging.geometry import PixelBox, fit_long_side, fit_within

sides = st.integers(1, 20_000)
fractions = st.floats(-2, 3)


def suggested(x: float, y: float, width: float, height: float) -> CropSuggestion:
    return CropSuggestion(x=x, y=y, width=width, height=height)


def test_crop_box_rounds_outwards() -> None:
    assert crop_box(suggested(0.101, 0.2, 0.55, 0.7), 100, 10) == PixelBox(10, 2, 56, 7)


def test_crop_box_keeps_an_edge_that_division_blurred() -> None:
    assert crop_box(suggested(1 / 3, 0, 1 / 3, 1), 300, 7, min_fraction=0.1) == PixelBox(100, 0, 100, 7)


def test_crop_box_outside_is_clipped() -> None:
    assert crop_box(suggested(-5, -0.1, 99, 99), 40, 30) == PixelBox(0, 0, 40, 30)


@pytest.mark.parametrize(
    "suggestion",
    [
        suggested(0.5, 0.5, 0.001, 0.001),
        suggested(0.2, 0.2, -0.5, 0.5),
        suggested(2, 2, 1, 1),
        suggested(0, 0, 0.4, 0.5),
    ],
)
def test_crop_box_that_leaves_too_little_is_refused(suggestion: CropSuggestion) -> None:
    with pytest.raises(CropTooSmallError, match="the least is 25%"):
        crop_box(suggestion, 100, 100)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_suggestion_of_no_number_is_refused(number: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        suggested(0, number, 1, 1)


@given(fractions, fractions, fractions, fractions, sides, sides)
def test_crop_box_is_never_empty_and_never_leaves_the_image(
    x: float, y: float, width: float, height: float, width_px: int, height_px: int
) -> None:
    try:
        box = crop_box(suggested(x, y, width, height), width_px, height_px)
    except CropTooSmallError:
        return

    assert box.right <= width_px
    assert box.bottom <= height_px
    assert box.width * box.height >= 0.25 * width_px * height_px


@given(sides, sides, st.integers(1, 4096))
def test_fit_gives_the_long_side_exactly_and_no_side_0(width_px: int, height_px: int, long_side_px: int) -> None:
    fitted = fit_long_side(width_px, height_px, long_side_px)

    assert max(fitted) == long_side_px
    assert min(fitted) >= 1
    assert max(fit_within(width_px, height_px, long_side_px)) == min(max(width_px, height_px), long_side_px)


@pytest.mark.parametrize("edges", [(-1, 0, 1, 1), (0, -1, 1, 1), (0, 0, 0, 1), (0, 0, 1, 0)])
def test_box_without_pixels_is_refused(edges: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="no box of pixels"):
        PixelBox(*edges)
