"""Every command and option: a wrong call gets a message in our words and exit code 2, and nothing is done."""

import re
from pathlib import Path
from typing import Any

import pytest

from workers.cli.app import main, program
from workers.cli.catalogue import COMMANDS
from workers.cli.lazy import Group

NOT_OURS = re.compile(r"(?i)input should|unable to|valid|pydantic|unexpected|possible options|no such|value error|\.;")
NAMES = [
    [one.name, command.name] if isinstance(one, Group) else [one.name]
    for ones in COMMANDS.values()
    for one in ones
    for command in (one.commands if isinstance(one, Group) else [one])
]


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Call a command that can't be called so; return the line that it says, without what was given."""
    code = main(arguments)
    captured = capsys.readouterr()

    assert (code, captured.out) == (2, "")
    assert captured.err.count("\n") == 1
    line = captured.err.replace("--no-such-option", "").replace("'no-such-value!'", "")
    assert not NOT_OURS.search(line), captured.err
    assert line.endswith("--help`\n")
    return captured.err


@pytest.fixture(autouse=True)
def for_people(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # --out makes its folder
    monkeypatch.setenv("LOG_FORMAT", "console")  # services say why they end as an event elsewhere


@pytest.mark.parametrize("name", NAMES, ids=" ".join)
def test_call_with_what_a_command_does_not_know_is_a_usage_error(
    capsys: pytest.CaptureFixture[str], name: list[str]
) -> None:
    assert "there is no option --no-such-option" in said(capsys, *name, "--no-such-option")
    for option in options(name):
        word = option.opts[0]
        if option.is_flag:
            assert f"{word} takes no value" in said(capsys, *name, f"{word}=no-such-value!")
        else:
            assert f"{word} needs a value" in said(capsys, *name, word)
        if is_checked(option):
            assert f"{word} 'no-such-value!'" in said(capsys, *name, *required(name), word, "no-such-value!")


def parameters(name: list[str]) -> list[Any]:
    found: Any = program()
    for word in name:
        found = found.get_command(None, word)
    return [one for one in found.params if "--help" not in one.opts]


def options(name: list[str]) -> list[Any]:
    return [one for one in parameters(name) if one.param_type_name == "option"]


def required(name: list[str]) -> list[str]:
    """What has to be given, so that nothing else is wrong with a call."""
    given = []
    for one in parameters(name):
        if one.required:
            value = "1" if one.name == "amount" else "x"
            option = {"tier": "1k", "jobs_per_day": "5", "role": "viewer"}.get(one.name, "+1h")
            given += [one.opts[0], option] if one.param_type_name == "option" else [value]
    return given


def is_checked(option: Any) -> bool:
    """Whether not every text is a value: a number or a choice."""
    kind = option.type_descriptor
    return bool(kind.is_choice) or kind.annotation in {int, float, list[int]}


@pytest.mark.parametrize("group", [one.name for ones in COMMANDS.values() for one in ones if isinstance(one, Group)])
def test_group_alone_or_with_an_unknown_command_says_what_there_is(
    capsys: pytest.CaptureFixture[str], group: str
) -> None:
    assert "which one? " in said(capsys, group)
    assert "there is no command 'frobnicate'; see" in said(capsys, group, "frobnicate")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("jobs", "list", "--limit", "0"), "--limit '0': must be at least 1"),
        (("jobs", "list", "--limt", "5"), "there is no option --limt; did you mean --limit?"),
        (("jobs", "show", "a", "b"), "one argument too many: 'b'"),
        (("jobs", "show"), "JOB_ID is missing"),
        (("enhance", "x.jpg", "--tier", "9k"), "--tier '9k' is not one of 'free', '1k', '2k', '4k';"),
        (("completion", "tcsh"), "SHELL 'tcsh' is not one of 'bash', 'zsh', 'fish';"),
        (("tokens", "grant", "ada@example.com", "many"), "AMOUNT 'many': must be a whole number"),
        (("worker", "--processes", "-1"), "--processes '-1': must be at least 1"),
        (("jobs", "list", "--since", "yesterday"), "--since: 'yesterday' is no time"),
    ],
)
def test_wrong_value_is_named_with_what_it_must_be(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    main(arguments)

    assert words in capsys.readouterr().err


GIVEN = {"jobs retry": ["x"], "jobs save": ["x"], "queue pause": ["--tier", "1k"], "queue resume": ["--tier", "1k"]}
OF_THEIR_OWN = ("completion", "demo")  # one reads no setting, the other brings its own


@pytest.mark.parametrize("name", [name for name in NAMES if name[0] not in OF_THEIR_OWN], ids=" ".join)
def test_provider_that_there_is_not_is_refused_before_anything_is_opened(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: list[str]
) -> None:
    monkeypatch.setenv("PROVIDER", "local,gemnii")
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path / "home"))

    code = main([*name, *required(name), *GIVEN.get(" ".join(name), [])])

    captured = capsys.readouterr()
    assert (code, captured.out) == (2, "")
    assert "there is no provider gemnii (did you mean gemini?)" in captured.err
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("name", NAMES, ids=" ".join)
def test_help_names_no_type_of_python(capsys: pytest.CaptureFixture[str], name: list[str]) -> None:
    assert main([*name, "--help"]) == 0

    shown = capsys.readouterr().out
    assert not re.search(r"<[^|>]*>|list\[|[{}]", shown), shown


def test_option_of_another_program_is_told_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no option -c; what is for the other program comes after --" in said(
        capsys, "db", "psql", "-c", "SELECT 1"
    )
