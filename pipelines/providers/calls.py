"""A call to a provider: its preparation, its answer and its usage."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Generic, Protocol, TypeVar

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

    `notes` are sentences for people about what was done ("denoised, sigma 14.8"). `unseen` is what the picture has
    still to be compared with, the fields of `pipelines.providers.asked.Asked`; None once it was.
    """

    value: T_co
    model: str
    usage: Usage = Usage()
    temperature: float | None = None
    notes: tuple[str, ...] = ()
    unseen: Mapping[str, Any] | None = None


LookAgain = Callable[[], Awaitable[None]]
"""Called just before the first byte is sent; raises ThrottledError if the call may no longer be made."""

Came = Callable[[Answer[Any]], None]
"""Called with an answer as soon as it has come, before its picture is looked at, so that it isn't lost if that is cut
off."""


def forget(_answer: Answer[Any]) -> None:
    """Do nothing with an answer."""


class PreparedCall(Protocol[T_co]):
    """A function that sends a call whose pictures and prompt are prepared.

    All slow work is done, and nothing is sent yet.
    """

    async def __call__(self, look_again: LookAgain, came: Came = forget, /) -> Answer[T_co]:
        """Send the call; return its answer, which was looked at."""
