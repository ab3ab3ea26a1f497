"""JSON as text, made by pydantic-core where it is made of JSON's own types: in half of the standard library's time."""

import json
from collections.abc import Callable
from types import NoneType
from typing import Any, Final

from pydantic_core import PydanticSerializationError, to_json

_SCALARS: Final = frozenset({str, int, float, bool, NoneType})


class ReadyJson(str):
    """JSON that is text already, which `json_text` leaves as it is."""

    __slots__ = ()


def ready_json(value: Any) -> ReadyJson:
    """Return as JSON a value that is known to be made of JSON's own types: to look for others takes longer."""
    try:
        return ReadyJson(to_json(value).decode())
    except (PydanticSerializationError, RecursionError):  # half of a surrogate pair, or a very deep list
        return ReadyJson(json.dumps(value))


def plain(value: Any) -> Any:
    """Return a value made of nothing but JSON's own types, as the standard library would write it.

    Raises:
        TypeError, ValueError, RecursionError: the standard library refuses it.
    """
    return value if _is_plain(value) else json.loads(json.dumps(value))


def json_text(value: Any, *, default: Callable[[Any], Any] | None = None) -> str:
    """Return a value as JSON. Values of other types than JSON's are treated as the standard library does.

    Pydantic-core would write bytes, sets, dataclasses with all their fields, and what is left of a generator.

    Args:
        value: the value.
        default: what replaces a value of another type than JSON has; None: such a value is refused.

    Raises:
        TypeError, ValueError, RecursionError: the standard library refuses it.
    """
    if type(value) is ReadyJson:
        return value
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
