"""Tables: every column is shown at every width, nothing is cut, and a file gets one line a row."""

import re
from typing import Any

import pytest

from workers.cli.tables import Column, column, print_fields, print_table

ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
ID = "cmh5x2k9d0001qw08f3zt7abc"
ERROR = "the provider refused the picture by its policy (IMAGE_SAFETY), and what it said besides is longer than a line"
ROW = {"id": ID, "type": "enhance", "status": "REFUNDED", "tokens": 12, "created": "2026-11-28 20:31", "error": ERROR}
COLUMNS = (
    column("id", "job"),
    column("type"),
    column("status"),
    column("tokens", is_number=True, is_wide=True),
    column("created", is_wide=True),
    column("error", may_wrap=True),
)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Print a table on a terminal of so many columns; return its lines."""

    def lines(width: int, rows: list[Any], columns: tuple[Column, ...]) -> list[str]:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", str(width))
        print_table(rows, columns, empty="nothing")
        return ESCAPES.sub("", capsys.readouterr().out).splitlines()

    return lines


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
def test_everything_is_shown_at_every_width_and_the_id_in_one_piece(terminal: Any, width: int) -> None:
    lines = terminal(width, [ROW], COLUMNS)

    assert max(map(len, lines)) <= width
    assert any(line.startswith(ID) for line in lines)
    words = " ".join(" ".join(lines).split())
    for value in ("enhance", "REFUNDED", "12", "2026-11-28 20:31", *ERROR.split()):
        assert value in words
    for title in ("job", "type", "status", "tokens", "created", "error"):
        assert title in words


def test_wide_terminal_has_one_line_a_row(terminal: Any) -> None:
    assert len(terminal(240, [ROW, ROW], COLUMNS)) == 3


def test_text_wraps_beside_the_others_where_it_has_room(terminal: Any) -> None:
    lines = terminal(80, [ROW], (column("id", "job"), column("error", may_wrap=True)))

    assert len(lines) > 2
    assert all(line.startswith((" " * 27, ID, "job")) for line in lines)


def test_id_that_is_wider_than_the_terminal_is_whole(terminal: Any) -> None:
    lines = terminal(20, [ROW], (column("id", "job"), column("type")))

    assert ID in "".join(line.strip() for line in lines)


def test_value_that_is_not_there_takes_no_line_below(terminal: Any) -> None:
    assert len(terminal(60, [{**ROW, "error": None}], COLUMNS)) == 3  # titles, the row, tokens and created


def test_file_gets_one_line_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([{**ROW, "error": "two\nlines " + ERROR * 5}, ROW], COLUMNS, empty="")

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert ERROR * 5 in lines[1]
    assert lines[1].index("REFUNDED") == lines[2].index("REFUNDED") == lines[0].index("status")


def test_fields_leave_out_what_has_no_value(capsys: pytest.CaptureFixture[str]) -> None:
    print_fields({"id": ID, "error": None, "note": "", "count": 1200})

    assert capsys.readouterr().out == f"id     {ID}\ncount  1,200\n"
