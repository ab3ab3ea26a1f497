"""Settings of users' tokens: who charges and refunds, what jobs cost, and how users get new tokens."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from config.periodic_terms import (
    ALLOWANCES_TOKENS,
    DRIP_AMOUNTS_TOKENS,
    DRIP_INTERVALS_S,
    DripAmounts,
    DripIntervals,
    TokensByTier,
)
from config.setting_group import SettingGroup, contract_field
from config.setting_types import ColumnName, number_by_name
from config.tiers import PRICES_TOKENS

_Prices = Annotated[
    Mapping[str, Annotated[int, Field(ge=0)]], BeforeValidator(number_by_name(PRICES_TOKENS, only_known=True))
]


class MoneySettings(SettingGroup):
    """What jobs cost in tokens, and how users get tokens."""

    tokens: Literal["managed", "producer", "external"] | None = contract_field(
        "TOKENS",
        None,
        "Who charges and refunds tokens: managed (Darkroom charges and refunds), producer (the application charges, "
        "Darkroom "
        "refunds the jobs that it fails) or external (the application does both). Unset: as `darkroom db upgrade` "
        "recorded it",
    )
    prices: _Prices = Field(
        default=PRICES_TOKENS,
        description="Tokens that an enhancement costs, TIER=tokens,...; other tiers keep their default",
    )
    cost_column: ColumnName = Field(
        default="tokensCost",
        description="Column of the job tables that holds the cost; creditsCost in newer applications",
    )
    regeneration: Literal["monthly", "drip", "off"] = Field(
        default="monthly",
        description="How users get new tokens (TOKENS=managed only): monthly (an allowance), drip (a few at a time, "
        "up to "
        "a cap) or off",
    )
    allowances: TokensByTier = Field(
        default=ALLOWANCES_TOKENS,
        description="Tokens a month, TIER=tokens,... by the tier of the balance: monthly regeneration gives them, and "
        "so "
        "does a downgrade to a tier without a plan",
    )
    drip_intervals: DripIntervals = Field(
        default=DRIP_INTERVALS_S, description="Seconds between two tokens of drip regeneration, TIER=seconds,..."
    )
    drip_amounts: DripAmounts = Field(
        default=DRIP_AMOUNTS_TOKENS, description="Tokens that each such interval gives, TIER=tokens,..."
    )
    drip_caps: TokensByTier = Field(
        default=ALLOWANCES_TOKENS, description="Balance up to which drip regeneration gives, TIER=tokens,..."
    )
    drip_subscribers: bool = Field(
        default=False, description="on: users with an ACTIVE or TRIALING subscription get drip regeneration too"
    )
    subscriptions: bool = Field(
        default=False,
        description="on: Darkroom renews subscription periods; off by default, as a payment webhook may do it already",
    )

    def regeneration_terms(self) -> dict[str, object]:
        """Return the terms of token regeneration as JSON for darkroom.settings, where SQL functions read them."""
        return {
            "policy": self.regeneration,
            "allowances": dict(self.allowances),
            "drip_intervals_s": dict(self.drip_intervals),
            "drip_amounts": dict(self.drip_amounts),
            "drip_caps": dict(self.drip_caps),
            "drip_subscribers": self.drip_subscribers,
        }
