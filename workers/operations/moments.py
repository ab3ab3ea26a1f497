"""Times as people type them."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from workers.operations.errors import InvalidInputError

_SPAN: Final = re.compile(r"(\d{1,6})\s*(s|min|m|h|d)")
_UNITS: Final = {"s": "seconds", "min": "minutes", "m": "minutes", "h": "hours", "d": "days"}


def span_of(text: str) -> timedelta | None:
    """Read a span of time, such as 90s, 30m, 30min, 2h or 7d; return None if the text isn't one."""
    found = _SPAN.fullmatch(text.strip())
    return timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else None


def moment_of(text: str) -> datetime:
    """Return the time that a text means: ISO 8601 (UTC without a zone), or a duration ago such as 30m, 2h, 7d.

    Raises:
        InvalidInputError: it is neither.
    """
    try:
        if (ago := span_of(text)) is not None:
            return datetime.now(UTC) - ago
        given = datetime.fromisoformat(text.strip())
        return given.astimezone(UTC) if given.tzinfo else given.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as error:  # no time, or one outside of the calendar
        raise InvalidInputError(
            f"{text!r} is no time; give 2026-03-01T00:00:00Z, or a while ago: 30m, 2h, 7d"
        ) from error
