"""Suggested crops: as fractions in an analysis's JSON, and as whole pixels of a picture."""

import math
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.alias_generators import to_camel

from pipelines.errors import CropTooSmallError
from pipelines.imaging.geometry import PixelBox

MIN_CROP_FRACTION = 0.25
"""The smallest fraction of the area that a crop may keep: suggestions come from outside, and may keep one pixel."""

_ROUNDING_SLACK = 1e-6
"""Tolerance in pixels: fractions come from divisions, so an edge this close to a whole pixel is taken as that pixel."""

JSON_FORM = ConfigDict(
    frozen=True, strict=True, extra="ignore", allow_inf_nan=False, alias_generator=to_camel, populate_by_name=True
)
"""Configuration of the models that read an analysis's JSON."""

_WHOLE = {"x": 0.0, "y": 0.0, "width": 1.0, "height": 1.0}


class CropSuggestion(BaseModel):
    """A crop as fractions of the oriented picture, 0 at left and top, clamped to the picture."""

    model_config = JSON_FORM

    x: float = 0.0
    y: float = 0.0
    width: float = 1.0
    height: float = 1.0

    @model_validator(mode="before")
    @classmethod
    def _clamp(cls, value: Any) -> Any:
        """Clamp numbers into the picture.

        Values that aren't numbers are returned unchanged; the strict types of the fields refuse them afterwards.
        """
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
        """The fraction of the picture's area that is kept, 0 to 1."""
        return self.width * self.height


def crop_box(
    suggestion: CropSuggestion, width_px: int, height_px: int, *, min_fraction: float = MIN_CROP_FRACTION
) -> PixelBox:
    """Return a suggested crop as whole pixels of an image.

    The box is never empty and never leaves the image: edges are rounded
    outwards, then clipped.

    Args:
        suggestion: edges as fractions of the image, 0 at left and top,
            after EXIF orientation has been applied.
        width_px: width of the oriented image, at least 1.
        height_px: height of the oriented image, at least 1.
        min_fraction: the smallest fraction of the area that has to remain.

    Raises:
        CropTooSmallError: less than `min_fraction` of the area would remain.
    """
    left = _clipped(_outwards_down(suggestion.x * width_px), width_px)
    top = _clipped(_outwards_down(suggestion.y * height_px), height_px)
    right = _clipped(_outwards_up((suggestion.x + suggestion.width) * width_px), width_px)
    bottom = _clipped(_outwards_up((suggestion.y + suggestion.height) * height_px), height_px)
    area_fraction = max(0, right - left) * max(0, bottom - top) / (width_px * height_px)
    if area_fraction < min_fraction or area_fraction == 0:
        raise CropTooSmallError(
            f"suggested crop would leave {area_fraction:.1%} of the picture; the least is {min_fraction:.0%}"
        )
    return PixelBox(left, top, right - left, bottom - top)


def _outwards_down(edge_px: float) -> float:
    return math.floor(edge_px + _ROUNDING_SLACK)


def _outwards_up(edge_px: float) -> float:
    return math.ceil(edge_px - _ROUNDING_SLACK)


def _clipped(edge_px: float, size_px: int) -> int:
    return int(min(max(edge_px, 0), size_px))
