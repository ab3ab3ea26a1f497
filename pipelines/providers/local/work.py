"""The local engine's tasks, as pure functions for a pixel child, each of which decodes the picture once.

Each child imports this module when it starts, so it imports no more than pixel work needs.
"""

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from config.pipeline_rules import Defect
from pipelines.corrections import Corrections
from pipelines.imaging.decode import DecodedImage, decode, shrinks_alike
from pipelines.imaging.encode import encode_jpeg, resize
from pipelines.imaging.geometry import PixelBox, fit_long_side
from pipelines.imaging.header import DecodeLimits
from pipelines.providers.local import colour
from pipelines.providers.local.bars import picture_box
from pipelines.providers.local.blend import blended
from pipelines.providers.local.comb import is_coarse_jpeg
from pipelines.providers.local.enlarge import enlarged
from pipelines.providers.local.findings import Enhanced, Findings
from pipelines.providers.local.measure import Proof, measure, noise_sigma_of, proof_of
from pipelines.providers.local.networks import Effort
from pipelines.providers.local.treat import treat

MEASURED_SIDE_PX = 2048
"""Blur is measured at this size at most: that of larger pictures vanishes in every tier but the largest."""

LOSSLESS = frozenset({"PNG", "GIF"})
"""Formats of `decode` that store a picture without losses. WebP isn't among them, though it may be lossless."""

PROVED_AS_DECODED = frozenset({Defect.IS_DARK, Defect.IS_OVEREXPOSED, Defect.HAS_NOISE})
"""Defects whose proof lies in single levels and pixels, which shrinking mixes."""


def findings_of(data: bytes, limits: DecodeLimits, result_side_px: int | None = None) -> Findings:
    """Decode and measure a picture, and make the result of a sound one.

    Args:
        data: the original's bytes.
        limits: the limits of pictures that are decoded.
        result_side_px: the long side of the result that will be wanted; None makes none.

    Raises:
        BadImageError: the picture can't be decoded.
    """
    decoded = decode(data, limits)
    pixels = decoded.pixels
    height, width = pixels.shape[:2]
    inner = picture_box(_luma(pixels))
    pixels = _part(pixels, inner)
    shrunk = _shrunk(pixels, MEASURED_SIDE_PX)
    measures = measure(shrunk, proof_of(pixels, is_coarse=is_coarse_jpeg(data)))
    found = measures.found()
    is_sound = inner is None and not found
    return Findings(
        defects=tuple(defect.value for defect in found),
        cast=colour.hue_name(measures.cast) if Defect.HAS_COLOR_CAST in found else None,
        is_grey=measures.is_grey,
        mean_luma=measures.mean_luma,
        inner=inner,
        width_px=width,
        height_px=height,
        measures=measures.as_numbers(),
        plain=_plain(decoded, shrunk, result_side_px) if result_side_px is not None and is_sound else None,
    )


def _plain(decoded: DecodedImage, shrunk: NDArray[np.uint8], long_side_px: int) -> Enhanced | None:
    """Return what `enhanced` makes of a whole picture without corrections; None if that takes more than to shrink it.

    Args:
        decoded: the picture at full size.
        shrunk: it with a long side of at most MEASURED_SIDE_PX.
        long_side_px: the long side of the result.
    """
    if max(decoded.width_px, decoded.height_px) < long_side_px or not shrinks_alike(decoded, long_side_px):
        return None
    pixels = shrunk if long_side_px == MEASURED_SIDE_PX else _shrunk(decoded.pixels, long_side_px)
    return Enhanced(encode_jpeg(pixels), pixels.shape[1], pixels.shape[0], ())


def box_between_bars(data: bytes, limits: DecodeLimits) -> PixelBox | None:
    """Decode a picture and return its part between black bars, in pixels of the oriented original; None without bars.

    Raises:
        BadImageError: the picture can't be decoded.
    """
    return picture_box(_luma(decode(data, limits).pixels))


def enhanced(
    data: bytes,
    box: PixelBox | None,
    source: bytes | None,
    long_side_px: int,
    corrections: Corrections,
    limits: DecodeLimits,
    effort: Effort | None = None,
    model: str | None = None,
) -> Enhanced:
    """Decode, crop, measure, treat, scale and encode a picture.

    A picture is treated at the smaller of its own size and the result's, so
    that noise is removed before it is enlarged, and nothing is treated that
    shrinking removes.

    Args:
        data: the original's bytes.
        box: what to keep; None keeps all.
        source: the bytes of the picture whose palette and light the result gets; None if there is none.
        long_side_px: the long side of the result.
        corrections: which defects to treat.
        limits: the limits of pictures that are decoded.
        effort: what networks may cost; None allows what one picture may cost by default.
        model: the network that a pipeline names, or another provider's model; see `enlarged`.

    Raises:
        BadImageError: the picture can't be decoded.
    """
    effort = effort or Effort()
    effort.begin()
    decoded, proof = _decoded(data, box, long_side_px, corrections, limits)
    pixels = decoded.pixels
    target = fit_long_side(*_kept_size(box, decoded.width_px, decoded.height_px), long_side_px)
    treatments: tuple[str, ...] = ()
    if proof is not None:
        part = np.ascontiguousarray(_part(pixels, picture_box(_luma(pixels))))
        # whether there is noise was proved before it was shrunk; how strong it is counts as it will be treated
        measures = replace(measure(part, proof), noise_sigma=noise_sigma_of(part))
        pixels, treatments = treat(pixels, measures, corrections, effort)
    if source is not None:
        other = decode(source, limits, max_long_side_px=512).pixels
        pixels = blended(pixels, other)
        treatments = (*treatments, "palette and light of the second picture")
    is_compressed = decoded.format not in LOSSLESS
    pixels, how = enlarged(pixels, *target, effort, is_compressed=is_compressed, model=model)
    treatments = treatments if how is None else (*treatments, how)
    return Enhanced(encode_jpeg(pixels), *target, treatments)


def _decoded(
    data: bytes, box: PixelBox | None, long_side_px: int, corrections: Corrections, limits: DecodeLimits
) -> tuple[DecodedImage, Proof | None]:
    """Decode a picture at the size that it is treated at, and measure light and noise where anything may be treated.

    If these may be treated, they are measured before the picture is shrunk, as in the picture's analysis: shrinking
    removes the proof that light was recorded wrongly, and makes noise resemble texture, so that this measurement would
    disagree with the analysis.
    """
    wanted = corrections.allowed | corrections.forced
    side_px = None if wanted & PROVED_AS_DECODED else long_side_px
    decoded = decode(data, limits, box=box, max_long_side_px=side_px)
    if not wanted:
        return decoded, None
    # bars that the owner wants to keep would count as darkness; treated with the rest they stay black
    part = _part(decoded.pixels, picture_box(_luma(decoded.pixels)))
    proof = proof_of(part, is_coarse=is_coarse_jpeg(data))
    return replace(decoded, pixels=_shrunk(decoded.pixels, long_side_px)), proof


def _part(pixels: NDArray[np.uint8], box: PixelBox | None) -> NDArray[np.uint8]:
    return pixels if box is None else pixels[box.y : box.bottom, box.x : box.right]


def _luma(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)


def _kept_size(box: PixelBox | None, width_px: int, height_px: int) -> tuple[int, int]:
    if box is None:
        return width_px, height_px
    return min(box.width, width_px - box.x), min(box.height, height_px - box.y)


def _shrunk(pixels: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    if max(height, width) <= side_px:
        return np.ascontiguousarray(pixels)
    return resize(pixels, *fit_long_side(width, height, side_px))
