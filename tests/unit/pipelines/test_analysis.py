import pytest
from pydantic import ValidationError

from config.pipeline_rules import Defect
from pipelines.analysis import Analysis

DEFECTS = {
    "isDark": True,
    "isBlurry": False,
    "hasNoise": False,
    "hasVHSArtifacts": False,
    "isLowResolution": False,
    "isOverexposed": False,
    "hasColorCast": True,
    "colorCastType": "orange",
}


def analysis_json(**parts):
    return {
        "mainSubject": "a dog",
        "imageStyle": "photograph",
        "defects": DEFECTS,
        "lightingCondition": "low light",
        "cropping": {
            "isCroppingNeeded": True,
            "suggestedCrop": {"x": 0.0, "y": 0.1, "width": 1.0, "height": 0.8},
            "cropReason": "black bars",
        },
        **parts,
    }


def test_analysis_round_trip_is_exactly_the_same_json():
    analysis = Analysis.of_result(analysis_json(), source="local")

    assert analysis.result() == analysis_json()
    assert analysis.source == "local"
    assert analysis.defects.found() == {Defect.IS_DARK, Defect.HAS_COLOR_CAST}


def test_analysis_drops_unknown_keys_and_a_source_from_outside():
    analysis = Analysis.of_result(analysis_json(source="forged", __proto__={}), source="gemini-x")

    assert analysis.source == "gemini-x"
    assert set(analysis.result()) == set(analysis_json())


@pytest.mark.parametrize("flag", ["false", 1, None, [], {}])
def test_analysis_refuses_a_flag_that_is_no_bool(flag):
    with pytest.raises(ValidationError):
        Analysis.of_result(analysis_json(defects={**DEFECTS, "isDark": flag}), source="m")


@pytest.mark.parametrize("edge", [float("nan"), float("inf"), "0.5", True, None, []])
def test_analysis_refuses_a_crop_that_is_no_finite_number(edge):
    crop = {"x": edge, "y": 0.0, "width": 1.0, "height": 1.0}

    with pytest.raises(ValidationError):
        Analysis.of_result(
            analysis_json(cropping={"isCroppingNeeded": True, "suggestedCrop": crop, "cropReason": None}), source="m"
        )


def test_analysis_clamps_a_crop_into_the_picture():
    crop = {"x": -5, "y": 0.25, "width": 99, "height": 99}
    cropping = {"isCroppingNeeded": True, "suggestedCrop": crop, "cropReason": "bars"}

    read = Analysis.of_result(analysis_json(cropping=cropping), source="m").cropping

    assert read.suggested_crop.model_dump() == {"x": 0.0, "y": 0.25, "width": 1.0, "height": 0.75}


def test_analysis_drops_a_crop_that_keeps_too_little():
    crop = {"x": 0.5, "y": 0.5, "width": 0.001, "height": 0.001}
    cropping = {"isCroppingNeeded": True, "suggestedCrop": crop, "cropReason": "bars"}

    read = Analysis.of_result(analysis_json(cropping=cropping), source="m").cropping

    assert not read.is_cropping_needed
    assert read.suggested_crop.area_fraction == 1.0


def test_analysis_without_a_suggestion_keeps_everything():
    cropping = {"isCroppingNeeded": False, "suggestedCrop": None, "cropReason": None}

    read = Analysis.of_result(analysis_json(cropping=cropping), source="m").cropping

    assert read.suggested_crop.area_fraction == 1.0


def test_analysis_cuts_long_text_and_drops_control_characters():
    read = Analysis.of_result(analysis_json(mainSubject="a\n\0b" + "x" * 10_000), source="m")

    assert read.main_subject.startswith("abxx")
    assert len(read.main_subject) == 200
