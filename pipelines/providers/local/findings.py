"""What the local engine's pixel functions answer with, in plain values."""

from dataclasses import dataclass, field

from pipelines.imaging.geometry import PixelBox


@dataclass(frozen=True, slots=True)
class Enhanced:
    """A finished picture as JPEG, its size in pixels, and what was done to it, in words for people."""

    data: bytes = field(repr=False)
    width_px: int
    height_px: int
    treatments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Findings:
    """What was measured in a picture, in plain values, because a pixel child answers with it.

    Attributes:
        defects: the names of the defects that it has.
        cast: the name of its colour cast's hue; None without a cast.
        is_grey: whether it has no colours.
        mean_luma: mean of its luma, 0 to 1.
        inner: its part between black bars, in pixels of the oriented original; None without bars.
        width_px: width of the oriented original.
        height_px: height of the oriented original.
        measures: the figures, by name, for people.
        plain: the result at the size that was named, if nothing has to be done for it but to shrink the picture, and
            that was possible without decoding it once more; else None.
    """

    defects: tuple[str, ...]
    cast: str | None
    is_grey: bool
    mean_luma: float
    inner: PixelBox | None
    width_px: int
    height_px: int
    measures: dict[str, float]
    plain: Enhanced | None = None
