"""What the contract suite needs of a provider's fake server: `tests/contract/providers/NAME.py` has a FakeServer."""

from collections.abc import Mapping
from importlib import import_module
from types import TracebackType
from typing import Any, Protocol, Self

from pipelines.errors import (
    BrokenAnswerError,
    NoSuchModelError,
    PolicyRefusedError,
    ProviderNotConfiguredError,
    ProviderTimedOutError,
    ProviderUnavailableError,
    RequestRejectedError,
    ThrottledError,
)

FAILURES = {
    "throttled": (ThrottledError, False),
    "unavailable": (ProviderUnavailableError, False),
    "timed out": (ProviderTimedOutError, True),
    "refused by policy": (PolicyRefusedError, False),
    "rejected": (RequestRejectedError, False),
    "key refused": (ProviderNotConfiguredError, False),
    "no such model": (NoSuchModelError, False),
    "cut off": (ProviderTimedOutError, True),
    "no picture": (BrokenAnswerError, True),
}
"""What every paid provider can meet, the error of ours that it means, and whether it may have been paid."""


class FakeServer(Protocol):
    """Answers whoever asks with `settings`, as a good model does unless told otherwise; a context."""

    settings: Mapping[str, Any]

    @property
    def sent(self) -> int:
        """How many calls have come that would be paid."""

    def fail_with(self, failure: str) -> None:
        """Let the next call end in one of FAILURES."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def server_of(name: str) -> FakeServer:
    """Return a fake server of a provider, by its name: whoever registers a provider writes one."""
    server: FakeServer = import_module(f"tests.contract.providers.{name}").FakeServer()
    return server
