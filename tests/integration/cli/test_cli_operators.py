"""`darkroom operators`: who may sign in to the dashboard."""

import io

import pytest
from argon2 import PasswordHasher

from tests.integration.cli.test_cli_imports import imported
from tests.support.calling import Arrange, Darkroom

ACTIONS = "SELECT action, target, before, after, reason FROM darkroom.operator_actions ORDER BY id"
HASHES = "SELECT name, password_hash FROM darkroom.operators"


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch):
    """Give a command something on standard input, as a program does."""

    def give(data: bytes) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))

    return give


def test_operators_are_added_listed_and_removed_and_each_is_recorded(
    darkroom: Darkroom, arrange: Arrange, given
) -> None:
    given("pässwörd\n".encode())
    added = darkroom("operators", "add", "ada", "--role", "operator", "--password-stdin", "--json")
    given(b"12345678")
    assert darkroom("operators", "add", "vera", "--role", "viewer", "--password-stdin").out == "vera: viewer\n"
    listed = darkroom("operators", "list", "--json").json
    shown = darkroom("operators", "list")
    removed = darkroom("operators", "remove", "vera", "--reason", "left", "--json")

    assert (added.json["name"], added.json["role"], added.json["sessions"]) == ("ada", "operator", 0)
    assert [(one["name"], one["role"]) for one in listed] == [("ada", "operator"), ("vera", "viewer")]
    assert all(set(one) == {"name", "role", "createdAt", "sessions", "seenAt"} for one in listed)
    assert [word in shown.out for word in ("ada", "vera", "viewer", "argon2")] == [True, True, True, False]
    assert removed.json == {"name": "vera", "role": "viewer", "sessions": 0}
    (row,) = arrange(lambda db: db.fetch(HASHES))
    assert PasswordHasher().verify(row["password_hash"], "pässwörd")
    assert row["password_hash"].startswith("$argon2id$")
    actions = [tuple(one) for one in arrange(lambda db: db.fetch(ACTIONS))]
    assert actions == [
        ("operator_add", "ada", None, {"role": "operator"}, None),
        ("operator_add", "vera", None, {"role": "viewer"}, None),
        ("operator_remove", "vera", {"role": "viewer"}, {"sessionsEnded": 0}, "left"),
    ]


def test_last_operator_that_is_removed_leaves_a_warning(darkroom: Darkroom, given) -> None:
    given(b"12345678")
    darkroom("operators", "add", "ada", "--role", "operator", "--password-stdin")

    assert "there are no operators any more" in darkroom("operators", "remove", "ada").err
    assert "there are no operators" in darkroom("operators", "list").out


def test_operator_who_is_there_is_replaced_only_on_purpose(darkroom: Darkroom, arrange: Arrange, given) -> None:
    words = ("operators", "add", "ada", "--password-stdin", "--role")
    given(b"12345678")
    assert darkroom(*words, "operator").code == 0
    before = arrange(lambda db: db.fetch(HASHES))
    given(b"another one")
    refused = darkroom(*words, "viewer")
    assert (refused.code, "there is an operator ada already; --replace" in refused.err) == (1, True)
    assert arrange(lambda db: db.fetch(HASHES)) == before

    given(b"another one")
    assert darkroom(*words, "viewer", "--replace").out == "ada: viewer\n"
    (row,) = arrange(lambda db: db.fetch(HASHES))
    assert PasswordHasher().verify(row["password_hash"], "another one")
    given(b"another one")
    unknown = darkroom("operators", "add", "eve", "--role", "viewer", "--password-stdin", "--replace")
    assert (unknown.code, "there is no operator eve" in unknown.err) == (1, True)


@pytest.mark.parametrize(
    ("name", "password", "words"),
    [
        ("ada", b"1234567\n", "the password has 7 characters; give 8 to 1,024"),
        ("ada", b"x" * 1_025, "the password has 1,025 characters"),
        ("ada", b"x" * 9_000, "more than 8,192 bytes"),
        ("ada", b"\xff" * 8, "not UTF-8"),
        ("", b"12345678", "is no name"),
        ("a b", b"12345678", "is no name"),
        ("a\u200bb", b"12345678", "is no name"),
        ("a\x1b[2J", b"12345678", "is no name"),
        ("x" * 65, b"12345678", "is no name"),
    ],
)
def test_what_is_no_name_or_password_is_refused(
    darkroom: Darkroom, arrange: Arrange, given, name: str, password: bytes, words: str
) -> None:
    given(password)
    ran = darkroom("operators", "add", "--role", "viewer", "--password-stdin", "--", name)

    assert (ran.code in {1, 2}, words in ran.err) == (True, True), ran.err
    assert "\x1b" not in ran.err
    assert arrange(lambda db: db.fetch(HASHES)) == []


def test_password_is_asked_for_twice_on_a_terminal_and_never_elsewhere(
    darkroom: Darkroom, arrange: Arrange, monkeypatch: pytest.MonkeyPatch, given
) -> None:
    given(b"")
    assert "--password-stdin" in darkroom("operators", "add", "ada", "--role", "viewer").err
    typed = iter(["12345678", "12345679", "12345678", "12345678"])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda _prompt: next(typed))

    differing, alike = (darkroom("operators", "add", "ada", "--role", "viewer") for _ in range(2))

    assert (differing.code, "the two passwords differ" in differing.err) == (2, True)
    assert (alike.code, len(arrange(lambda db: db.fetch(HASHES)))) == (0, 1)


def test_unknown_operator_or_role_gets_a_suggestion(darkroom: Darkroom, given) -> None:
    given(b"12345678")
    darkroom("operators", "add", "adelaide", "--role", "viewer", "--password-stdin")

    removed = darkroom("operators", "remove", "adelaid")
    role = darkroom("operators", "add", "eve", "--role", "admin", "--password-stdin")

    assert (removed.code, "did you mean adelaide?" in removed.err) == (1, True)
    assert (role.code, "viewer" in role.err) == (2, True)


@pytest.mark.usefixtures("darkroom")
def test_commands_import_nothing_of_the_dashboard() -> None:
    for arguments in (("operators", "list"), ("jobs", "list"), ("dashboard", "--help"), ("up", "--help")):
        assert imported(("starlette", "uvicorn", "jinja2", "argon2", "itsdangerous"), *arguments)[1] in {"", None}
