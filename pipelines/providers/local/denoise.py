"""Removal of noise by a trained network and in the DCT domain together, or in the DCT domain alone."""

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.providers.local import noise
from pipelines.providers.local.learned import Run
from pipelines.providers.local.networks import DENOISING, Effort, NetworkUnavailableError
from pipelines.providers.local.strips import in_strips

NETWORK_SHARE = 0.5
"""This fraction of the result is the network's, and the rest the DCT domain's. They err in different places, so that
together they are better than each alone."""

TRAINED_SIGMA = 5.5
"""The network removes noise of up to this sigma, in levels as `noise` measures them. Of stronger noise it leaves some,
so it gets a mixture of the noisy and the denoised picture, whose noise is about this strong."""


def denoised(pixels: NDArray[np.uint8], sigma: float, effort: Effort) -> tuple[NDArray[np.uint8], str]:
    """Remove noise from a picture.

    Args:
        pixels: height x width x 3, uint8, sRGB.
        sigma: the deviation of luma's noise, in levels.
        effort: the time that networks may take.

    Returns:
        The picture, and the method that removed the noise, in words for people.
    """
    calm = in_strips(pixels, lambda strip: noise.denoised(strip, sigma))
    try:
        noisy_share = min(1.0, (TRAINED_SIGMA / max(sigma, 1.0)) ** 2)
        mixture = cv2.addWeighted(pixels, noisy_share, calm, 1 - noisy_share, 0)
        with Run(DENOISING, np.asarray(mixture, np.uint8), effort) as run:
            result = calm.copy()
            for tile in run.tiles():
                was, made = run.of_tile(tile)
                # this network enlarges twofold, too, so its result is halved again
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
