"""JSON as text, made by pydantic-core where it is made of JSON's own types: in half of the standard library's time."""

import json
from collections.abc import Callable
from types import NoneType
from typing import Any, Final

from pydantic_core import PydanticSerializationError, to_json

_SCALARS: Final = frozenset({str, int, float, bool, NoneType})


def json_text(value: Any, *, default: Callable[[Any], Any] | None = None) -> str:
    """Return a value as JSON. Values of other types than JSON's are treated as the standard library does.

    Pydantic-core would write bytes, sets, dataclasses with all their fields, and what is left of a generator.

    Args:
        value: the value.
        default: what replaces a value of another type than JSON has; None: such a value is refused.

    Raises:
        TypeError, ValueError, RecursionError: the standard library refuses it.
    """
    try:
        if _is_plain(value):
            return to_json(value).decode()
    except (PydanticSerializationError, RecursionError):  # half of a surrogate pair, or a very deep list
        pass
    return json.dumps(value, default=default)


def _is_plain(value: Any) -> bool:
    """Return whether a value is made of nothing but JSON's own types."""
    kind = type(value)
    if kind is dict:
        for name, one in value.items():
            if type(name) is not str or not (type(one) in _SCALARS or _is_plain(one)):
                return False
        return True
    if kind is list or kind is tuple:
        for one in value:  # noqa: SIM110 - a generator would take twice the time
            if not (type(one) in _SCALARS or _is_plain(one)):
                return False
        return True
    return kind in _SCALARS
