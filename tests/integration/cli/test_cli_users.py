"""`darkroom users`, `db url` and `db psql`."""

import subprocess
from pathlib import Path

import pytest

from tests.support.builders import balance_of, make_job, make_user, money_violations
from tests.support.calling import Arrange, Darkroom

HASHED = """UPDATE public.users SET "passwordHash" = 'very-secret-hash'"""


def test_user_that_is_created_can_submit_and_the_money_agrees(darkroom: Darkroom, arrange: Arrange) -> None:
    ran = darkroom("users", "create", "ada@example.com", "--name", "Ada", "--tokens", "20", "--json")
    made = ran.json
    arrange(lambda db: make_job(db, user_id=made["id"], tier="TIER_2K"))

    shown = darkroom("users", "show", "ada@example.com", "--json").json
    listed = darkroom("users", "list", "--json").json

    assert (ran.code, made["email"], made["name"], made["balance"]) == (0, "ada@example.com", "Ada", 20)
    assert (shown["balance"], shown["jobs"]) == (15, {"PENDING": 1})
    assert [one["id"] for one in listed] == [made["id"]]
    assert arrange(lambda db: balance_of(db, made["id"])) == 15
    assert arrange(money_violations) == []
    (action,) = arrange(lambda db: db.fetch("SELECT * FROM darkroom.operator_actions"))
    assert (action["action"], action["target"]) == ("user_create", made["id"])


def test_users_are_shown_without_what_is_secret(darkroom: Darkroom, arrange: Arrange) -> None:
    user = arrange(make_user)
    arrange(lambda db: db.fetch(HASHED))

    ran = [darkroom("users", *words) for words in (("show", user), ("show", user[:8], "--json"), ("list",))]

    assert [one.code for one in ran] == [0, 0, 0]
    assert "very-secret" not in "".join(one.out for one in ran)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("ada@example.com",), "there is a user ada@example.com already"),
        (("ada",), "'ada' is no e-mail address"),
        (("a b@example.com",), "is no e-mail address"),
        (("eve@example.com", "--tokens", "-1"), "give a whole number from 0"),
        (("eve@example.com", "--tokens", "9999999999"), "give a whole number from 0"),
    ],
)
def test_user_that_cannot_be_made_is_refused_in_words(
    darkroom: Darkroom, arrange: Arrange, words: tuple[str, ...], said: str
) -> None:
    darkroom("users", "create", "ada@example.com")

    ran = darkroom("users", "create", *words)

    assert (ran.code, said in ran.err) == (1, True)
    assert len(darkroom("users", "list", "--json").json) == 1


def test_tokens_of_a_new_user_are_the_applications_own_in_other_modes(darkroom: Darkroom, arrange: Arrange) -> None:
    arrange(lambda db: db.fetch("UPDATE darkroom.settings SET value = '\"producer\"' WHERE key = 'mode'"))

    with_tokens, without = (darkroom("users", "create", "ada@example.com", *more) for more in (("--tokens", "5"), ()))

    assert (with_tokens.code, without.code) == (1, 0)
    assert "in mode producer" in with_tokens.err


@pytest.mark.parametrize(
    ("change", "undo"),
    [
        ("ADD COLUMN tenant text NOT NULL DEFAULT NULL", "DROP COLUMN tenant"),
        ('ADD CONSTRAINT strict CHECK ("emailVerified" IS NOT NULL) NOT VALID', "DROP CONSTRAINT strict"),
    ],
)
def test_users_of_an_application_that_asks_for_more_are_left_to_it(
    darkroom: Darkroom, arrange: Arrange, change: str, undo: str
) -> None:
    arrange(lambda db: db.fetch(f"ALTER TABLE public.users {change}"))
    try:
        ran = darkroom("users", "create", "ada@example.com")
    finally:
        arrange(lambda db: db.fetch(f"ALTER TABLE public.users {undo}"))

    assert ran.code == 1
    assert "let the application make them" in ran.err


def test_url_is_one_that_psql_takes_and_psql_opens_it(
    darkroom: Darkroom, database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"{database_url}&schema=public&connection_limit=5")

    url = darkroom("db", "url").out.strip()
    ran = subprocess.run(["psql", url, "-XAtc", "SELECT 1"], capture_output=True, text=True, check=False)
    opened = darkroom("db", "psql", "--", "-XAt", "-o", str(tmp_path / "out"), "-c", "SELECT current_database()")
    refused = darkroom("db", "psql", "--", "-XAtc", "SELEC")

    assert (ran.stdout, ran.returncode) == ("1\n", 0)
    assert (opened.code, refused.code) == (0, 1)
    assert (tmp_path / "out").read_text() == "command_line\n"


def test_password_is_in_the_url_and_on_no_command_line(
    darkroom: Darkroom, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "psql"
    program.write_text(f'#!/bin/sh\necho "$PGPASSWORD $@" >{tmp_path}/given\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("DATABASE_URL", "postgres://ada:s%2Fcret@db.example:6543/shop?sslmode=require")

    url = darkroom("db", "url").out
    assert darkroom("db", "psql", "--", "-l").code == 0

    assert url == "postgresql://ada:s%2Fcret@db.example:6543/shop?sslmode=require\n"
    assert (tmp_path / "given").read_text() == "s/cret postgresql://ada@db.example:6543/shop?sslmode=require -l\n"


def test_url_of_embedded_services_that_do_not_run_says_what_starts_them(command: Darkroom) -> None:
    ran = command("db", "url")

    assert (ran.code, ran.out) == (1, "")
    assert "isn't running; `darkroom up` starts it" in ran.err


def test_machine_without_psql_is_told_what_to_do(darkroom: Darkroom, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.cli.connecting.shutil.which", lambda _: None)
    monkeypatch.setattr("workers.services.postgres.importlib.util.find_spec", lambda _: None)

    ran = darkroom("db", "psql")

    assert (ran.code, ran.out) == (1, "")
    assert "there is no psql on this machine" in ran.err
