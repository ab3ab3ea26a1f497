import cv2
import numpy as np
import pytest

from pipelines.providers.local.exposure import highlight_figures
from pipelines.providers.local.light import counted_percentile, every
from pipelines.providers.local.sharpness import ninth_decile


@pytest.mark.parametrize("pixels", [1, 2, 3, 50, 1001])
@pytest.mark.parametrize("percent", [1, 25, 50, 99.9])
@pytest.mark.parametrize("levels", [4, 256])
def test_a_percentile_of_counts_is_exactly_the_one_of_the_levels(pixels, percent, levels):
    luck = np.random.default_rng(pixels)
    for _ in range(20):
        values = luck.integers(0, levels, pixels).astype(np.uint8)

        counted = counted_percentile(np.bincount(values, minlength=256).astype(np.float64), percent)

        assert counted == np.percentile(values, percent)


@pytest.mark.parametrize("lowest", [200, 240, 248])
def test_channels_that_clip_are_counted_in_each_pixel_and_beside_white(lowest):
    pixels = np.random.default_rng(1).integers(lowest, 256, (310, 170, 3)).astype(np.uint8)
    channels = np.count_nonzero(pixels >= 253, axis=2)
    white = (channels == 3).astype(np.uint8)
    rim = pixels[(cv2.dilate(white, np.ones((5, 5), np.uint8)) - white).astype(bool)]
    lowest_of_rim, highest_of_rim = rim.min(1).astype(float), rim.max(1).astype(float)

    figures = highlight_figures(pixels)

    shares = [(channels == count).mean() ** 0.5 for count in (1, 2, 3)]
    rims = [lowest_of_rim.mean() / 255, (highest_of_rim - lowest_of_rim).mean(), (highest_of_rim >= 253).mean()]
    assert figures[:6] == pytest.approx([*shares, *rims], rel=1e-5)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 7), (8, 6), (9, 301)])
@pytest.mark.parametrize("step", [1, 2, 3])
def test_pixels_are_left_out_as_wholes(height, width, step):
    pixels = np.random.default_rng(1).integers(0, 256, (height, 2 * width, 3)).astype(np.uint8)[:, :width]

    some = every(step, pixels)

    assert np.array_equal(some, pixels[::step, ::step])
    assert some.flags.c_contiguous


@pytest.mark.parametrize("size", [1, 9, 10, 101, 5000, 100_000])
@pytest.mark.parametrize("kind", ["even", "ragged", "high where it is sampled"])
def test_ninth_decile_is_the_one_of_all_gradients(size, kind):
    gradients = np.random.default_rng(size).gamma(1, 5, size).astype(np.float32)
    if kind == "even":
        gradients = np.round(gradients / 20)
    elif kind == "high where it is sampled":
        gradients[::101] += 1000

    assert ninth_decile(gradients.reshape(1, -1)) == np.sort(gradients)[size * 9 // 10]
