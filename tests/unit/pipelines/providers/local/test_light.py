import numpy as np
import pytest

from pipelines.providers.local.exposure import _clipped_channels
from pipelines.providers.local.light import counted_percentile


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
