"""Noise taken out by a trained network and in the DCT domain at once, as far as a network may be used."""

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.providers.local import noise
from pipelines.providers.local.learned import DENOISING, Effort, NetworkUnavailableError, Run
from pipelines.providers.local.strips import in_strips

NETWORK_SHARE = 0.5
"""Of the result; the rest is the classical one's. They err in different places: together they are better than each."""

TRAINED_SIGMA = 5.5
"""Levels, as `noise` measures them. Stronger noise than it was trained for the network leaves in: it is given a mixture
of the noisy and the calm picture, in which the noise is about as strong as this."""


def denoised(pixels: NDArray[np.uint8], sigma: float, effort: Effort) -> tuple[NDArray[np.uint8], str]:
    """Take noise out of a picture.

    Args:
        pixels: height x width x 3, uint8, sRGB.
        sigma: of luma, in levels.
        effort: what networks may cost.

    Returns:
        The picture, and by what means, for people.
    """
    calm = in_strips(pixels, lambda strip: noise.denoised(strip, sigma))
    try:
        noisy_share = min(1.0, (TRAINED_SIGMA / max(sigma, 1.0)) ** 2)
        mixture = cv2.addWeighted(pixels, noisy_share, calm, 1 - noisy_share, 0)
        with Run(DENOISING, np.asarray(mixture, np.uint8), effort) as run:
            result = calm.copy()
            for tile in run.tiles():
                was, made = run.of_tile(tile)
                # the network enlarges at once: its result is halved again
                half = np.asarray(cv2.resize(made, was.shape[1::-1], interpolation=cv2.INTER_AREA), np.float32)
                top, left = tile[:2]
                part = result[top : top + half.shape[0], left : left + half.shape[1]]
                part[:] = _mixed(half[: part.shape[0], : part.shape[1]], part)
    except NetworkUnavailableError as error:
        return calm, f"in the DCT domain ({error})"
    return result, f"by a network ({DENOISING.name}) and in the DCT domain"


def _mixed(learned: NDArray[np.float32], classical: NDArray[np.uint8]) -> NDArray[np.uint8]:
    mixed = NETWORK_SHARE * learned + (1 - NETWORK_SHARE) * classical
    return np.clip(np.round(mixed), 0, 255).astype(np.uint8)
