"""What a pipeline's JSON may hold: one table of rules, for Python and for the SQL that producers call."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

JsonType = Literal["object", "boolean", "number", "integer", "string", "array", "boolean or string"]


@dataclass(frozen=True, slots=True)
class Rule:
    """What one place of the JSON may hold.

    `path` is dotted; `[]` stands for each element, `*` for each value. For a
    number `least` and `most` bound the value, for a string its characters,
    for an array its elements. Null always means "the default"; unknown keys
    are ignored, because applications keep their own beside ours.
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
"""Every rule of a pipeline's JSON, outer before inner; `pipelines.options` and `darkroom.pipeline_fault` check them."""

CONFIGS: Final = tuple(rule.path for rule in RULES if "." not in rule.path)
"""The columns of a pipeline that hold its JSON."""


class Defect(StrEnum):
    """The defects of `analysisResult.defects`, by the names that they have there."""

    IS_DARK = "isDark"
    IS_BLURRY = "isBlurry"
    HAS_NOISE = "hasNoise"
    HAS_VHS_ARTIFACTS = "hasVHSArtifacts"
    IS_LOW_RESOLUTION = "isLowResolution"
    IS_OVEREXPOSED = "isOverexposed"
    HAS_COLOR_CAST = "hasColorCast"
