"""Treatment of each defect, as strongly as it was measured, in the order that does least harm."""

import math

import numpy as np
from numpy.typing import NDArray

from config.pipeline_rules import Defect
from pipelines.corrections import Corrections
from pipelines.providers.local import colour, exposure, sharpness
from pipelines.providers.local.denoise import denoised
from pipelines.providers.local.measure import Light, Measures, share_of
from pipelines.providers.local.networks import Effort
from pipelines.providers.local.strips import in_strips

FORCED_GAMMA = 1.6
FORCED_GAIN = 1.25
FORCED_NOISE = 6.0
FORCED_BLUR_PX = 0.9
"""A forced correction is at least this strong. Where nothing was measured it is exactly so, visible and mild."""


def treat(
    pixels: NDArray[np.uint8], measures: Measures, corrections: Corrections, effort: Effort
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Treat a picture at its own size.

    Noise is treated first, before brightening or sharpening could raise it;
    light before colour, in the order of measurement; sharpness last.

    Args:
        pixels: height x width x 3, uint8, sRGB, without bars.
        measures: the figures of the same pixels.
        corrections: which defects may be treated, and which must be.
        effort: the time that networks may still take.

    Returns:
        The picture (the same pixels when nothing was done), and what was done, in words for people.
    """
    wanted = (measures.found() & corrections.allowed) | corrections.forced
    done = []
    sigma = noise_to_remove(measures, corrections)
    if sigma is not None:
        pixels, how = denoised(pixels, sigma, effort)
        done.append(f"noise of sigma {sigma:.1f} removed {how}")
    if Defect.IS_DARK in wanted:
        pixels, said = _brightened(pixels, measures.light)
        done.append(said)
    elif Defect.IS_OVEREXPOSED in wanted:
        share = share_of(measures.light.over_sureness)
        gain = measures.light.over_gain**share if measures.light.over_sureness > 0 else FORCED_GAIN
        pixels = exposure.calmed(pixels, gain)
        done.append(f"light lowered by {gain:.2f}")
    if Defect.HAS_COLOR_CAST in wanted and not measures.is_grey:
        share = share_of(measures.cast_sureness)
        cast = (share * measures.cast[0], share * measures.cast[1])
        pixels = colour.balanced(pixels, cast)
        red, blue = math.exp(cast[0]), math.exp(cast[1])
        done.append(f"{colour.hue_name(measures.cast)} cast removed (red {red:.2f}, blue {blue:.2f})")
    if Defect.IS_BLURRY in wanted:
        blur_px = sharpness.blur_sigma(measures.edge_width_px or 0.0) if measures.is_blurred else FORCED_BLUR_PX
        kept_px, grain = blur_px, max(0.5, 1.5 * measures.noise_sigma)
        pixels = in_strips(pixels, lambda strip: sharpness.deblurred(strip, kept_px, grain))
        done.append(f"blur of {blur_px:.1f} px undone")
    return pixels, tuple(done)


def noise_to_remove(measures: Measures, corrections: Corrections) -> float | None:
    """Return the strength of the noise to be removed, as luma's sigma in levels; None if none is to be removed."""
    if Defect.HAS_NOISE in corrections.forced:
        return max(measures.noise_sigma, FORCED_NOISE)
    if Defect.HAS_NOISE in measures.found() & corrections.allowed:
        return measures.noise_sigma
    return None


def _brightened(pixels: NDArray[np.uint8], light: Light) -> tuple[NDArray[np.uint8], str]:
    """Raise the light that lacked, or undo the gamma that darkened; if neither was found, undo a mild gamma."""
    if light.is_underexposed:
        gain = light.light_gain ** share_of(light.under_sureness)
        return exposure.exposed(pixels, gain), f"light raised by {gain:.2f}"
    gamma = light.gamma ** share_of(light.dark_sureness) if light.is_darkened else FORCED_GAMMA
    return exposure.brightened(pixels, gamma), f"brightened by gamma {gamma:.2f}"
