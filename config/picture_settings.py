"""Settings of pictures: how large they may be, where they may come from, and when an earlier result is reused."""

from typing import Annotated, Literal

from pydantic import Field

from config.setting_group import SettingGroup
from config.setting_types import PositiveInt


class PictureSettings(SettingGroup):
    """Limits of pictures, and which pictures and pipelines a job may use."""

    max_image_bytes: PositiveInt = Field(default=25_000_000, description="Largest encoded image accepted, in bytes")
    max_image_pixels: PositiveInt = Field(
        default=64_000_000, description="Largest image decoded, width times height; decoded it takes 3 bytes each"
    )
    warm_children: Annotated[int, Field(ge=0, le=64)] = Field(
        default=2,
        description="Pixel children that each worker process starts at once and keeps started, one per core at most; "
        "idle they hold 63 MB each, half of it shared; others start when these are busy",
    )
    link_pipelines: Literal["owner", "trust"] | None = Field(
        default=None,
        description="Whose inserted jobs, which carry no share token, may use a pipeline shared by link: owner (its "
        "owner's), "
        "or trust (everyone's: the application has checked the token). Unset: trust on tables that another tool "
        "made, else owner. `darkroom db upgrade` records it",
    )
    reuse_results: bool = Field(
        default=False,
        description="on: the same user's same picture, pipeline, model and tier takes the earlier result",
    )
    fetch_allow_loopback: bool = Field(
        default=False,
        description="on: fetch inputs from loopback addresses too; for tests only, since it lets users reach internal "
        "hosts. `darkroom db upgrade` records it",
    )
