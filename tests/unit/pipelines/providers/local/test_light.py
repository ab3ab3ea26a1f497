import numpy as np
import pytest

from pipelines.providers.local.exposure import _clipped_channels
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


def test_clipped_channels_of_each_pixel_are_counted():
    pixels = np.random.default_rng(1).integers(248, 256, (31, 17, 3)).astype(np.uint8)

    assert (_clipped_channels(pixels) == np.count_nonzero(pixels >= 253, axis=2)).all()


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
