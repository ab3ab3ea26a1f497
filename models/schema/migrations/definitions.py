"""Parsing of our SQL files into the functions, views and triggers that they define."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

_MADE: Final = re.compile(r"^CREATE OR REPLACE (FUNCTION|VIEW) darkroom\.(\w+)", re.MULTILINE)
_TRIGGER: Final = re.compile(
    r"""^CREATE (CONSTRAINT )?TRIGGER (\w+) .*? ON ((?:\w+|"(?:[^"]|"")+")\.(?:\w+|"(?:[^"]|"")+"))"""
    r".*?EXECUTE FUNCTION darkroom\.\w+\([^()]*\);",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Definition:
    """A function or a view, and the statement that makes it. Each function of ours has only one signature.

    Attributes:
        kind: function or view.
        name: its name without the schema.
        sql: the statement.
        comment: the comment above the statement, in one line; empty where there is none.
    """

    kind: Literal["function", "view"]
    name: str
    sql: str
    comment: str

    @property
    def label(self) -> str:
        """Its name for people and in records, such as `view darkroom.jobs`."""
        return f"{self.kind} darkroom.{self.name}"

    @property
    def digest(self) -> str:
        """A hash of the definition's text; a changed definition is found by it."""
        return _digest(self.sql)


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger on a table of an application's; `table` is the table with its schema, as in SQL."""

    table: str
    name: str
    sql: str
    is_constraint: bool

    @property
    def label(self) -> str:
        """Its name in records: `table.trigger`, where only schemas other than `public` are named."""
        table = self.table.replace('"', "").removeprefix("public.")
        return f"{table}.{self.name}"


def definitions(sql: str) -> list[Definition]:
    """Split a script of CREATE OR REPLACE statements into its definitions, in their order.

    Raises:
        ValueError: two statements define the same name; the message names it.
    """
    starts = list(_MADE.finditer(sql))
    found = [
        Definition(
            "function" if start[1] == "FUNCTION" else "view",
            start[2],
            _without_comments_at_the_end(sql[start.start() : end]),
            _comment_at_the_end(sql[: start.start()]),
        )
        for start, end in zip(starts, [*(one.start() for one in starts[1:]), len(sql)], strict=True)
    ]
    labels = [one.label for one in found]
    if twice := {label for label in labels if labels.count(label) > 1}:
        raise ValueError(f"made twice: {', '.join(sorted(twice))}")
    return found


def triggers(sql: str) -> Iterator[Trigger]:
    """Split a script into its triggers."""
    for found in _TRIGGER.finditer(sql):
        yield Trigger(found[3], found[2], found[0], is_constraint=found[1] is not None)


def _without_comments_at_the_end(sql: str) -> str:
    """Return a statement without the comment that follows it, which belongs to the next statement."""
    return re.sub(r"(\n(--[^\n]*)?)*\Z", "\n", sql)


def _comment_at_the_end(sql: str) -> str:
    """Return the comment lines directly above a statement, as one line."""
    lines = sql.rpartition("\n\n")[2].splitlines()
    words = (line.removeprefix("--").strip() for line in lines if line.startswith("--"))
    return " ".join(word for word in words if word)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
