"""The order in which providers are asked, which is that of PROVIDER.

The next provider is asked if a provider can't do what is asked, isn't configured, has an open breaker or a spent
budget, or if paid calls are stopped. If a provider's rate is used up, the job waits instead.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from config.logger import EventLogger
from pipelines.errors import ProviderNotConfiguredError
from pipelines.providers.calls import Answer
from pipelines.providers.provider import Provider
from workers.gate.refusals import PassedOverError

T = TypeVar("T")

log = EventLogger(__name__)


async def first_answer(
    providers: Sequence[Provider], purpose: str, ask: Callable[[Provider], Awaitable[Answer[T]]]
) -> Answer[T]:
    """Call the providers in order; return the first answer.

    Args:
        providers: not empty.
        purpose: `analyze` or `generate`, for the log.
        ask: function that calls one of them.

    Raises:
        ThrottledError: a provider can do it, but not now; the error has the shortest wait of such providers.
        ProviderNotConfiguredError: none can do it; the message has each provider's reason.
        StageError: the call to the first provider that can do it failed.
    """
    passed_over: list[PassedOverError] = []
    refusals: list[ProviderNotConfiguredError] = []
    try:
        for provider in providers:
            try:
                return await ask(provider)
            except PassedOverError as error:
                passed_over.append(error)
            except ProviderNotConfiguredError as error:
                refusals.append(error)
            if len(providers) > 1:
                log.info("provider_passed_over", provider=provider.name, purpose=purpose)
        if passed_over:
            raise min(passed_over, key=lambda error: error.retry_after)
        if len(refusals) == 1:
            raise refusals[0]
        evidence = "; ".join(error.evidence for error in refusals if error.evidence) or None
        raise ProviderNotConfiguredError("; ".join(map(str, refusals)), evidence=evidence)
    finally:
        # they hold this frame: in a cycle, the pictures would last until a garbage collection
        del passed_over, refusals
