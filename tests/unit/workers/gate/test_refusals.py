"""Errors that a job gets whose provider may not be called now."""

import pytest

from models.gate.provider_calls import Refused
from pipelines.errors import ProviderNotConfiguredError, ThrottledError
from workers.gate.call_outcomes import call_outcome
from workers.gate.refusals import refusal_of


@pytest.mark.parametrize(("kind", "wait_s", "least_s", "most_s"), [("breaker", 300, 30, 33), ("quota", 300, 300, 330)])
def test_job_that_an_open_breaker_puts_off_looks_again_soon(
    kind: str, wait_s: float, least_s: float, most_s: float
) -> None:
    error = refusal_of("gemini", Refused(kind, "not now", wait_s), refuses_over_budget=False)

    assert isinstance(error, ThrottledError)
    assert least_s <= error.retry_after.total_seconds() <= most_s


def test_breaker_opens_for_a_reason_in_plain_words() -> None:
    outcome = call_outcome(ProviderNotConfiguredError("gemini 403: check GEMINI_API_KEY"), is_paid=True)

    assert (outcome.verdict, outcome.reason) == ("stopped", "gemini 403: check GEMINI_API_KEY")
