"""What is wrong with the keys of a file is told as one line each, without a database."""

# ruff: noqa: E501 - a case is one line of a table
import pytest

from models.applications.files.file import read
from tests.support.frames_file import FILE, ORDERS, edited, line_of

KEYS = [
    ([("[money]", "[money")], "app.toml: line 4: Expected ']' at the end of a table declaration (at line 4, column 7)"),
    ([('status = "state"', 'stauts = "state"')], f"{ORDERS}.stauts: unknown key, nearest: status"),
    ([('name = "frames"', 'nam = "frames"')], "app.toml: nam: unknown key, nearest: name"),
    ([('COMPLETED = "done", ', "")], f"{ORDERS}.statuses.COMPLETED: missing"),
    ([line_of("user", "")], f"{ORDERS}.user: missing"),
    ([('table = "customers"\n', "")], "app.toml: money.table: missing"),
    ([('["catalogue.cover_key"]', '"catalogue.cover_key"')], "app.toml: references: must be a list of text, is text"),
    ([('["catalogue.cover_key"]', "[1]")], "app.toml: references: must be a list of text, has an integer"),
    ([('["catalogue.cover_key"]', '["cover_key"]')], 'app.toml: references: must be a list of table.column, has "cover_key"'),
    ([line_of("id", "7")], f"{ORDERS}.id: must be text, is an integer"),
    ([line_of("inputs", "true")], f"{ORDERS}.inputs: must be a table, is a boolean"),
    ([line_of("books", '["x"]')], f"{ORDERS}.books[0]: must be a table, is text"),
    ([('when = "completed"', 'when = "done"')], f'{ORDERS}.books[0].when: "done" is none of entered, claimed, completed, failed, cancelled'),
    ([('"22023"', '"00023"')], f'{ORDERS}.checks[0].sqlstate: must be five of 0 to 9 and A to Z that don\'t begin with 00, is "00023"'),
    ([('name = "frames"', 'name = "studio"')], 'app.toml: name: "studio" is the name of a shipped application'),
    ([('name = "frames"', 'name = "Frames"')], 'app.toml: name: must be like [a-z][a-z0-9_]{0,30}, is "Frames"'),
    ([('FAILED = "error"', 'FAILED = "done"')], f'{ORDERS}.statuses.FAILED: "done" is already COMPLETED'),
    ([('CANCELLED = "stopped"', 'HELD = ["new"]')], f'{ORDERS}.statuses.HELD: "new" is already PENDING'),
    ([line_of("cost", "")], f"{ORDERS}.cost: missing, required with money"),
    ([(FILE[FILE.index("[money]") : FILE.index("[tables.orders]")], "")], "app.toml: money: missing, required with tables.orders.cost"),
    ([line_of("job_type", '''"'paint'"''')], f'{ORDERS}.job_type: "paint" is none of enhance, generate, modify'),
    ([line_of("tier", '''"'8K'"''')], f'{ORDERS}.tier: "8K" is none of FREE, 1K, 2K, 4K'),
    ([line_of("user", '"a\\u0000"')], "app.toml: tables: has a character of code 0"),
    ([("[tables.orders]", '[tables."a\\u0000"]')], "app.toml: tables: has a character of code 0"),
    ([("catalogue.cover_key", "a.b\\u0000")], "app.toml: references: has a character of code 0"),
    ([("a price below zero", "{{price}}")], f"{ORDERS}.checks[0].words: must have neither {{{{ nor --:"),
    ([line_of("tier", '" "')], f"{ORDERS}.tier: must not be empty"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "line"), KEYS, ids=lambda one: str(one)[-60:])
def test_fault_of_a_key_is_told_in_one_line(changes, line):
    _, faults = read(edited(*changes))

    assert line in [one.line("app.toml") for one in faults]


def test_example_of_the_contract_is_well():
    file, faults = read(FILE)

    assert faults == []
    assert [table.name for table in file.tables] == ["orders"]
