"""Cursors: the place in a list at which its next page begins, as one opaque text."""

import base64
import binascii
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from workers.operations.errors import InvalidInputError

_MOST_ID: Final = 2**63 - 1
_WORDS: Final = "the cursor is none of this list; begin with the first page"


def encoded(values: Sequence[object]) -> str:
    """Return a cursor that holds values of JSON."""
    return base64.urlsafe_b64encode(json.dumps(values, separators=(",", ":")).encode()).decode().rstrip("=")


def decoded(cursor: str, length: int) -> list[Any]:
    """Return the values that a cursor holds.

    Raises:
        InvalidInputError: it is none that holds so many.
    """
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        values = json.loads(text)
    except (binascii.Error, ValueError, RecursionError) as error:
        raise InvalidInputError(_WORDS) from error
    if not isinstance(values, list) or len(values) != length:
        raise InvalidInputError(_WORDS)
    return values


def time_of(value: object) -> datetime:
    """Return the time, in UTC, that a cursor holds as ISO 8601.

    Raises:
        InvalidInputError: it is no time with a zone.
    """
    try:
        at = datetime.fromisoformat(str(value))
        if at.tzinfo is not None:
            return at.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidInputError(_WORDS) from error
    raise InvalidInputError(_WORDS)


def number_of(value: object) -> int:
    """Return the whole number, 0 or more, that a cursor holds.

    Raises:
        InvalidInputError: it is none that a bigint could hold.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST_ID:
        raise InvalidInputError(_WORDS)
    return value
