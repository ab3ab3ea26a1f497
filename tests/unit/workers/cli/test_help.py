"""The help of every command: it says what each option does, has an example, and fits into 80 columns."""

import re

import pytest

from workers.cli.app import main, program
from workers.cli.catalogue import COMMANDS
from workers.cli.lazy import Group

NAMES = [
    [one.name, command.name] if isinstance(one, Group) else [one.name]
    for ones in COMMANDS.values()
    for one in ones
    for command in (one.commands if isinstance(one, Group) else [one])
]
SENTENCE = re.compile(r"[A-Z\d`-].*\.", flags=re.DOTALL)


@pytest.fixture
def help_of(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    def printed(name: list[str], columns: int) -> str:
        monkeypatch.setenv("COLUMNS", str(columns))
        assert main([*name, "--help"]) == 0
        return capsys.readouterr().out

    return printed


@pytest.mark.parametrize("name", NAMES, ids=" ".join)
def test_every_argument_and_option_of_a_command_is_explained_by_a_sentence(name):
    found = program()
    for word in name:
        found = found.get_command(None, word)

    assert [one.name for one in found.params if not SENTENCE.fullmatch(one.help or "")] == []


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize("name", NAMES, ids=" ".join)
def test_help_of_a_command_fits_has_an_example_and_cuts_no_word(help_of, name, columns):
    lines = help_of(name, columns).splitlines()
    examples = lines[lines.index("  Examples:") + 1 :]

    assert any(line.startswith("    ") and "darkroom" in line for line in examples)
    assert [line for line in lines if len(line) > 80 or line.endswith("-")] == []
    assert [line for line in lines if re.search(r"<(str|int|list)|range>|<=|>=", line)] == []


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize("name", [[], *([one] for one in dict.fromkeys(name[0] for name in NAMES))], ids=" ".join)
def test_help_of_a_group_fits(help_of, name, columns):
    assert [line for line in help_of(name, columns).splitlines() if len(line) > 80 or line.endswith("-")] == []
