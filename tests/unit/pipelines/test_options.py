import pytest

from config.pipeline_rules import RULES, Defect
from pipelines.errors import InvalidOptionsError
from pipelines.options import PipelineOptions, resolve


def test_resolve_without_pipelines_gives_the_default():
    options = resolve(None)

    assert options == PipelineOptions()
    assert (options.analysis.is_enabled, options.auto_crop.is_enabled) == (True, True)
    assert (options.auto_crop.min_crop_ratio, options.generation.retry_attempts) == (0.05, 3)


def test_resolve_gives_the_default_of_what_a_pipeline_leaves_open():
    album = {"analysisConfig": None, "generationConfig": {"retryAttempts": 7}}

    assert resolve({"analysisConfig": None}) == PipelineOptions()
    assert resolve(album).generation.retry_attempts == 7


def test_resolve_reads_every_value():
    options = resolve(
        {
            "analysisConfig": {"enabled": False, "model": "m", "temperature": 0},
            "autoCropConfig": {
                "enabled": False,
                "minCropRatio": 0.2,
                "allowBlackBarRemoval": False,
                "allowUIElementCrop": False,
            },
            "promptConfig": {
                "defectOverrides": {"isDark": False, "hasNoise": "keep the grain", "isBlurry": None, "unknown": 1},
                "customInstructions": "warm",
                "skipCorrections": True,
                "referenceImages": [{"url": "u", "r2Key": "k", "description": "d", "more": 1}],
            },
            "generationConfig": {"model": "g", "temperature": 1.5, "retryAttempts": 2.0},
            "ours": {"not": "known"},
        }
    )

    assert (options.analysis.is_enabled, options.analysis.model, options.analysis.temperature) == (False, "m", 0)
    assert options.auto_crop.min_crop_ratio == 0.2
    assert not options.auto_crop.allow_black_bar_removal
    assert options.prompt.defect_overrides == {Defect.IS_DARK: False, Defect.HAS_NOISE: "keep the grain"}
    assert options.prompt.reference_images[0].r2_key == "k"
    assert (options.generation.temperature, options.generation.retry_attempts) == (1.5, 2)


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        ({"analysisConfig": []}, "analysisConfig: must be an object, found an array"),
        ({"analysisConfig": {"enabled": "false"}}, "analysisConfig.enabled: must be a boolean, found a string"),
        ({"analysisConfig": {"enabled": 1}}, "analysisConfig.enabled: must be a boolean, found an integer"),
        ({"analysisConfig": {"temperature": True}}, "analysisConfig.temperature: must be a number, found a boolean"),
        (
            {"analysisConfig": {"temperature": float("nan")}},
            "analysisConfig.temperature: must be a number, found a number that isn't finite",
        ),
        ({"autoCropConfig": {"minCropRatio": -0.1}}, "autoCropConfig.minCropRatio: between 0 and 1, found -0.1"),
        ({"generationConfig": {"temperature": 2.1}}, "generationConfig.temperature: between 0 and 2, found 2.1"),
        ({"generationConfig": {"retryAttempts": 0}}, "generationConfig.retryAttempts: between 1 and 10, found 0"),
        (
            {"generationConfig": {"retryAttempts": 1.5}},
            "generationConfig.retryAttempts: must be an integer, found a number",
        ),
        ({"promptConfig": {"referenceImages": [{}] * 4}}, "promptConfig.referenceImages: at most 3, found 4"),
        (
            {"promptConfig": {"referenceImages": [{}, {"url": 5}]}},
            "promptConfig.referenceImages[1].url: must be a string, found an integer",
        ),
        (
            {"promptConfig": {"customInstructions": "x" * 2001}},
            "promptConfig.customInstructions: at most 2,000 characters, found 2,001",
        ),
        ({"promptConfig": {"customInstructions": "a\0b"}}, "promptConfig.customInstructions: has a NUL character"),
        (
            {"promptConfig": {"defectOverrides": {"isDark": 3}}},
            "promptConfig.defectOverrides.isDark: must be a boolean or string, found an integer",
        ),
    ],
)
def test_resolve_refuses_with_path_and_reason(pipeline, message):
    with pytest.raises(InvalidOptionsError) as caught:
        resolve(pipeline)

    assert str(caught.value) == message


def test_rules_name_each_place_once_and_outer_before_inner():
    paths = [rule.path for rule in RULES]

    assert len(set(paths)) == len(paths)
    for path in paths:
        outer = path.removesuffix("[]") if path.endswith("[]") else path.rpartition(".")[0]
        assert not outer or outer in paths[: paths.index(path)]
