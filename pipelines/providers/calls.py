"""A call to a provider: its preparation, its answer and its usage."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Generic, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a call used, in the provider's own units; None where the provider doesn't say."""

    prompt_units: int | None = None
    output_units: int | None = None
    images: int | None = None
    cost_usd: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Answer(Generic[T_co]):
    """The answer of a provider: the picture or analysis, what the call used, and the model.

    `notes` are sentences for people about what was done ("denoised, sigma 14.8").
    """

    value: T_co
    model: str
    usage: Usage = Usage()
    temperature: float | None = None
    notes: tuple[str, ...] = ()


LookAgain = Callable[[], Awaitable[None]]
"""Called just before the first byte is sent; raises ThrottledError if the call may no longer be made."""

PreparedCall = Callable[[LookAgain], Awaitable[Answer[T]]]
"""A function that sends a call whose pictures and prompt are prepared.

All slow work is done, and nothing is sent yet.
"""
