"""Outcome of a failed provider call, and what it says about the provider."""

from models.gate.provider_calls import CallOutcome, Verdict
from pipelines.errors import (
    PolicyRefusedError,
    ProviderNotConfiguredError,
    ProviderTimedOutError,
    ProviderUnavailableError,
    QuotaSpentError,
    StageError,
    ThrottledError,
    TransientError,
)


def call_outcome(error: StageError, *, is_paid: bool) -> CallOutcome:
    """Return how a failed call ended, and what that says about its provider."""
    verdict: Verdict = "neutral"
    match error:
        case QuotaSpentError():
            verdict = "stopped"
        case ThrottledError() if error.was_sent:  # if the call wasn't sent, the gate knows of the wait already
            verdict = "throttled"
        case ProviderNotConfiguredError():
            verdict = "stopped"
        case ProviderUnavailableError() | ProviderTimedOutError():
            verdict = "failed"
        case _ if error.was_sent:
            verdict = "answered"
    may_be_paid = isinstance(error, PolicyRefusedError) or (isinstance(error, TransientError) and error.is_paid)
    return CallOutcome(
        type(error).__name__,
        may_be_paid=is_paid and may_be_paid,
        latency_ms=0,
        was_sent=error.was_sent,
        verdict=verdict,
        retry_after_s=error.retry_after.total_seconds() if isinstance(error, ThrottledError) else None,
        reason=str(error),
        problem=str(error),
    )


def unexpected_outcome(error: Exception, *, may_be_paid: bool, has_left: bool) -> CallOutcome:
    """Return the outcome of a call that was interrupted by an error other than a provider's.

    Args:
        error: the error.
        may_be_paid: whether the provider charges for calls.
        has_left: whether the call's first byte may have been sent.
    """
    name = type(error).__name__
    return CallOutcome(
        name,
        may_be_paid=may_be_paid and has_left,
        latency_ms=0,
        was_sent=has_left,
        reason=name,
        problem=f"unexpected {name}" + ("" if has_left else " before anything was sent"),
    )
