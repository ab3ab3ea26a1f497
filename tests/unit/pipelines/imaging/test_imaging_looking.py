import numpy as np
import pytest

from pipelines.imaging.looking import mean_colour


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (33, 2), (64, 48)])
def test_mean_colour_is_exactly_the_rounded_mean_of_each_channel(size):
    for seed in range(20):
        pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)

        assert mean_colour(pixels) == tuple(pixels.reshape(-1, 3).mean(axis=0).round().astype(int))
