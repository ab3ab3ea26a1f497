"""The analysis of a picture: the `analysisResult` JSON of a job's row, parsed strictly."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from config.pipeline_rules import Defect
from pipelines.cropping import JSON_FORM, MIN_CROP_FRACTION, CropSuggestion

MAX_TEXT_CHARS = 200
"""Longest text of an analysis.

Its texts come from outside: they are cut, kept for people, and never put into a prompt.
"""


def _cut(text: object) -> object:
    return "".join(c for c in text if c.isprintable())[:MAX_TEXT_CHARS] if isinstance(text, str) else text


Text = Annotated[str, BeforeValidator(_cut)]


class Cropping(BaseModel):
    """Whether to crop, where, and why."""

    model_config = JSON_FORM

    is_cropping_needed: bool = False
    suggested_crop: CropSuggestion = CropSuggestion()
    crop_reason: Text | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, value: Any) -> Any:
        """Replace a missing suggestion by the whole picture, and remove a suggestion that keeps too little of it."""
        if not isinstance(value, Mapping):
            return value
        suggestion = value.get("suggestedCrop", value.get("suggested_crop"))
        rest = {key: part for key, part in value.items() if key not in {"suggestedCrop", "suggested_crop"}}
        if suggestion is None:
            return rest
        crop = suggestion if isinstance(suggestion, CropSuggestion) else CropSuggestion.model_validate(suggestion)
        if crop.area_fraction < MIN_CROP_FRACTION:
            return {"isCroppingNeeded": False, "cropReason": None}
        return {**rest, "suggestedCrop": crop}


class Defects(BaseModel):
    """The defects of a picture, as yes or no."""

    model_config = JSON_FORM

    is_dark: bool
    is_blurry: bool
    has_noise: bool
    has_vhs_artifacts: bool = Field(default=False, alias="hasVHSArtifacts")
    is_low_resolution: bool
    is_overexposed: bool
    has_color_cast: bool
    color_cast_type: Text | None = None

    def found(self) -> frozenset[Defect]:
        """Return the defects that the picture has."""
        values = self.model_dump(by_alias=True)
        return frozenset(defect for defect in Defect if values[defect.value])


class Analysis(BaseModel):
    """The analysis of one picture.

    `source` ("local" or a model's name) is the row's `analysisSource`, and
    `measures` are the local engine's figures, for people. Neither is part
    of that JSON, and `measures` is empty if the analysis was read from a checkpoint.
    """

    model_config = JSON_FORM

    main_subject: Text = "unknown"
    image_style: Text = "unknown"
    defects: Defects
    lighting_condition: Text = "unknown"
    cropping: Cropping = Cropping()
    source: str = Field(default="local", exclude=True)
    measures: dict[str, float] = Field(default_factory=dict, exclude=True)

    def result(self) -> dict[str, Any]:
        """Return exactly the `analysisResult` JSON, with its camelCase keys."""
        return self.model_dump(mode="json", by_alias=True)

    @classmethod
    def of_result(cls, value: Mapping[str, Any], *, source: str) -> Self:
        """Build an analysis from `analysisResult`, or from a model's answer.

        Unknown keys are dropped, and strings that are too long are cut; a crop is clamped to the picture.

        Raises:
            pydantic.ValidationError: a flag isn't a bool, a number isn't finite, or a defect is missing.
        """
        known = {key: part for key, part in value.items() if key not in {"source", "measures"}}
        return cls.model_validate({**known, "source": source})

    def to_json(self) -> dict[str, Any]:
        """Return the analysis as JSON: the `result`, its `source`, and the `measures` for people."""
        return {"result": self.result(), "source": self.source, "measures": dict(self.measures)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Build an analysis from the JSON of `to_json`, without the measures, which no stage reads.

        Raises:
            ValueError, AttributeError: the result can't be read.
        """
        return cls.of_result(value["result"], source=value["source"] or "unknown")
