"""Treatment: each measured defect, as much as it was measured, in the order that does least harm."""

import numpy as np
from numpy.typing import NDArray

from pipelines.analysis import Defect
from pipelines.prompts import Corrections
from pipelines.providers.local import colour, exposure, sharpness
from pipelines.providers.local.denoise import denoised
from pipelines.providers.local.learned import Effort
from pipelines.providers.local.measure import Measures
from pipelines.providers.local.strips import in_strips

FORCED_GAMMA = 1.6
FORCED_GAIN = 1.25
FORCED_NOISE = 6.0
FORCED_BLUR_PX = 0.9
"""What a forced correction gets at least or, where nothing was measured, exactly: visible, and mild."""


def treat(
    pixels: NDArray[np.uint8], measures: Measures, corrections: Corrections, effort: Effort
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Treat a picture at its own size.

    Noise first, before brightening or sharpening could raise it; light before
    colour, as it was measured; sharpness last.

    Args:
        pixels: height x width x 3, uint8, sRGB, without bars.
        measures: of the same pixels.
        corrections: which defects may be and which must be treated.
        effort: what networks may cost.

    Returns:
        The picture (the same pixels when nothing was done), and what was done, for people.
    """
    wanted = (measures.found() & corrections.allowed) | corrections.forced
    done = []
    sigma = measures.noise_sigma
    if Defect.HAS_NOISE in wanted:
        sigma = max(sigma, FORCED_NOISE) if Defect.HAS_NOISE in corrections.forced else sigma
        pixels, how = denoised(pixels, sigma, effort)
        done.append(f"noise of sigma {sigma:.1f} removed {how}")
    if Defect.IS_DARK in wanted:
        gamma = measures.gamma if measures.dark_sureness > 0 else FORCED_GAMMA
        pixels = exposure.brightened(pixels, gamma)
        done.append(f"brightened by gamma {gamma:.2f}")
    elif Defect.IS_OVEREXPOSED in wanted:
        gain = exposure.BLOWN_GAIN if measures.overexposed_sureness > 0 else FORCED_GAIN
        pixels = exposure.calmed(pixels, gain)
        done.append(f"exposure lowered by {gain:.2f}")
    if Defect.HAS_COLOR_CAST in wanted and not measures.is_grey:
        pixels = colour.balanced(pixels, measures.cast_gains)
        red, blue = measures.cast_gains
        done.append(f"{colour.hue_name(measures.cast_gains)} cast removed (red {red:.2f}, blue {blue:.2f})")
    if Defect.IS_BLURRY in wanted:
        blur_px = sharpness.blur_sigma(measures.edge_width_px or 0.0) if measures.is_blurred else FORCED_BLUR_PX
        kept_px, grain = blur_px, max(0.5, 1.5 * measures.noise_sigma)
        pixels = in_strips(pixels, lambda strip: sharpness.deblurred(strip, kept_px, grain))
        done.append(f"blur of {blur_px:.1f} px undone")
    return pixels, tuple(done)
