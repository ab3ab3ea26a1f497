"""Rules for a pipeline's JSON: one table, from which the check in Python and the producers' SQL function are made."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

JsonType = Literal["object", "boolean", "number", "integer", "string", "array", "boolean or string"]


@dataclass(frozen=True, slots=True)
class Rule:
    """What one place of a pipeline's JSON may hold.

    `path` is dotted: `[]` stands for each element of an array, `*` for each value of an object. `least` and
    `most` bound a number's value, a string's length in characters, or an array's number of elements. Null
    always means "the default". Unknown keys are ignored, because applications keep keys of their own there.
    """

    path: str
    type: JsonType
    least: float | None = None
    most: float | None = None


RULES: Final = (
    Rule("analysisConfig", "object"),
    Rule("analysisConfig.enabled", "boolean"),
    Rule("analysisConfig.model", "string", 1, 200),
    Rule("analysisConfig.temperature", "number", 0, 2),
    Rule("autoCropConfig", "object"),
    Rule("autoCropConfig.enabled", "boolean"),
    Rule("autoCropConfig.minCropRatio", "number", 0, 1),
    Rule("autoCropConfig.allowBlackBarRemoval", "boolean"),
    Rule("autoCropConfig.allowUIElementCrop", "boolean"),
    Rule("promptConfig", "object"),
    Rule("promptConfig.defectOverrides", "object"),
    Rule("promptConfig.defectOverrides.*", "boolean or string", 0, 500),
    Rule("promptConfig.customInstructions", "string", 0, 2000),
    Rule("promptConfig.skipCorrections", "boolean"),
    Rule("promptConfig.referenceImages", "array", 0, 3),
    Rule("promptConfig.referenceImages[]", "object"),
    Rule("promptConfig.referenceImages[].url", "string", 0, 2048),
    Rule("promptConfig.referenceImages[].r2Key", "string", 0, 1024),
    Rule("promptConfig.referenceImages[].description", "string", 0, 500),
    Rule("generationConfig", "object"),
    Rule("generationConfig.model", "string", 1, 200),
    Rule("generationConfig.temperature", "number", 0, 2),
    Rule("generationConfig.retryAttempts", "integer", 1, 10),
)
"""All rules, each object before its members. `pipelines.options` and `darkroom.pipeline_fault` check them."""

CONFIGS: Final = tuple(rule.path for rule in RULES if "." not in rule.path)
"""The columns of a pipeline's row that hold its JSON."""


class Defect(StrEnum):
    """The defects of a picture, by their names in `analysisResult.defects`."""

    IS_DARK = "isDark"
    IS_BLURRY = "isBlurry"
    HAS_NOISE = "hasNoise"
    HAS_VHS_ARTIFACTS = "hasVHSArtifacts"
    IS_LOW_RESOLUTION = "isLowResolution"
    IS_OVEREXPOSED = "isOverexposed"
    HAS_COLOR_CAST = "hasColorCast"
