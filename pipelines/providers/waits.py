"""How long a provider asks callers to wait, as a header, the error's message or a detail of the error says.

Sources: RFC 9110 (Retry-After); OpenAI's rate limit guide (x-ratelimit-*) and its clients (retry-after-ms);
google.rpc's RetryInfo; public reports of messages such as "Please retry in 6.9s" and "try again in 1m30s"; 2026-11.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final

from pipelines.errors import ProviderUnavailableError, StageError, ThrottledError

DEFAULT_RETRY_AFTER: Final = timedelta(seconds=20)
"""Wait after a 429 that gives no time: a third of a minute, because most exceeded limits are limits per minute."""

QUOTA_SPENT_RETRY_AFTER: Final = timedelta(minutes=5, seconds=1)
"""Wait after a refusal because the account is empty: slightly longer than the gate then stops all calls."""

LEAST_RETRY_AFTER: Final = timedelta(seconds=1)
MAX_RETRY_AFTER: Final = timedelta(days=1)

_MOST_MESSAGE_CHARS: Final = 2_000
_UNITS_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_PART: Final = re.compile(
    r"(\d{1,9}(?:\.\d{1,9})?)\s*(?:more\s+)?(ms|milliseconds?|msecs?|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?)(?![a-z])",
    re.IGNORECASE,
)
_NEXT_PART: Final = re.compile(r"(?:\s|,|\band\b)*", re.IGNORECASE)
_RETRY_WORDS: Final = re.compile(
    r"\b(?:retry(?:[_-]?(?:after|delay|in))?|retrying|again|wait|resets?|cooldown)(?![a-z])"
    r"(?:[\s:=_(\"'~-]|\b(?:the|your|this|request|in|after|for|of|at|least|about|another)\b)*",
    re.IGNORECASE,
)
_RETRY_AFTER: Final = re.compile(
    r"\bretry[\s_-]*after(?:[_-]?seconds)?[\s:=\"']*(\d{1,5}(?:\.\d{1,6})?)(?![\d:/-])(?!\s*[a-z%])", re.IGNORECASE
)
"""Units of time. A number without a unit directly after "retry after" means seconds, as in the header."""

_SECONDS: Final = re.compile(r"\d{1,13}(?:\.\d{1,9})?")
_EPOCH_S: Final = 1_000_000_000.0
"""A number above this is a time in seconds since 1970, not a duration."""

_EPOCH_MS: Final = 100_000_000_000.0
"""A number above this is a time in milliseconds since 1970."""

_RESET: Final = re.compile(r"(?:x-)?ratelimit-reset(-.+)?")


def retry_wait(
    headers: Mapping[str, str],
    message: str,
    retry_delay: Any = None,
    *,
    is_throttle: bool = True,
    now: datetime | None = None,
) -> timedelta | None:
    """Return how long an answer asks callers to wait; None if it names no time.

    Of several waits that are named explicitly, the longest counts, so that no call comes too soon. Every answer has
    headers with the time at which a whole budget is available again: they count only if the answer refuses because of a
    rate and names no other wait.

    Args:
        headers: the answer's headers, names in lower case.
        message: the error's message.
        retry_delay: RetryInfo's `retryDelay`, of any type.
        is_throttle: whether the answer refuses because of a rate.
        now: an aware time; None for the present.
    """
    now = now or datetime.now(UTC)
    told = [
        _milliseconds(text) if name.endswith("-ms") else _header_wait(text, headers, now)
        for name, text in headers.items()
        if "retry-after" in name  # also x-retry-after, retry-after-seconds and x-ratelimit-retry-after
    ]
    told += [_delay(retry_delay), _words_wait(message)]
    known = [wait for wait in told if wait is not None] or (_resets(headers, now) if is_throttle else [])
    return min(max(known), MAX_RETRY_AFTER) if known else None


def with_wait(error: StageError, wait: timedelta | None) -> StageError:
    """Return a refusal with the wait that the answer asked for, if it asked for one."""
    if wait is None:
        return error
    if isinstance(error, ThrottledError | ProviderUnavailableError):
        error.retry_after = wait
    return error


def _header_wait(text: str, headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """Return the wait of a Retry-After header: seconds, a duration such as `1m30s`, or a date.

    A date is compared with the time of the server's clock, if the answer has that. If the answer has the header twice,
    because a proxy added one, the longest wait counts.
    """
    text = text.strip().strip('"')
    numbers = [one.strip() for one in text.split(",")]
    if all(_SECONDS.fullmatch(one) for one in numbers):
        return max(_from_now(float(one), now) for one in numbers)
    if (length := _length(text)) is not None:
        return length
    moment = _date(text)
    if moment is None:
        return None
    return max(timedelta(0), moment - (_date(headers.get("date", "")) or now))


def _date(text: str) -> datetime | None:
    """Return the time of an HTTP date; a date without a zone is UTC."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        try:
            moment = datetime.fromisoformat(text.strip())
        except ValueError:
            return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _milliseconds(text: str) -> timedelta | None:
    if not _SECONDS.fullmatch(text.strip()):
        return None
    return timedelta(milliseconds=float(text))


