"""How things are printed: JSON for programs, tables that fit the terminal for people."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDE_FROM: Final = 110
"""Columns of the terminal from which a table shows everything."""

PIPE_WIDTH: Final = 240
"""Nobody's terminal is cut to when the output goes to a file or a program."""

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


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table for people; `is_wide` ones appear where there is room."""

    title: str
    text: Callable[[Any], object]
    is_wide: bool = False
    is_number: bool = False
    may_wrap: bool = False


def console(*, is_error: bool = False) -> Console:
    """Make a console for stdout, or for stderr; made anew for each command, so that it finds the streams of today."""
    made = Console(stderr=is_error, highlight=False, emoji=False, markup=False)
    return made if made.is_terminal else Console(stderr=is_error, highlight=False, markup=False, width=PIPE_WIDTH)


def column(name: str, title: str | None = None, **traits: bool) -> Column:
    """A column that shows one value of a row by its name: a mapping's key or a value's attribute."""
    return Column(title or name, lambda row: _value(row, name), **traits)


def _value(row: Any, name: str) -> object:
    return row.get(name) if isinstance(row, Mapping) else getattr(row, name)


def print_table(rows: Iterable[Any], columns: Sequence[Column], *, empty: str) -> None:
    """Print rows as a table, or a sentence where there are none."""
    screen = console()
    listed = list(rows)
    if not listed:
        screen.print(Text(empty))
        return
    shown = [one for one in columns if not one.is_wide or screen.width >= WIDE_FROM]
    table = plain_table(shown)
    for row in listed:
        table.add_row(*(cell(one.text(row)) for one in shown))
    _print(screen, table)


def plain_table(columns: Iterable[Column]) -> Table:
    """Make a table without lines."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for one in columns:
        table.add_column(
            one.title,
            justify="right" if one.is_number else "left",
            no_wrap=not one.may_wrap,
            overflow="fold" if one.may_wrap else "ellipsis",
        )
    return table


def print_fields(fields: Mapping[str, object]) -> None:
    """Print names and values, one a line, leaving out what has no value."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, value in fields.items():
        if value is not None and value != "":
            table.add_row(Text(name), cell(value))
    _print(console(), table)


def _print(screen: Console, table: Table) -> None:
    if screen.is_terminal:
        screen.print(table)
        return
    with screen.capture() as captured:
        screen.print(table)
    for line in captured.get().splitlines():  # without the blanks that fill a terminal's lines
        sys.stdout.write(line.rstrip() + "\n")


def cell(value: object) -> Text:
    """Render a value; Text also keeps a stranger's markup and control characters from the terminal."""
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
            return _local(value)
        case int():
            return f"{value:,}"
        case list() | tuple():
            return ", ".join(map(str, value))
        case dict():
            return json.dumps(value, ensure_ascii=False, default=_plain)
        case _:
            return str(value)


def duration(seconds: float | None) -> str:
    """Write a duration as people read it: `0.4 s`, `12 s`, `3 min 05 s`, `2 h 10 min`."""
    if seconds is None:
        return "-"
    if seconds < 9.95:  # noqa: PLR2004 - from here on it would be written with one digit more
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def print_json(value: object) -> None:
    """Print one object or one array: timestamps as ISO 8601 in UTC, milliseconds."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, default=_plain) + "\n")


def fields_of(value: Any) -> dict[str, object]:
    """Return the fields of a typed value by their names, in their order; values within it stay as they are."""
    return {field.name: getattr(value, field.name) for field in fields(value)}


def chosen(value: Any, names: Iterable[str]) -> dict[str, object]:
    """Return some fields of a typed value, by their names."""
    return {name: getattr(value, name) for name in names}


def camel_case(value: Any) -> dict[str, object]:
    """Return the fields of a typed value named as the application's columns are: `user_id` is `userId`."""
    return {_camel(name): one for name, one in fields_of(value).items()}


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(other.capitalize() for other in others)


def note(text: str) -> None:
    """Say something to a person, on stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


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
    """The application's columns have no zone and hold UTC; ours have one."""
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _local(value: datetime) -> str:
    return f"{_utc(value).astimezone():%Y-%m-%d %H:%M:%S}"
