"""Output of commands: JSON for programs, and tables that fit the terminal for people."""

import shutil
import sys
import textwrap
from typing import Final

from rich.console import Console
from rich.text import Text

from workers.presentation.values import json_text, words

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
    text = words(value)
    return Text(text, style=STATUS_STYLES.get(text, ""))


def print_json(value: object) -> None:
    """Print one object or one array: timestamps as ISO 8601 in UTC, milliseconds."""
    sys.stdout.write(json_text(value, indent=2) + "\n")


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
