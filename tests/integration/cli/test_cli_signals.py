"""Commands that end on Ctrl-C and SIGTERM, sent to real processes."""

import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest

from tests.support.builders import make_job
from tests.support.calling import Arrange, Darkroom

PROGRAM = Path(sys.executable).with_name("darkroom")
OLDER = """UPDATE public.image_enhancement_jobs SET "createdAt" = "createdAt" - interval '1 min'"""
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def errors(tmp_path: Path) -> Path:
    """What the program says on stderr: a file, because a pipe that nobody reads would stop a talkative one."""
    return tmp_path / "stderr"


@pytest.fixture
def start(darkroom: Darkroom, errors: Path) -> Iterator[Start]:
    """Start the program in a process of its own, with the environment of `darkroom`."""
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: str, ignored: Collection[signal.Signals] = ()) -> "subprocess.Popen[str]":
        def ignore() -> None:
            for number in ignored:
                signal.signal(number, signal.SIG_IGN)

        with errors.open("w") as stderr:
            process = subprocess.Popen(
                [PROGRAM, *arguments],
                text=True,
                stdout=subprocess.PIPE,
                stderr=stderr,
                preexec_fn=ignore,  # noqa: PLW1509 - tests start one process at a time
            )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=30)


@pytest.mark.parametrize(
    ("number", "code", "ignored"),
    [(signal.SIGINT, 130, ()), (signal.SIGTERM, 143, (signal.SIGINT, signal.SIGHUP)), (signal.SIGHUP, 129, ())],
)
def test_watching_is_left_cleanly(  # with SIGTERM also where a script or nohup has it ignore the others
    start: Start, arrange: Arrange, errors: Path, number: signal.Signals, code: int, ignored: tuple[signal.Signals, ...]
) -> None:
    job_id = arrange(make_job)
    arrange(lambda db: db.fetch(OLDER))
    process = start("jobs", "watch", ignored=ignored)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith(f"{job_id}  enhance TIER_1K  PENDING")
    assert line.endswith("no live worker takes from queue default; start `darkroom worker`\n")

    process.send_signal(number)
    process.communicate(timeout=20)

    assert (process.returncode, errors.read_text()) == (code, "")


def test_psql_is_ended_by_the_signal_that_its_command_is_told_to_end_by(start: Start) -> None:
    process = start("db", "psql", "--", "-XAt", "-c", "SELECT 1", "-c", "SELECT pg_sleep(60)")
    assert process.stdout is not None
    assert process.stdout.readline() == "1\n"

    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)

    assert process.returncode == 143


def test_up_says_ready_once_and_stops_with_code_0(start: Start, darkroom: Darkroom) -> None:
    process = start("up", "--processes", "1")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert len(darkroom("queue", "stats", "--json").json["workers"]) == 1

    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)

    assert (process.returncode, out) == (0, "")
    assert darkroom("queue", "stats", "--json").json["workers"] == []
