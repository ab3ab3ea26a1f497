"""Reasons of failures: ids and numbers don't make each its own."""

from datetime import UTC, datetime

import pytest

from models.history.failures import Failure
from workers.operations.failures import UNKNOWN, by_reason, kind_of_reason

SAME = (
    ("not finished within 3600 s; it waited for 12.5 s", "not finished within N s; it waited for N s"),
    (
        "worker died at GENERATING, and all 3 attempts are used",
        "worker died at GENERATING, and all N attempts are used",
    ),
    ("picture cm3k9x7q20000abcd1234efgh is missing", "picture ID is missing"),
    ("job 0b7c1c1e-3f47-4b0e-9d7e-3c7f7c1f3a55 is gone", "job ID is gone"),
    ("no object originals/user17/ab12cd34ef.jpg", "no object ID"),
    ("see https://example.test/a/1?x=2, please", "see URL please"),
    ("gemini 503 UNAVAILABLE after 17 s", "gemini 503 UNAVAILABLE after N s"),
    ("HTTP 429 from job_1a2b3c4d", "HTTP 429 from ID"),
    ("gemini-2.5-flash answered with 1,024 x 768 pixels", "gemini-2.5-flash answered with N x N pixels"),
    ("TIER_4K needs 4096px", "TIER_4K needs Npx"),
    ("two\n  lines", "two lines"),
    ("", UNKNOWN),
    (None, UNKNOWN),
)


@pytest.mark.parametrize(("reason", "kind"), SAME)
def test_kind_of_a_reason(reason, kind):
    assert kind_of_reason(reason) == kind


def test_failures_are_grouped_the_most_frequent_first_with_the_newest_of_each():
    def failure(number, reason):
        return Failure(datetime(2026, 1, 1, 12, 60 - number, tzinfo=UTC), "enhance", f"j{number}", None, reason)

    found = by_reason([failure(1, "a"), failure(2, "took 1 s"), failure(3, "took 2 s")])

    assert [(one.reason, one.jobs, one.last.job_id) for one in found] == [("took N s", 2, "j2"), ("a", 1, "j1")]
