"""The examples and tables of docs/producers.md and README.md, read from the files."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/producers.md"
README = ROOT / "README.md"

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def example(first_words: str, path: Path = PAGE) -> str:
    """Return the one block of code whose first line begins with a comment of these words."""
    found = [code for _, code in _BLOCK.findall(path.read_text()) if re.match(rf"(#|//|--) {first_words}\b", code)]
    assert len(found) == 1, f"{len(found)} examples begin with {first_words!r}"
    return found[0]


def blocks(language: str, path: Path = PAGE) -> list[str]:
    """Return every block of code of a language."""
    return [code for name, code in _BLOCK.findall(path.read_text()) if name == language]


def table(first_column: str) -> list[list[str]]:
    """Return the cells of the rows of the one table whose first column is headed so."""
    found = re.findall(
        rf"^\| {re.escape(first_column)} \|.*\n\|[-|: ]+\n((?:\|.*\n)+)", PAGE.read_text(), flags=re.MULTILINE
    )
    assert len(found) == 1, f"{len(found)} tables begin with {first_column!r}"
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in found[0].splitlines()]


def codes(text: str) -> set[str]:
    """Return what stands between single backticks."""
    return set(re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)))
