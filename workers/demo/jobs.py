"""The jobs of the demo: sample photographs, their damage, users and tiers."""

import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from workers.cli.failures import CommandError

INSTALLED_FOLDER: Final = "share/darkroom/samples"
"""Folder of the photographs, below the installation's prefix, if Darkroom isn't run from a checkout."""


@dataclass(frozen=True, slots=True)
class DemoJob:
    """One job of the demo.

    Attributes:
        name: the job's name on the sheet.
        sample: the photograph's file, without `.jpg`.
        damage: what was done to it, as in `samples/README.md`, for people to read.
        user: who submits it; e-mails are made of it.
        tier: a label of `EnhancementTier`.
        second: the file of a blend's second picture.
        is_missing: its object is deleted before the job is submitted.
    """

    name: str
    sample: str
    damage: str
    user: str
    tier: str
    second: str | None = None
    is_missing: bool = False

    @property
    def email(self) -> str:
        """The e-mail address of the job's user."""
        return f"{self.user}@demo.darkroom.local"

    @property
    def expected_status(self) -> str:
        """The status with which the job must end."""
        return "REFUNDED" if self.is_missing else "COMPLETED"


DEMO_JOBS: Final = (
    DemoJob("letterboxed", "letterboxed", "black bars of 10 %", "dora", "TIER_4K"),
    DemoJob("noisy", "noisy", "noise of sigma 16", "clara", "TIER_2K"),
    DemoJob("blurred", "blurred", "a blur of 1.5 px", "emil", "TIER_1K"),
    DemoJob("cast", "cast", "light too blue", "ben", "TIER_2K"),
    DemoJob("dark", "dark", "a quarter of the light", "ada", "FREE"),
    DemoJob("blend", "dark", "a second picture's light", "emil", "TIER_1K", second="cast"),
    DemoJob("missing", "noisy", "its object is missing", "finn", "TIER_2K", is_missing=True),
)
"""The demo's jobs, the most expensive first, so that the jobs that take longest begin first."""


def samples_folder() -> Path:
    """Return where the sample photographs are: in the checkout, or where an installation put them.

    Raises:
        CommandError: they are in neither place.
    """
    checkout = Path(__file__).resolve().parents[2] / "samples"
    for folder in (checkout, Path(sysconfig.get_path("data")) / INSTALLED_FOLDER):
        if all((folder / f"{demo_job.sample}.jpg").is_file() for demo_job in DEMO_JOBS):
            return folder
    raise CommandError(
        f"the sample photographs are not in {checkout}; run the demo from a checkout, or try `darkroom enhance PATH`"
    )
