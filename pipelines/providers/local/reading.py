"""What the local engine measured, as an analysis of the picture."""

from config.pipeline_rules import Defect
from pipelines.analysis import Analysis, Cropping, Defects
from pipelines.cropping import CropSuggestion
from pipelines.providers.local.findings import Findings

BLACK_BARS = "black bars"
"""The reason that people read for a crop."""

_DARK_SCENE, _BRIGHT_SCENE = 0.2, 0.75
"""A scene whose mean luma is under the first is in low light; one over the second is bright."""


def analysis_of(findings: Findings) -> Analysis:
    """Return the analysis that follows from what was measured."""
    found = _found(findings)
    return Analysis(
        main_subject="unknown",
        image_style="black and white photograph" if findings.is_grey else "photograph",
        defects=Defects(
            is_dark=Defect.IS_DARK in found,
            is_blurry=Defect.IS_BLURRY in found,
            has_noise=Defect.HAS_NOISE in found,
            is_low_resolution=Defect.IS_LOW_RESOLUTION in found,
            is_overexposed=Defect.IS_OVEREXPOSED in found,
            has_color_cast=Defect.HAS_COLOR_CAST in found,
            color_cast_type=findings.cast,
        ),
        lighting_condition=_lighting(findings),
        cropping=_cropping(findings),
        measures=findings.measures,
    )


def _found(findings: Findings) -> frozenset[Defect]:
    return frozenset(defect for defect in Defect if defect.value in findings.defects)


def _lighting(findings: Findings) -> str:
    found = _found(findings)
    if Defect.IS_DARK in found or findings.mean_luma < _DARK_SCENE:
        return "low light"
    if Defect.IS_OVEREXPOSED in found:
        return "overexposed"
    return "bright" if findings.mean_luma > _BRIGHT_SCENE else "normal"


def _cropping(findings: Findings) -> Cropping:
    inner, width_px, height_px = findings.inner, findings.width_px, findings.height_px
    if inner is None:
        return Cropping()
    crop = CropSuggestion(
        x=inner.x / width_px, y=inner.y / height_px, width=inner.width / width_px, height=inner.height / height_px
    )
    return Cropping(is_cropping_needed=True, suggested_crop=crop, crop_reason=BLACK_BARS)
