"""The tiers of a job: the size of the result and its price. Python and the SQL functions both use these values."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Tier(StrEnum):
    """The tiers of a job, with the labels of the schema's enum `EnhancementTier`."""

    FREE = "FREE"
    TIER_1K = "TIER_1K"
    TIER_2K = "TIER_2K"
    TIER_4K = "TIER_4K"

    @property
    def long_side_px(self) -> int:
        """The length of the result's long side in pixels."""
        return LONG_SIDE_PX[self]


LONG_SIDE_PX: Final[Mapping[str, int]] = {Tier.FREE: 1024, Tier.TIER_1K: 1024, Tier.TIER_2K: 2048, Tier.TIER_4K: 4096}

MOST_SIDE_PX: Final = max(LONG_SIDE_PX.values())
"""The longest side of any tier's result, in pixels."""

DEFAULT_TIER: Final = Tier.TIER_1K
"""The tier of a job where neither the job nor its pipeline nor its album names one."""

PRICES_TOKENS: Final[Mapping[str, int]] = {"FREE": 0, "TIER_1K": 2, "TIER_2K": 5, "TIER_4K": 10}
"""What an enhancement costs, in tokens by tier, unless DARKROOM_PRICES sets other prices."""
