"""Errors that a job gets whose provider may not be called now."""

import pytest

from models.gate.provider_calls import Refused
from pipelines.errors import ProviderNotConfiguredError, ThrottledError
from workers.gate.call_outcomes import call_outcome
from workers.gate.refusals import refusal_of


@pytest.mark.parametrize("kind", ["breaker", "quota"])
def test_job_waits_as_long_as_its_provider_may_not_be_called(kind: str) -> None:
    error = refusal_of("gemini", Refused(kind, "not now", 300), refuses_over_budget=False)

    assert isinstance(error, ThrottledError)
    assert 300 <= error.retry_after.total_seconds() <= 330


def test_breaker_opens_for_a_reason_in_plain_words() -> None:
    outcome = call_outcome(ProviderNotConfiguredError("gemini 403: check GEMINI_API_KEY"), is_paid=True)

    assert (outcome.verdict, outcome.reason) == ("stopped", "gemini 403: check GEMINI_API_KEY")
