"""Terms of the fair order: weights, the head start of users with priority, and caps on users' running jobs."""

from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import BeforeValidator, Field

from config.periodic_terms import ALLOWANCES_TOKENS
from config.setting_types import number_by_name

WEIGHTS: Final[Mapping[str, int]] = {"FREE": 1, "BASIC": 2, "STANDARD": 4, "PREMIUM": 8}
"""How many jobs a user gets for each job of a user of tier FREE while both wait, by the tier of the balance."""

MOST_WEIGHT: Final = 1_000

MOST_CAP: Final = 1_000_000

HEAD_START_TOKENS: Final = 60
"""How much work, in tokens, of users with priority may go before that of everyone else who waits."""

MOST_HEAD_START_TOKENS: Final = 100_000

_TIERS: Final = frozenset(ALLOWANCES_TOKENS)


def _none_as_empty(value: object) -> object:
    return {} if value == "none" else value


UserCaps = Annotated[
    Mapping[str, Annotated[int, Field(gt=0, le=MOST_CAP)]],
    BeforeValidator(number_by_name({}, allowed=_TIERS)),
    BeforeValidator(_none_as_empty),
]
Weights = Annotated[
    Mapping[str, Annotated[int, Field(gt=0, le=MOST_WEIGHT)]],
    BeforeValidator(number_by_name(WEIGHTS, only_known=True)),
]
HeadStart = Annotated[float, Field(ge=0, le=MOST_HEAD_START_TOKENS, allow_inf_nan=False)]
