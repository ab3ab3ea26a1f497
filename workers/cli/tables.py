"""Tables for people: every column is shown, however narrow the terminal is, and no value is cut.

If a table fits, each row is one line. Otherwise long texts are wrapped, and columns for which there is no room are
printed below their row, each with its title. In a file or for a program, each row is one line, however long it is.
"""

import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from workers.cli.output import cell, console, note

GAP: Final = 2
INDENT: Final = 4
"""Characters of indentation for what is printed below a row."""

LONG: Final = 20
"""Rows from which on a list ends with their number, because its beginning may have left the screen."""

LEAST_TEXT: Final = 30
"""Smallest width, in characters, at which a text is printed beside the rest of its row."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        title: of the column.
        text: returns the column's text for a row.
        is_wide: whether it is moved below its row before other columns are.
        is_number: whether it is aligned to the right.
        may_wrap: whether it has sentences, which may take several lines.
    """

    title: str
    text: Callable[[Any], object]
    is_wide: bool = False
    is_number: bool = False
    may_wrap: bool = False


def column(name: str, title: str | None = None, **traits: bool) -> Column:
    """Return a column with one value of each row, by its name: a mapping's key or an object's attribute."""
    return Column(title or name, lambda row: _value(row, name), **traits)


def _value(row: Any, name: str) -> object:
    return row.get(name) if isinstance(row, Mapping) else getattr(row, name)


def print_table(rows: Iterable[Any], columns: Sequence[Column], *, empty: str) -> None:
    """Print rows as a table, or the sentence `empty` if there are none."""
    screen = console()
    cells = [[cell(one.text(row)) for one in columns] for row in rows]
    if not cells:
        screen.print(Text(empty))
        return
    titles = [Text(one.title, style="bold") for one in columns]
    widths = [max(one.cell_len for one in parts) for parts in zip(titles, *cells, strict=True)]
    if screen.is_terminal:
        widths, beside = _layout(columns, widths, screen.width)
    else:
        beside = list(range(len(columns)))
    if any(titles[place].plain for place in beside):
        _print_line(screen, columns, widths, [(place, titles[place]) for place in beside])
    for row in cells:
        _print_line(screen, columns, widths, [(place, row[place]) for place in beside])
        _print_below(screen, columns, [(place, text) for place, text in enumerate(row) if place not in beside])


def _layout(columns: Sequence[Column], widths: Sequence[int], room: int) -> tuple[list[int], list[int]]:
    """Return the widths of the columns, and the indexes of those that are printed beside each other.

    If the columns don't fit, first those with sentences become narrower. If that isn't enough, they are moved below
    their row, then wide columns, then the others, from the right, until the rest fits. The first column is never moved.
    """
    beside = list(range(len(columns)))
    leaving = [
        *(place for place in reversed(beside[1:]) if columns[place].may_wrap),
        *(place for place in reversed(beside[1:]) if columns[place].is_wide and not columns[place].may_wrap),
        *(place for place in reversed(beside[1:]) if not columns[place].is_wide and not columns[place].may_wrap),
    ]
    while True:
        given = _shrunk(columns, widths, beside, room)
        if given is not None or not leaving:
            return given or list(widths), beside
        beside.remove(leaving.pop(0))


def _shrunk(columns: Sequence[Column], widths: Sequence[int], beside: Sequence[int], room: int) -> list[int] | None:
    """Return widths with which columns fit beside each other, with their texts wrapped; None if they don't fit."""
    given = list(widths)
    left = room - GAP * (len(beside) - 1) - sum(widths[place] for place in beside if not columns[place].may_wrap)
    texts = sorted((place for place in beside if columns[place].may_wrap), key=lambda place: widths[place])
    for number, place in enumerate(texts):
        share = left // (len(texts) - number)
        given[place] = min(widths[place], share)
        if given[place] < min(widths[place], LEAST_TEXT):
            return None
        left -= given[place]
    return given if left >= 0 else None


def _print_line(
    screen: Console, columns: Sequence[Column], widths: Sequence[int], parts: Sequence[tuple[int, Text]]
) -> None:
    """Print a row, in as many lines as its longest text takes."""
    if not screen.is_terminal:
        texts = [" ".join(text.plain.splitlines()) for _, text in parts]
        padded = [
            text.rjust(widths[place]) if columns[place].is_number else text.ljust(widths[place])
            for text, (place, _) in zip(texts, parts, strict=True)
        ]
        sys.stdout.write((" " * GAP).join(padded).rstrip() + "\n")
        return
    wrapped = [list(text.wrap(screen, max(1, widths[place]), overflow="fold")) for place, text in parts]
    for number in range(max(map(len, wrapped))):
        line = Text()
        for (place, _), lines in zip(parts, wrapped, strict=True):
            part = lines[number] if number < len(lines) else Text()
            part.rstrip()
            padding = " " * (widths[place] - part.cell_len)
            line.append_text(Text.assemble(padding, part) if columns[place].is_number else Text.assemble(part, padding))
            line.append(" " * GAP)
        line.rstrip()
        screen.print(line, soft_wrap=True)


def _print_below(screen: Console, columns: Sequence[Column], parts: Sequence[tuple[int, Text]]) -> None:
    """Print the columns for which a row has no room: short values together in one line, each long text in its own."""
    known = [(columns[place], text) for place, text in parts if text.plain not in {"", "-"}]
    short = [Text.assemble((f"{one.title} ", "dim"), text) for one, text in known if not one.may_wrap]
    texts = [Text.assemble((f"{one.title}: ", "dim"), text) for one, text in known if one.may_wrap]
    for text in (*([Text("  ").join(short)] if short else []), *texts):
        for line in text.wrap(screen, max(1, screen.width - INDENT), overflow="fold"):
            line.rstrip()
            screen.print(Text.assemble(" " * INDENT, line), soft_wrap=True)


def print_fields(fields: Mapping[str, object]) -> None:
    """Print names and values, one a line, without those that have no value."""
    known = [(name, value) for name, value in fields.items() if value is not None and value != ""]
    columns = [Column("", lambda row: Text(row[0], style="bold")), Column("", lambda row: row[1], may_wrap=True)]
    print_table(known, columns, empty="")


async def note_count(shown: int, limit: int, noun: str, count: Callable[[], Awaitable[int | None]]) -> None:
    """Print how many rows there are in all, if a list is cut or longer than a screen.

    Args:
        shown: number of rows that were printed.
        limit: how many rows the command was asked to print at most.
        noun: what the rows are, in the plural.
        count: function that counts all rows; it returns None if there are more than it counts.
    """
    total = await count() if shown >= limit else shown
    if total is None:
        note(f"the newest {shown:,} {noun}; there are more than can be listed at once")
        return
    if total > shown:
        note(f"{shown:,} of {total:,} {noun}; --limit {total} lists them all")
    elif total > LONG:
        note(f"{total:,} {noun}")
