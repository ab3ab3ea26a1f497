"""Errors for a job whose provider may not be called now: the job waits, or the next provider is asked."""

import random
from datetime import timedelta
from typing import Final

from models.gate.provider_calls import Refused
from pipelines.errors import PermanentError, StageError, ThrottledError

PASSED_OVER: Final = frozenset({"stopped", "breaker", "quota", "budget"})
"""Refusals after which the next provider is asked, because they last long; other refusals end soon."""

LONG_PAUSE_S: Final = 300.0
"""If a provider asks for a longer wait than this, in seconds, the next provider is asked."""

JITTER_FRACTION: Final = 0.1
LEAST_JITTER_S: Final = 1.0
MOST_JITTER_S: Final = 60.0
"""The most seconds of jitter: jobs that wait for the same time are spread over a tenth of their wait."""


class BudgetSpentError(PermanentError):
    """Raised when a budget is spent, and DARKROOM_OVER_BUDGET says that jobs then fail and don't wait."""


class PassedOverError(ThrottledError):
    """Raised when a provider may not be called soon, so that the next provider should be asked."""


class SentBackError(ThrottledError):
    """Raised when a job that waits in this process should go back to the queue at once, and be due there.

    Another process can make its call, or an operator has paused it. Its attempt isn't counted.
    """


def refusal_of(provider: str, refused: Refused, *, refuses_over_budget: bool) -> StageError:
    """Return the stage's error for a refusal by the gate.

    Args:
        provider: its name.
        refused: the gate's refusal.
        refuses_over_budget: whether a spent budget ends the job instead of making it wait.
    """
    message = f"{provider}: {refused.reason}"
    if refused.kind == "budget" and refuses_over_budget:
        return BudgetSpentError(message)
    wait = timedelta(seconds=refused.wait_s)
    if refused.kind in PASSED_OVER:
        return PassedOverError(f"{provider}: {refused.lasting()}", retry_after=_jittered(wait))
    return throttled(message, wait)


def throttled(message: str, wait: timedelta, evidence: str | None = None) -> ThrottledError:
    """Return the error for a provider that asks for a wait.

    If the wait is longer than LONG_PAUSE_S, it is PassedOverError, after which the next provider is asked.
    """
    kind = PassedOverError if wait.total_seconds() > LONG_PAUSE_S else ThrottledError
    return kind(message, retry_after=_jittered(wait), evidence=evidence)


def _jittered(wait: timedelta) -> timedelta:
    most_s = max(LEAST_JITTER_S, wait.total_seconds() * JITTER_FRACTION)
    return wait + timedelta(seconds=random.uniform(0, min(most_s, MOST_JITTER_S)))  # noqa: S311 - jitter, not a secret
