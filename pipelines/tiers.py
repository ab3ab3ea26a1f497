"""The four tiers of a picture and what each gives."""

from enum import StrEnum


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


LONG_SIDE_PX = {Tier.FREE: 1024, Tier.TIER_1K: 1024, Tier.TIER_2K: 2048, Tier.TIER_4K: 4096}
