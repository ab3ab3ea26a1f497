"""Output of commands: JSON for programs, and tables that fit the terminal for people."""

import json
import shutil
import sys
import textwrap
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from rich.console import Console
from rich.text import Text

PIPE_WIDTH: Final = 240
"""Width, in characters, of output that goes to a file or a program."""

STATUS_STYLES: Final = {
    "COMPLETED": "green",
    "FAILED": "red",
    "REFUNDED": "red",
    "CANCELLED": "yellow",
    "PROCESSING": "cyan",
    "ok": "green",
    "warn": "yellow",
    "fail": "red",
}


def console(*, is_error: bool = False) -> Console:
    """Return a new console for what sys.stdout, or sys.stderr, is at this moment."""
    made = Console(stderr=is_error, highlight=False, emoji=False, markup=False)
    return made if made.is_terminal else Console(stderr=is_error, highlight=False, markup=False, width=PIPE_WIDTH)


def cell(value: object) -> Text:
    """Return a value as Text, so that markup and control characters in it don't act on the terminal."""
    if isinstance(value, Text):
        return value
    if value is None:
        return Text("-", style="dim")
    text = _text(value)
    return Text(text, style=STATUS_STYLES.get(text, ""))


def _text(value: object) -> str:
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
            return json.dumps(value, ensure_ascii=False, default=_plain)
        case _:
            return str(value)


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


def print_json(value: object) -> None:
    """Print one object or one array: timestamps as ISO 8601 in UTC, milliseconds."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, default=_plain) + "\n")


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


def note(text: str) -> None:
    """Print a line for people to stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def wrapped(text: str, *, first: str = "", rest: str = "") -> str:
    """Return a text for stderr in lines that fit the terminal, broken between words; without a terminal, as one line.

    Args:
        text: what is wrapped.
        first: indentation of the first line.
        rest: indentation of the others.
    """
    width = shutil.get_terminal_size().columns if sys.stderr.isatty() else sys.maxsize
    lines = textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(lines)


def _plain(value: object) -> object:
    match value:
        case datetime():
            return _utc(value).isoformat(timespec="milliseconds").replace("+00:00", "Z")
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


def _utc(value: datetime) -> datetime:
    """Return a time with its zone. The application's columns have UTC without a zone; Darkroom's have a zone."""
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def local_time(value: datetime) -> str:
    """Return a time in the local time zone, for people."""
    return f"{_utc(value).astimezone():%Y-%m-%d %H:%M:%S}"
