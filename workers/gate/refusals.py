"""What a job hears when a provider may not be called now: wait for it, or ask another."""

import random
from datetime import timedelta
from typing import Final

from models.gate.provider_calls import Refused
from pipelines.errors import PermanentError, StageError, ThrottledError

PASSED_OVER: Final = frozenset({"stopped", "breaker", "quota", "budget"})
"""Refusals after which the next provider is asked: they last. The others are over in a moment."""

LONG_PAUSE_S: Final = 300.0
"""A provider that wants to be left alone for longer is passed over, too."""

JITTER_FRACTION: Final = 0.1
LEAST_JITTER_S: Final = 1.0
MOST_JITTER_S: Final = 60.0
"""Jobs that wait for the same moment come spread over a tenth of their wait, within these limits."""


class BudgetSpentError(PermanentError):
    """A budget is spent, and by setting nobody waits for the next one."""


class PassedOverError(ThrottledError):
    """Not now and not soon: another provider may do it."""


def refusal_of(provider: str, refused: Refused, *, refuses_over_budget: bool) -> StageError:
    """Turn a refusal of the gate's into the error of the stage that asked.

    Args:
        provider: its name.
        refused: what the gate said.
        refuses_over_budget: a spent budget ends the job, and isn't waited for.
    """
    message = f"{provider}: {refused.reason}"
    if refused.kind == "budget" and refuses_over_budget:
        return BudgetSpentError(message)
    wait = timedelta(seconds=refused.wait_s)
    if refused.kind in PASSED_OVER:
        return PassedOverError(f"{provider}: {refused.lasting()}", retry_after=_jittered(wait))
    return throttled(message, wait)


def throttled(message: str, wait: timedelta, evidence: str | None = None) -> ThrottledError:
    """Return the error of a provider that wants to be left alone: for long, and another may be asked."""
    kind = PassedOverError if wait.total_seconds() > LONG_PAUSE_S else ThrottledError
    return kind(message, retry_after=_jittered(wait), evidence=evidence)


def _jittered(wait: timedelta) -> timedelta:
    most_s = max(LEAST_JITTER_S, wait.total_seconds() * JITTER_FRACTION)
    return wait + timedelta(seconds=random.uniform(0, min(most_s, MOST_JITTER_S)))  # noqa: S311 - jitter, not a secret
