"""Small parts of the command line: durations, cells, names of files, exit codes, the time of --help."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import asyncpg
import pytest

from config.settings import SettingsError
from models.schema.migrations.errors import DatabaseBusyError, ModeRequiredError
from workers.cli.app import main
from workers.cli.failures import CommandUsageError
from workers.cli.leaving import signals_heard
from workers.cli.opening import run_async
from workers.cli.output import cell
from workers.cli.parameters import coming_time, moment
from workers.cli.reporting import explain
from workers.cli.results import require_writable, write_new
from workers.operations.errors import NotFoundError
from workers.presentation.values import duration

PROGRAM = Path(sys.executable).with_name("darkroom")
HEAVY = ("asyncpg", "cv2", "numpy", "sqlalchemy", "dramatiq", "PIL", "pydantic")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7800, "2 h 10 min"),
    ],
)
def test_duration_reads_as_people_write_it(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("text", "span"), [("90s", 90), ("5m", 300), ("5min", 300), ("2h", 7200), ("1d", 86400)])
def test_time_is_given_by_the_same_units_from_now_on_and_ago(text: str, span: int) -> None:
    before = datetime.now(UTC)
    ago = moment(text)

    assert before - ago <= timedelta(seconds=span) <= datetime.now(UTC) - ago
    assert coming_time(f"+{text}") == timedelta(seconds=span)


def test_cell_shows_another_programs_markup_and_escapes_as_text() -> None:
    assert cell("[red]x[/red]").plain == "[red]x[/red]"
    assert "\x07" not in cell("bell\x07").plain


def test_cell_takes_naive_timestamps_for_utc() -> None:
    assert cell(datetime(2026, 1, 2, 3, 4)).plain == cell(datetime(2026, 1, 2, 3, 4, tzinfo=UTC)).plain  # noqa: DTZ001


def test_write_new_never_replaces_a_file(tmp_path: Path) -> None:
    names = [write_new(tmp_path / "new", "a.b", bytes([number])).name for number in range(3)]

    assert names == ["a.b.jpg", "a.b-2.jpg", "a.b-3.jpg"]
    assert (tmp_path / "new" / "a.b.jpg").read_bytes() == b"\0"


def test_folder_that_takes_names_and_no_bytes_is_refused(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))  # as a disk that is full
    try:
        with pytest.raises(CommandUsageError, match="can't be written to: File too large"):
            require_writable(tmp_path / "new")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CommandUsageError("so"), 2),
        (NotFoundError("so"), 1),
        (SettingsError("so"), 2),
        (ModeRequiredError(), 2),
        (DatabaseBusyError(6), 1),
        (asyncpg.DeadlockDetectedError("so"), 1),
        (asyncpg.InvalidPasswordError("so"), 2),
        (ConnectionRefusedError(111, "so"), 1),
        (PermissionError(13, "so", "/x"), 1),
        (KeyError("so"), 1),
    ],
)
def test_every_error_has_an_exit_code_and_a_line(error: Exception, code: int) -> None:
    found, line = explain(error)

    assert found == code
    assert line
    assert "\n" not in line


def test_unknown_error_points_to_the_traceback() -> None:
    assert explain(KeyError("x"))[1] == (
        "something went wrong that shouldn't: 'x'; run it again with --debug, and report what it shows"
    )


@pytest.mark.parametrize("arguments", [["frob"], ["jobs"], ["jobs", "show"], ["jobs", "list", "--limit", "0"], ["--x"]])
def test_wrong_usage_is_one_line_with_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2

    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert "--help`" in captured.err


@pytest.mark.parametrize("arguments", [["--help"], ["jobs", "--help"], ["db", "upgrade", "-h"]])
def test_help_is_printed_with_code_0(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    assert "Usage: " in capsys.readouterr().out


def test_version_is_the_distributions(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"darkroom {version('darkroom')}\n"


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("jo", ["jobs"]),
        ("jobs l", ["list"]),
        ("jobs list --sta", ["--status", "--stage"]),
        ("pi", ["pipelines"]),
        ("jobs frob", []),
    ],
)
def test_shell_is_told_commands_and_options(typed: str, found: list[str]) -> None:
    words = f"darkroom {typed}"
    asking = {"_DARKROOM_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}

    ran = subprocess.run([PROGRAM], capture_output=True, text=True, check=False, env=os.environ | asking)

    assert ran.stdout.split() == found


def test_script_for_a_shell_asks_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    assert "_DARKROOM_COMPLETE=complete_bash" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["jobs", "lst"], "there is no command 'lst'; did you mean 'list'?; see"),
        (["job"], "there is no command 'job'; did you mean 'jobs'?; see"),
        (["frob"], "there is no command 'frob'; see"),
    ],
)
def test_command_that_is_not_there_is_suggested_only_when_near(
    typed: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(typed) == 2
    assert capsys.readouterr().err.startswith(f"darkroom: {said} `")


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from workers.cli.app import main; main(['--help']); "
        f"print(*[name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )

    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert ran.stderr.strip() == ""


def test_interrupt_that_a_destructor_swallows_comes_again() -> None:
    class Swallowing:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt), signals_heard() as came:  # noqa: PT012 - what raises is the time that passes
        Swallowing()
        time.sleep(20)

    assert came == [signal.SIGTERM] * 2


def test_signal_ends_a_coroutine_in_order_where_interrupts_are_ignored() -> None:
    ended = []

    async def work() -> None:
        signal.raise_signal(signal.SIGTERM)
        try:
            await asyncio.sleep(20)
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with signals_heard(), pytest.raises(KeyboardInterrupt):
            run_async(work())
    finally:
        signal.signal(signal.SIGINT, before)

    assert ended == [True]
