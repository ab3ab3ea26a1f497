"""The tiers of a picture: what each gives and costs. SQL and Python both have them from here."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Tier(StrEnum):
    """A job's tier; the labels are the schema's `EnhancementTier`."""

    FREE = "FREE"
    TIER_1K = "TIER_1K"
    TIER_2K = "TIER_2K"
    TIER_4K = "TIER_4K"

    @property
    def long_side_px(self) -> int:
        """The long side of the result in pixels."""
        return LONG_SIDE_PX[self]


LONG_SIDE_PX: Final[Mapping[str, int]] = {Tier.FREE: 1024, Tier.TIER_1K: 1024, Tier.TIER_2K: 2048, Tier.TIER_4K: 4096}

MOST_SIDE_PX: Final = max(LONG_SIDE_PX.values())
"""No tier asks for more."""

DEFAULT_TIER: Final = Tier.TIER_1K
"""Of a job that names none, and neither its pipeline nor its album does."""

PRICES_TOKENS: Final[Mapping[str, int]] = {"FREE": 0, "TIER_1K": 2, "TIER_2K": 5, "TIER_4K": 10}
"""What an enhancement costs unless DARKROOM_PRICES says otherwise."""
