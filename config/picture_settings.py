"""Settings of pictures: how large they may be, where they may come from, and when an earlier result is reused."""

from typing import Annotated, Literal

from pydantic import Field

from config.setting_group import SettingGroup
from config.setting_types import PositiveInt


class PictureSettings(SettingGroup):
    """Limits of pictures, and which pictures and pipelines a job may use."""

    max_image_bytes: PositiveInt = Field(
        default=25_000_000, description="Largest file of a picture that is accepted, in bytes"
    )
    max_image_pixels: PositiveInt = Field(
        default=64_000_000,
        description="Largest picture that is decoded, in pixels (width times height); each takes 3 bytes of memory",
    )
    warm_children: Annotated[int, Field(ge=0, le=64)] = Field(
        default=2,
        description="Pixel children that each worker process starts at once and keeps, at most one per core; others "
        "start when these are busy. An idle one holds 63 MB, half of it shared",
    )
    link_pipelines: Literal["owner", "trust"] | None = Field(
        default=None,
        description="Which inserted jobs may use a pipeline that is shared by link, since a row has no share token: "
        "owner "
        "(only jobs of its owner) or trust (all jobs: the application has checked the token). Unset: trust on tables "
        "that another tool "
        "made, else owner. `darkroom db upgrade` records it",
    )
    reuse_results: bool = Field(
        default=False,
        description="on: a job that asks for just what an earlier one of the same user and type did (pictures, crop, "
        "corrections, words, pipeline, model, tier) gets a copy of its result, and no picture is bought",
    )
    fetch_allow_loopback: bool = Field(
        default=False,
        description="on: inputs are fetched from loopback addresses, too; for tests only, since users could reach "
        "internal "
        "services by it. `darkroom db upgrade` records it",
    )