def _from_now(number: float, now: datetime) -> timedelta:
    """Return the wait that a number means: seconds, or a time in seconds or milliseconds since 1970."""
    if number >= _EPOCH_MS:
        number /= 1000
    if number < _EPOCH_S:
        return timedelta(seconds=number)
    return timedelta(seconds=max(0.0, number - now.timestamp()))


def _delay(value: Any) -> timedelta | None:
    """Return the wait of RetryInfo's delay: `26s`, a number of seconds, or seconds and nanos separately."""
    if isinstance(value, Mapping):
        seconds, nanos = value.get("seconds", 0), value.get("nanos", 0)
        try:
            return timedelta(seconds=min(float(seconds) + float(nanos) / 1e9, _EPOCH_S))
        except (TypeError, ValueError, OverflowError):
            return None
    text = str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
    text = text[:_MOST_MESSAGE_CHARS].strip()
    return timedelta(seconds=float(text)) if _SECONDS.fullmatch(text) else _length(text)


def _words_wait(message: str) -> timedelta | None:
    """Return the longest duration that directly follows words such as "retry in"."""
    text = message[:_MOST_MESSAGE_CHARS]
    waits = [_length_at(text, words.end())[0] for words in _RETRY_WORDS.finditer(text)]
    waits += [timedelta(seconds=float(found[1])) for found in _RETRY_AFTER.finditer(text)]
    return max((wait for wait in waits if wait is not None), default=None)


def _length(text: str) -> timedelta | None:
    """Return the duration that a text consists of, such as `1m30.5s` or ISO 8601's `PT1M30S`; None for other texts."""
    bare = text.strip().removeprefix("PT")
    wait, end = _length_at(bare, 0)
    return wait if end == len(bare) else None


def _length_at(text: str, start: int) -> tuple[timedelta | None, int]:
    """Return the duration that begins at a place in a text, and the place where it ends."""
    total_s, end = 0.0, start
    place = start
    while (part := _PART.match(text, place)) is not None:
        unit = part[2].lower()
        total_s += float(part[1]) * _UNITS_S["ms" if unit.startswith(("ms", "milli")) else unit[0]]
        end = part.end()
        gap = _NEXT_PART.match(text, end)
        place = gap.end() if gap else end
    return (timedelta(seconds=min(total_s, _EPOCH_S)), end) if end > start else (None, start)


def _resets(headers: Mapping[str, str], now: datetime) -> list[timedelta]:
    """Return the waits until the provider's budgets are available again.

    Only spent budgets count. If no header says how much of a budget is left, all budgets count.
    """
    spent, every = [], []
    for name, text in headers.items():
        match = _RESET.fullmatch(name)
        if match is None:
            continue
        wait = _from_now(float(text), now) if _SECONDS.fullmatch(text.strip()) else _length(text)
        if wait is None and (moment := _date(text)) is not None:
            wait = max(timedelta(0), moment - now)
        if wait is None:
            continue
        left = headers.get(name.replace("-reset", "-remaining", 1))
        every.append(wait)
        if left is not None and left.strip() in {"0", "0.0"}:
            spent.append(wait)
    return spent or every
