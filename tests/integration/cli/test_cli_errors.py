"""Messages of errors: they name the host, what happened and what to do; no class, no library's text, no password."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.calling import Darkroom

PROGRAM = Path(sys.executable).with_name("darkroom")
NOT_OURS = re.compile(r"[A-Z]\w+(?:Error|Exception)\b|https?://|\[Errno|sqlalche|Background on|\bConnect call failed")


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that nobody listens on."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@pytest.mark.parametrize(
    "words", [("jobs", "list"), ("db", "upgrade"), ("db", "check"), ("jobs", "retry", "x")], ids=" ".join
)
def test_server_that_refuses_is_named_by_host_and_port(
    darkroom: Darkroom, closed_port: int, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql://x:very-secret@127.0.0.1:{closed_port}/x")

    ran = darkroom(*words)

    said = ran.err + ran.out
    assert ran.code == 1
    assert f"PostgreSQL at 127.0.0.1:{closed_port} refuses connections" in said
    assert not NOT_OURS.search(said)
    assert "very-secret" not in said


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://x:very-secret@no-such-host.invalid/x", "PostgreSQL at no-such-host.invalid:5432 isn't found"),
        ("postgresql://x@/x?host=/no/such/folder", "PostgreSQL at /no/such/folder:5432 has no socket there"),
    ],
)
def test_server_that_is_not_there_is_named(
    darkroom: Darkroom, monkeypatch: pytest.MonkeyPatch, url: str, said: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)

    ran = darkroom("jobs", "list")

    assert (ran.code, said in ran.err, "very-secret" in ran.err) == (1, True, False)
    assert not NOT_OURS.search(ran.err)


def test_database_that_is_not_there_is_a_usage_error(
    darkroom: Darkroom, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url.replace("command_line", "no_such_database"))

    ran = darkroom("jobs", "list")

    assert ran.code == 2
    assert 'database "no_such_database" does not exist' in ran.err
    assert not NOT_OURS.search(ran.err)


@pytest.mark.parametrize(
    "words", [("jobs", "list"), ("config",), ("doctor",), ("db", "check"), ("up",), ("status",)], ids=" ".join
)
def test_provider_that_is_not_there_is_refused_by_every_command(
    darkroom: Darkroom, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("PROVIDER", "local,gemnii")
    monkeypatch.setenv("LOG_FORMAT", "console")  # else `up` says it as an event

    ran = darkroom(*words)

    assert (ran.code, ran.out) == (2, "")
    said = "there is no provider gemnii (did you mean gemini?); known are gemini, local, openai"
    assert ran.err == f"darkroom: PROVIDER='local,gemnii': {said}\n"


def test_setting_that_is_like_none_gets_no_suggestion(command: Darkroom, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_FROBNICATE", "1")

    ran = command("config")

    assert (ran.code, ran.err) == (
        2,
        "darkroom: DARKROOM_FROBNICATE is not a setting; `darkroom config` lists them all\n",
    )


@pytest.mark.usefixtures("darkroom")
@pytest.mark.parametrize("buffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize(
    "arguments", [("jobs", "list"), ("jobs", "list", "--json"), ("--help",), ("config",)], ids=" ".join
)
def test_output_that_cannot_be_written_is_what_fails(arguments: tuple[str, ...], buffered: str) -> None:
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(
            [PROGRAM, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False,
            env=os.environ | {"PYTHONUNBUFFERED": buffered},
        )  # fmt: skip

    assert ran.returncode == 1
    assert ran.stderr == "darkroom: what was to be printed can't be written: No space left on device\n"


@pytest.mark.parametrize(
    "arguments",
    [("jobs", "show", "\udcff"), ("jobs", "list", "--error", "\udcff"), ("enhance", "b\udcff.jpg"), ("\udcff",)],
    ids=repr,
)
def test_argument_that_is_no_text_is_a_usage_error(command: Darkroom, arguments: tuple[str, ...]) -> None:
    ran = command(*arguments)

    assert ran.code == 2
    assert r"\xff" in ran.err
    assert "is not UTF-8 text" in ran.err


def test_closed_and_full_streams_change_no_exit_code(tmp_path: Path) -> None:
    environment = os.environ | {"DARKROOM_HOME": str(tmp_path)}

    def code(redirection: str, arguments: str) -> int:
        line = f"exec {PROGRAM} {arguments} {redirection}"
        return subprocess.run(["sh", "-c", line], env=environment, check=False).returncode

    assert [code(">&-", "--version"), code("<&- >&- 2>&-", "--version")] == [0, 0]
    assert [code("2>&-", "nosuch"), code("2>/dev/full", "nosuch")] == [2, 2]
