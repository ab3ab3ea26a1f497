"""The quality that the issue requires, on photographs to which no model was fitted."""

import cv2
import numpy as np
import pytest

from bench import quality
from bench import quality_damage as damage
from config.pipeline_rules import Defect
from pipelines.corrections import NO_CORRECTIONS
from pipelines.providers.local.work import enhanced

HELD_OUT = [name for name, is_fitted in damage.BUNDLED.items() if not is_fitted]
COLOUR = ["coffee.png", "motorcycle_right.png"]

UNFOUND = {("coffee.png", "cast"), ("coffee.png", "dark")}
"""A picture that is brown all over: whether that is light or wood can't be measured, nor whether its shadows are a
gamma's or a table's. It is left alone."""


def outcome(hurt, truth, jpeg_quality=92, subsampling=0):
    data = damage.as_jpeg(damage.DAMAGES[hurt](truth), jpeg_quality, subsampling)
    # an undamaged picture is held against what came in: how JPEG had changed it before isn't our doing
    truth = damage.from_bytes(data) if hurt == "undamaged" else truth
    return quality.outcome(hurt, "", truth, data, is_sound=False)


def photograph(name):
    return damage.load(damage.bundled_folder() / name, 768)


@pytest.mark.parametrize("name", COLOUR)
@pytest.mark.parametrize(
    ("hurt", "least_gain"), [("dark", 8.0), ("noise", 2.5), ("blur", 1.2), ("cast", 2.0), ("low resolution", -0.1)]
)
def test_damaged_photograph_comes_out_better(name, hurt, least_gain):
    if (name, hurt) in UNFOUND:
        least_gain = -0.1

    assert outcome(hurt, photograph(name)).gain >= least_gain


@pytest.mark.parametrize("name", HELD_OUT)
@pytest.mark.parametrize(("jpeg_quality", "subsampling"), [(90, 2), (95, 0)])
def test_undamaged_photograph_is_left_alone(name, jpeg_quality, subsampling):
    seen = outcome("undamaged", photograph(name), jpeg_quality, subsampling)

    assert seen.after >= 40
    assert seen.ssim >= 0.98


@pytest.mark.parametrize(
    ("side_px", "is_grey"),
    [
        (3400, True),
        pytest.param(4500, False, marks=pytest.mark.proof),
        pytest.param(3400, False, marks=pytest.mark.proof),
        pytest.param(4500, True, marks=pytest.mark.proof),
    ],
)
def test_noise_of_a_large_photograph_is_found_and_removed_from_a_smaller_result(side_px, is_grey):
    size = (side_px, side_px * 2 // 3)
    large = np.asarray(cv2.resize(photograph("coffee.png"), size, interpolation=cv2.INTER_CUBIC))[: side_px // 4]
    luck = np.random.default_rng(1).normal(0, 24, (*large.shape[:2], 1 if is_grey else 3))
    clean, noisy = damage.as_jpeg(large), damage.as_jpeg(damage.rounded(large + luck))

    result, analysis, _ = quality.enhance(noisy, 2048)
    truth, untreated = (
        damage.from_bytes(enhanced(data, None, None, 2048, NO_CORRECTIONS, quality.LIMITS).data)
        for data in (clean, noisy)
    )

    assert analysis.defects.found() == {Defect.HAS_NOISE}
    assert damage.psnr(truth, result) >= damage.psnr(truth, untreated) + 3
    assert Defect.HAS_NOISE not in quality.enhance(clean, 2048)[1].defects.found()


@pytest.mark.parametrize("name", COLOUR)
def test_flipped_and_cropped_photograph_is_left_alone(name):
    part = photograph(name)[40:300, ::-1][:, 30:420]

    assert outcome("undamaged", np.ascontiguousarray(part)).after >= 40


@pytest.mark.parametrize(
    ("hurt", "defect"),
    [
        ("dark", Defect.IS_DARK),
        ("noise", Defect.HAS_NOISE),
        ("blur", Defect.IS_BLURRY),
        ("cast", Defect.HAS_COLOR_CAST),
    ],
)
def test_analysis_names_the_defect(hurt, defect):
    data = damage.as_jpeg(damage.DAMAGES[hurt](photograph("motorcycle_right.png")))

    _, analysis, _ = quality.enhance(data, 741)

    assert defect in analysis.defects.found()


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (7, 9), (40, 17)])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_the_smallest_and_emptiest_pictures_pass(size, level):
    data = damage.as_jpeg(np.full((*size, 3), level, np.uint8))

    result, _, _ = quality.enhance(data, 64)

    assert max(result.shape[:2]) == 64


def test_pure_noise_passes():
    rng = np.random.default_rng(3)

    result, _, _ = quality.enhance(damage.as_jpeg(rng.integers(0, 256, (90, 120, 3)).astype(np.uint8)), 120)

    assert result.shape == (90, 120, 3)
