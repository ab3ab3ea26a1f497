"""How long a provider asks callers to wait, in every place and form."""

from datetime import UTC, datetime, timedelta

import pytest

from pipelines.providers.reading import error_in
from pipelines.providers.waits import MAX_RETRY_AFTER, retry_wait

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
IN_9_S = "Sat, 28 Nov 2026 12:00:09 GMT"


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": IN_9_S}, 9),
        ({"retry-after": IN_9_S, "date": "Sat, 28 Nov 2026 12:00:04 GMT"}, 5),  # by the server's own clock
        ({"retry-after": "Sat, 28 Nov 2026 11:00:00 GMT"}, 0),
        ({"retry-after": "2026-11-28T12:00:30Z"}, 30),
        ({"retry-after": "1m30s"}, 90),
        ({"retry-after": str(NOW.timestamp() + 11)}, 11),
        ({"retry-after-ms": "3000"}, 3),
        ({"retry-after-ms": "250", "retry-after": "2"}, 2),
        ({"x-ratelimit-reset-requests": "6m0s", "x-ratelimit-reset-tokens": "20ms"}, 360),
        (
            {
                "x-ratelimit-reset-requests": "2s",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-tokens": "6m0s",
                "x-ratelimit-remaining-tokens": "40000",
            },
            2,
        ),
        ({"x-ratelimit-reset": str(int(NOW.timestamp()) + 44)}, 44),
        ({"ratelimit-reset": "13"}, 13),
        ({"retry-after": "1", "x-ratelimit-reset-requests": "6m0s"}, 1),
        ({"retry-after": "7, 9"}, 9),  # a proxy added its own
        ({"retry-after": '"7"'}, 7),
        ({"retry-after": "PT1M30S"}, 90),
        ({"x-retry-after": "7"}, 7),
        ({"x-ms-retry-after-ms": "7000"}, 7),
        ({"x-ratelimit-reset": str(int(NOW.timestamp() * 1000) + 44_000)}, 44),
        ({"retry-after": "99999999"}, MAX_RETRY_AFTER.total_seconds()),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({}, None),
    ],
)
def test_wait_in_a_header_is_read(headers, wait_s):
    assert retry_wait(headers, "", now=NOW) == (None if wait_s is None else timedelta(seconds=wait_s))


@pytest.mark.parametrize(
    ("message", "wait_s"),
    [
        ("You exceeded your current quota. Please retry in 6.934310785s.", 6.934311),
        ("Please try again in 6ms", 0.006),
        ("Rate limit reached. Please try again in 1m30s. Visit us", 90),
        ("Please retry after 14 seconds.", 14),
        ("please retry your request after 2 minutes and 5 seconds", 125),
        ("Limit resets in: 20s", 20),
        ("wait at least 1 hour", 3600),
        ("Retry-After: 9 s", 9),
        ("Retry-After: 9", 9),
        ('{"retry_after": 7.5}', 7.5),
        ("retryDelay: 7s", 7),
        ("Please wait 7 more seconds", 7),
        ("a cooldown of 12s applies", 12),
        ("Please retry after 3 attempts", None),
        ("retry after 2026-11-28", None),
        ("retry after 00:00:07", None),
        ("Try again later", None),
        ("The retry policy allows 5 meters", None),
        ("5 minutes against the wall", None),
        ("", None),
    ],
)
def test_wait_in_a_message_is_read(message, wait_s):
    assert retry_wait({}, message, now=NOW) == (None if wait_s is None else timedelta(seconds=wait_s))


@pytest.mark.parametrize(
    ("delay", "wait_s"),
    [
        ("26s", 26),
        ("1.5s", 1.5),
        (7, 7),
        ({"seconds": "5", "nanos": 500_000_000}, 5.5),
        ({"seconds": None}, None),
        ([], None),
        (True, None),
    ],
)
def test_wait_in_a_detail_is_read(delay, wait_s):
    assert retry_wait({}, "", delay, now=NOW) == (None if wait_s is None else timedelta(seconds=wait_s))


@pytest.mark.parametrize(
    "told",
    [
        {"details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"}]},
        {"details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retry_delay": "7s"}]},
        {"retry_after": 7},
        {"retryAfter": "7s"},
    ],
)
def test_wait_in_a_field_of_an_error_is_read(told):
    error = error_in([{"error": {"code": 429, **told}}])

    assert error is not None
    assert retry_wait({}, "", error.retry_delay, now=NOW) == timedelta(seconds=7)


def test_longest_of_several_waits_counts():
    assert retry_wait({"retry-after-ms": "3000"}, "Please try again in 6ms", "2s", now=NOW) == timedelta(seconds=3)


def test_budgets_that_stand_beside_every_answer_are_no_wait_of_an_outage():
    assert retry_wait({"x-ratelimit-reset-requests": "6m0s"}, "", is_throttle=False, now=NOW) is None
