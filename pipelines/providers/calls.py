"""One call of a provider: how it is sent, what it brings and what it uses."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Generic, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a call used, in the provider's own units; None where it doesn't say."""

    prompt_units: int | None = None
    output_units: int | None = None
    images: int | None = None
    cost_usd: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Answer(Generic[T_co]):
    """What a provider gave, what it used, and which model it was.

    `notes` say what was done, for people to read ("denoised, sigma 14.8").
    """

    value: T_co
    model: str
    usage: Usage = Usage()
    temperature: float | None = None
    notes: tuple[str, ...] = ()


LookAgain = Callable[[], Awaitable[None]]
"""Asked just before the first byte leaves; raises ThrottledError if the call may not be made any more."""

PreparedCall = Callable[[LookAgain], Awaitable[Answer[T]]]
"""Sends a call whose pictures and words are ready: all that takes time before it is done, and nothing has left."""
