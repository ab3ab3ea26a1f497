"""Reading the keys of a file: each of the type that it must have, and none that isn't known."""

import datetime as dt
import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a file: the path of a key, or a line, and the reason."""

    key: str
    reason: str

    def line(self, file_name: str) -> str:
        """Return the fault as one line for operators."""
        return f"{file_name}: {' '.join(self.key.split())}: {' '.join(self.reason.split())}"


_KINDS: Final[Sequence[tuple[type | tuple[type, ...], str]]] = (
    (str, "text"),
    (bool, "a boolean"),  # before int, which it is, too
    (int, "an integer"),
    (float, "a number"),
    (list, "a list"),
    ((dt.date, dt.time), "a time"),
    (dict, "a table"),
)


def _kind(value: Any) -> str:
    """Return what a value of TOML is, in words."""
    return next(words for kinds, words in _KINDS if isinstance(value, kinds))


@dataclass(frozen=True, slots=True)
class Keys:
    """One table of a file. Each method reads a key and adds to `faults` what is wrong with it.

    Attributes:
        content: the table.
        path: its own path, empty for the file itself.
        faults: what was found to be wrong with the file so far.
        known: its keys; None where any is one, as a column's name.
    """

    content: Mapping[str, Any]
    path: str
    faults: list[Fault]
    known: Sequence[str] | None

    def __post_init__(self) -> None:
        for key in self.content:
            if self.known is not None and key not in self.known:
                nearest = difflib.get_close_matches(key, self.known, n=1, cutoff=0)[0]
                self.fault(self.path_of(key), f"unknown key, nearest: {nearest}")

    def path_of(self, key: str) -> str:
        """Return the path of a key of this table."""
        return f"{self.path}.{key}" if self.path else key

    def fault(self, path: str, reason: str) -> None:
        """Record what is wrong with the key of a path."""
        self.faults.append(Fault(path, reason))

    def _of_type(self, key: str, kind: type | tuple[type, ...], wanted: str) -> Any:
        """Return the value of a key; None, and a fault, where it is of another type."""
        value = self.content[key]
        if isinstance(value, kind):
            return value
        self.fault(self.path_of(key), f"must be {wanted}, is {_kind(value)}")
        return None

    def text(self, key: str, *, default: str = "", is_required: bool = False) -> str:
        """Return a text; the default where the key is absent, which is a fault if it is required."""
        if key not in self.content:
            if is_required:
                self.fault(self.path_of(key), "missing")
            return default
        value = self._of_type(key, str, "text")
        if value is not None and not value.strip():
            self.fault(self.path_of(key), "must not be empty")
        return default if value is None else str(value)

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts; empty where the key is absent."""
        return self._texts(key, "a list of text") if key in self.content else ()

    def text_or_texts(self, key: str) -> tuple[str, ...]:
        """Return a text, or a list of texts, as a list; empty where the key is absent."""
        if isinstance(self.content.get(key), str):
            return (self.text(key),)
        return self._texts(key, "text or a list of text") if key in self.content else ()

    def _texts(self, key: str, wanted: str) -> tuple[str, ...]:
        value = self._of_type(key, list, wanted)
        if value is None:
            return ()
        if others := [one for one in value if not isinstance(one, str)]:
            self.fault(self.path_of(key), f"must be {wanted}, has {_kind(others[0])}")
        return tuple(one for one in value if isinstance(one, str))

    def all_texts(self) -> dict[str, str]:
        """Return every known key of this table with its text."""
        return {key: self.text(key) for key in self.content if self.known is None or key in self.known}

    def table(self, key: str, known: Sequence[str] | None, *, is_required: bool = True) -> "Keys":
        """Return a table of this table; an empty one where it is absent, or no table."""
        value: Any = {}
        if key in self.content:
            value = self._of_type(key, dict, "a table") or {}
        elif is_required:
            self.fault(self.path_of(key), "missing")
        return Keys(value, self.path_of(key), self.faults, known)

    def tables(self, key: str, known: Sequence[str]) -> Iterator["Keys"]:
        """Yield each table of a list of tables; none where the key is absent."""
        value = self._of_type(key, list, "a list of tables") if key in self.content else []
        for number, one in enumerate(value or []):
            path = f"{self.path_of(key)}[{number}]"
            if isinstance(one, dict):
                yield Keys(one, path, self.faults, known)
            else:
                self.fault(path, f"must be a table, is {_kind(one)}")

    def tables_by_name(self, key: str, known: Sequence[str]) -> Iterator[tuple[str, "Keys"]]:
        """Yield each table of a table of tables, with its name; a fault where there is none."""
        outer = self.table(key, None)
        if key in self.content and not outer.content and isinstance(self.content[key], dict):
            self.fault(self.path_of(key), "missing")
        for name, value in outer.content.items():
            if isinstance(value, dict):
                yield name, Keys(value, outer.path_of(name), self.faults, known)
            else:
                self.fault(outer.path_of(name), f"must be a table, is {_kind(value)}")


def has_code_0(value: Any) -> bool:
    """Return whether a value of TOML has a character of code 0 in a key or a text, which PostgreSQL can't store."""
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any("\0" in key or has_code_0(one) for key, one in value.items())
    return isinstance(value, list) and any(map(has_code_0, value))
