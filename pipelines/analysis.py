"""What an analysis says of a picture: the `analysisResult` JSON of a job row, strictly."""

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

MAX_TEXT_CHARS = 200
"""An analysis is a stranger's text: it is cut, kept for people to read, and never pasted into a prompt."""

MIN_CROP_AREA_FRACTION = 0.25
"""A suggestion that keeps less than this of the picture is taken for a mistake and dropped."""


class Defect(StrEnum):
    """The defects of `analysisResult.defects`, by the names that they have there."""

    IS_DARK = "isDark"
    IS_BLURRY = "isBlurry"
    HAS_NOISE = "hasNoise"
    HAS_VHS_ARTIFACTS = "hasVHSArtifacts"
    IS_LOW_RESOLUTION = "isLowResolution"
    IS_OVEREXPOSED = "isOverexposed"
    HAS_COLOR_CAST = "hasColorCast"


def _cut(text: object) -> object:
    return "".join(c for c in text if c.isprintable())[:MAX_TEXT_CHARS] if isinstance(text, str) else text


Text = Annotated[str, BeforeValidator(_cut)]

_JSON_FORM = ConfigDict(
    frozen=True, strict=True, extra="ignore", allow_inf_nan=False, alias_generator=to_camel, populate_by_name=True
)


class CropSuggestion(BaseModel):
    """Edges to keep, as fractions of the oriented picture: 0 at left and top, clamped to the picture."""

    model_config = _JSON_FORM

    x: float = 0.0
    y: float = 0.0
    width: float = 1.0
    height: float = 1.0

    @model_validator(mode="before")
    @classmethod
    def _clamp(cls, value: Any) -> Any:
        """Clamp plain numbers into the picture; anything else is left for the strict types to refuse."""
        if not isinstance(value, Mapping):
            return value
        edges = {name: value.get(name, default) for name, default in _WHOLE.items()}
        if not all(isinstance(edge, int | float) and not isinstance(edge, bool) for edge in edges.values()):
            return value
        if not all(map(math.isfinite, edges.values())):
            return value
        x, y = (min(max(float(edges[name]), 0.0), 1.0) for name in ("x", "y"))
        width = min(max(float(edges["width"]), 0.0), 1.0 - x)
        return {"x": x, "y": y, "width": width, "height": min(max(float(edges["height"]), 0.0), 1.0 - y)}

    @property
    def area_fraction(self) -> float:
        """How much of the picture's area is kept, 0 to 1."""
        return self.width * self.height


_WHOLE = {"x": 0.0, "y": 0.0, "width": 1.0, "height": 1.0}


class Cropping(BaseModel):
    """Whether to crop, where, and why."""

    model_config = _JSON_FORM

    is_cropping_needed: bool = False
    suggested_crop: CropSuggestion = CropSuggestion()
    crop_reason: Text | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, value: Any) -> Any:
        """Read a missing suggestion as the whole picture, and drop one that keeps too little."""
        if not isinstance(value, Mapping):
            return value
        suggestion = value.get("suggestedCrop", value.get("suggested_crop"))
        rest = {key: part for key, part in value.items() if key not in {"suggestedCrop", "suggested_crop"}}
        if suggestion is None:
            return rest
        crop = suggestion if isinstance(suggestion, CropSuggestion) else CropSuggestion.model_validate(suggestion)
        if crop.area_fraction < MIN_CROP_AREA_FRACTION:
            return {"isCroppingNeeded": False, "cropReason": None}
        return {**rest, "suggestedCrop": crop}


class Defects(BaseModel):
    """What is wrong with a picture, as yes or no."""

    model_config = _JSON_FORM

    is_dark: bool
    is_blurry: bool
    has_noise: bool
    has_vhs_artifacts: bool = Field(default=False, alias="hasVHSArtifacts")
    is_low_resolution: bool
    is_overexposed: bool
    has_color_cast: bool
    color_cast_type: Text | None = None

    def found(self) -> frozenset[Defect]:
        """Return the defects that are there."""
        values = self.model_dump(by_alias=True)
        return frozenset(defect for defect in Defect if values[defect.value])


class Analysis(BaseModel):
    """One picture's analysis.

    `source` ("local" or a model's name) is the row's `analysisSource`, and
    `measures` are the local engine's figures for people to read; both stay
    outside the JSON, and `measures` is empty after a resume.
    """

    model_config = _JSON_FORM

    main_subject: Text = "unknown"
    image_style: Text = "unknown"
    defects: Defects
    lighting_condition: Text = "unknown"
    cropping: Cropping = Cropping()
    source: str = Field(default="local", exclude=True)
    measures: dict[str, float] = Field(default_factory=dict, exclude=True)

    def to_json(self) -> dict[str, Any]:
        """Return exactly the `analysisResult` JSON, with its camelCase keys."""
        return self.model_dump(mode="json", by_alias=True)

    @classmethod
    def from_json(cls, value: Mapping[str, Any], *, source: str) -> Self:
        """Rebuild an analysis from a row, or read it from a model's answer.

        Unknown keys are dropped and strings cut; a crop is clamped.

        Raises:
            pydantic.ValidationError: a flag that isn't a bool, a number that isn't finite, a missing defect.
        """
        known = {key: part for key, part in value.items() if key not in {"source", "measures"}}
        return cls.model_validate({**known, "source": source})
