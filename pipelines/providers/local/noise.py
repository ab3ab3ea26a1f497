"""Noise: its measurement, which distinguishes it from texture, and its removal in the DCT domain."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.providers.local.scores import Score, fitted

_MASK = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32) / 6
"""Immerkaer's operator (Fast Noise Variance Estimation, 1996). It ignores edges, and keeps the sigma of white noise."""

_BLOCK = 8
_THRESHOLD = 2.5
"""Coefficients smaller than sigma times this are noise. Yu and Sapiro (DCT image denoising, IPOL 2011) have 3; a little
grain that stays looks better than wax, and costs no PSNR."""

_GRAIN = 0.12
"""This fraction of the noise stays, since skin without any looks like wax."""

_CHUNK_ROWS = 64
"""So many rows of blocks are transformed at a time, which limits memory."""


def noise_figures(luma: NDArray[np.uint8], chroma: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Compute figures of the smoothest parts of a picture.

    Noise is about equally strong everywhere and at every scale; texture is the
    stronger the larger the scale, and some parts of a picture have none.

    Args:
        luma: height x width, uint8.
        chroma: height x width, uint8, one chroma channel.

    Returns:
        Logarithms: percentiles of the blocks' deviations, deviations at the
        next scale, and a percentile of chroma's. The second figure is the
        logarithm of sigma in levels.
    """
    fine = _deviations(luma.astype(np.float32), 16)
    # averaging four pixels halves white noise, so it is doubled again
    half = _halved(luma) * 2
    coarse = _deviations(half, 8)
    height, width = min(fine.shape[0], coarse.shape[0]), min(fine.shape[1], coarse.shape[1])
    fine, coarse = fine[:height, :width], coarse[:height, :width]
    level = cv2.resize(luma, (width, height), interpolation=cv2.INTER_AREA)
    usable = (level > 12) & (level < 243)  # noqa: PLR2004 - clipping removes noise
    if usable.sum() < 20:  # noqa: PLR2004 - too few blocks to rank
        usable = np.ones_like(usable)
    fine, coarse = fine[usable], coarse[usable]
    low = np.percentile(fine, [2, 10, 25, 50])
    smooth = coarse[fine <= low[1] + 1e-6]
    colour = np.percentile(_deviations(_halved(chroma), 8), 10)
    return np.log(np.array([*low, np.median(smooth), np.percentile(coarse, 10), colour]) + 0.2)


def noise_of(figures: NDArray[np.float64]) -> tuple[float, float]:
    """Return how sure it is that a picture is noisy (above 0 it is treated), and the sigma of luma in levels."""
    return fitted(Score.NOISY).of(figures), float(np.exp(figures[1]) - 0.2)


def denoised(pixels: NDArray[np.uint8], sigma: float) -> NDArray[np.uint8]:
    """Remove noise from a picture (height x width x 3, uint8, sRGB).

    Luma is treated at full size, and chroma at half, with a sigma of its own:
    neither eyes nor JPEG keep finer colour.
    """
    ycc = cv2.cvtColor(pixels, cv2.COLOR_RGB2YCrCb)
    height, width = pixels.shape[:2]
    grainy = ycc[..., 0].astype(np.float32)
    luma = (1 - _GRAIN) * _thresholded(grainy, sigma) + _GRAIN * grainy
    channels = [np.clip(np.round(luma), 0, 255).astype(np.uint8)]
    for index in (1, 2):
        half = _halved(ycc[..., index])
        chroma_sigma = float(np.percentile(_deviations(half, 8), 25)) if min(half.shape) >= 16 else 0.0  # noqa: PLR2004
        calm = _thresholded(half, min(chroma_sigma, sigma)) if chroma_sigma > 0.5 else half  # noqa: PLR2004 - levels
        full = cv2.resize(calm, (width, height), interpolation=cv2.INTER_LINEAR)
        channels.append(np.clip(np.round(full), 0, 255).astype(np.uint8))
    return np.asarray(cv2.cvtColor(cv2.merge(channels), cv2.COLOR_YCrCb2RGB), np.uint8)


def _halved(channel: NDArray[Any]) -> NDArray[np.float32]:
    """Return half the size, averaged by area; at least one pixel."""
    size = (max(1, channel.shape[1] // 2), max(1, channel.shape[0] // 2))
    return np.asarray(cv2.resize(channel.astype(np.float32), size, interpolation=cv2.INTER_AREA), np.float32)


def _deviations(channel: NDArray[np.float32], block: int) -> NDArray[np.float32]:
    """Return the deviation of each block after Immerkaer's operator; one value when the picture is too small."""
    residual = np.asarray(cv2.filter2D(channel, -1, _MASK), np.float32)
    rows, columns = residual.shape[0] // block, residual.shape[1] // block
    if not rows or not columns:
        return np.full((1, 1), float(residual.std()), np.float32)
    tiles = residual[: rows * block, : columns * block].reshape(rows, block, columns, block)
    squares = np.einsum("abcd,abcd->ac", tiles, tiles)
    return np.asarray(np.sqrt(squares / block**2), np.float32)


def _thresholded(channel: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Set every DCT coefficient under the threshold to zero in overlapping blocks, and average the blocks."""
    height, width = channel.shape
    step = 3 if height * width <= 1_500_000 else 4  # noqa: PLR2004 - pixels; a finer overlap costs quadratic time
    pad = ((_BLOCK, _BLOCK + (-height) % step), (_BLOCK, _BLOCK + (-width) % step))
    padded = np.pad(channel, pad, mode="symmetric") if min(height, width) >= _BLOCK else np.pad(channel, pad, "edge")
    total, weight = np.zeros_like(padded), np.zeros_like(padded)
    basis = _dct_basis()
    windows = np.lib.stride_tricks.sliding_window_view(padded, (_BLOCK, _BLOCK))[::step, ::step]
    for top in range(0, windows.shape[0], _CHUNK_ROWS):
        blocks = windows[top : top + _CHUNK_ROWS]
        rows, columns = blocks.shape[:2]
        spectrum = blocks.reshape(-1, _BLOCK * _BLOCK) @ basis.T
        kept = np.abs(spectrum) > _THRESHOLD * sigma
        kept[:, 0] = True
        # a block that needs few coefficients is better evidence (Guleryuz 2007)
        trust = 1 / kept.sum(1, dtype=np.float32)
        calm = ((spectrum * kept) @ basis * trust[:, None]).reshape(rows, columns, _BLOCK, _BLOCK)
        trust = trust.reshape(rows, columns)
        for y in range(_BLOCK):
            down = slice(top * step + y, top * step + y + rows * step, step)
            for x in range(_BLOCK):
                across = slice(x, x + columns * step, step)
                total[down, across] += calm[..., y, x]
                weight[down, across] += trust
    inside = (slice(_BLOCK, _BLOCK + height), slice(_BLOCK, _BLOCK + width))
    calm_channel: NDArray[np.float32] = total[inside] / weight[inside]
    return calm_channel


def _dct_basis() -> NDArray[np.float32]:
    """Return the orthonormal 2-D DCT-II of a block as one 64 x 64 matrix."""
    index = np.arange(_BLOCK)
    basis = np.cos(np.pi * (2 * index[None, :] + 1) * index[:, None] / (2 * _BLOCK)) * np.sqrt(2 / _BLOCK)
    basis[0] /= np.sqrt(2)
    return np.kron(basis, basis).astype(np.float32)
