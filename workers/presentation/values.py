"""Values as words for people and as JSON for programs."""

import json
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID


def words(value: object) -> str:
    """Return a value for people."""
    match value:
        case bool():
            return "yes" if value else "no"
        case datetime():
            return local_time(value)
        case int():
            return f"{value:,}"
        case list() | tuple():
            return ", ".join(map(str, value))
        case dict():
            return json_text(value)
        case _:
            return str(value)


def json_text(value: object, *, indent: int | None = None) -> str:
    """Return one object or one array as JSON: timestamps as ISO 8601 in UTC, milliseconds."""
    return json.dumps(value, ensure_ascii=False, indent=indent, default=_plain)


def duration(seconds: float | None) -> str:
    """Return a duration for people: `0.4 s`, `12 s`, `3 min 05 s`, `2 h 10 min`."""
    if seconds is None:
        return "-"
    if seconds < 9.95:  # noqa: PLR2004 - from here on rounding would give one digit more
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def count_of(number: int, noun: str) -> str:
    """Return a number with its noun: `1 picture`, `1,200 pictures`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def fields_of(value: Any) -> dict[str, object]:
    """Return the fields of a dataclass by name, in their order; values inside the fields stay as they are."""
    return {field.name: getattr(value, field.name) for field in fields(value)}


def chosen(value: Any, names: Iterable[str]) -> dict[str, object]:
    """Return some fields of a dataclass, by name."""
    return {name: getattr(value, name) for name in names}


def camel_case(value: Any) -> dict[str, object]:
    """Return the fields of a dataclass, named as the application's columns are: `user_id` is `userId`."""
    return {_camel(name): one for name, one in fields_of(value).items()}


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(other.capitalize() for other in others)


def _plain(value: object) -> object:
    match value:
        case datetime():
            return utc(value).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        case timedelta():
            return value.total_seconds()
        case Decimal():
            return float(value)
        case Enum():
            return value.value
        case UUID() | Path():
            return str(value)
        case _ if is_dataclass(value):
            return fields_of(value)
        case _:
            raise TypeError(f"{type(value).__name__} has no JSON")


def utc(value: datetime) -> datetime:
    """Return a time with its zone. The application's columns have UTC without a zone; Darkroom's have a zone."""
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def local_time(value: datetime) -> str:
    """Return a time in the local time zone, for people."""
    return f"{utc(value).astimezone():%Y-%m-%d %H:%M:%S}"
