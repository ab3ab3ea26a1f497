"""Settings that differ from the recorded ones, and forbidden retention policies: told at a start and by `doctor`."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.builders import make_worker
from tests.support.calling import Arrange, Darkroom
from tests.support.patience import HANGS_AFTER_S

PROGRAM = Path(sys.executable).with_name("darkroom")
MONEY = '{"visits": {"column": "seen", "days": 1}}'
VISITS = """
CREATE TABLE public.visits (id text PRIMARY KEY, seen timestamptz);
ALTER TABLE public.users ADD COLUMN visit text REFERENCES public.visits ON DELETE CASCADE
"""
UNDONE = "ALTER TABLE public.users DROP COLUMN visit; DROP TABLE public.visits"


def finding(darkroom: Darkroom, name: str) -> tuple[int, str, str]:
    ran = darkroom("doctor", "--json")
    (check,) = [check for check in ran.json["checks"] if check["name"] == name]
    return ran.code, check["status"], check["message"]


def test_caps_that_are_not_recorded_as_set_are_told_by_doctor(
    darkroom: Darkroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DARKROOM_USER_CAPS", "FREE=2")

    assert finding(darkroom, "fair order") == (0, "warn", "DARKROOM_USER_CAPS=FREE=2, but none is recorded")


@pytest.mark.parametrize("command", [("scheduler",), ("worker", "--processes", "1")], ids=["scheduler", "worker"])
@pytest.mark.usefixtures("darkroom")
def test_weights_that_are_not_recorded_as_set_are_told_at_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("DARKROOM_WEIGHTS", "FREE=3")

    lines = until_ready(command, tmp_path)

    (told,) = [line for line in lines if "setting_differs" in line]
    assert "FREE=3,BASIC=2" in told
    assert "FREE=1,BASIC=2" in told


def test_caps_and_weights_are_recorded_by_commands(darkroom: Darkroom, monkeypatch: pytest.MonkeyPatch) -> None:
    assert darkroom("queue", "caps", "FREE=2,PREMIUM=9").code == 0
    assert darkroom("queue", "weights", "FREE=3", "--head-start", "10").code == 0
    monkeypatch.setenv("DARKROOM_USER_CAPS", "FREE=2,PREMIUM=9")

    assert finding(darkroom, "fair order")[1] == "ok"
    assert darkroom("queue", "caps", "--json").json == {
        "user_caps": {"FREE": 2, "PREMIUM": 9},
        "weights": {"FREE": 3, "BASIC": 2, "STANDARD": 4, "PREMIUM": 8},
        "priority_head_start": 10,
    }
    assert [line.split(":")[0] for line in darkroom("queue", "weights").out.splitlines()[:4]] == [
        *("FREE", "BASIC", "STANDARD", "PREMIUM")
    ]
    assert darkroom("queue", "caps", "PREMIUM=9,STANDARD=4,FREE=2").out == "FREE: 2\nSTANDARD: 4\nPREMIUM: 9\n"
    assert darkroom("queue", "caps", "none").out == "no caps\n"
    for nonsense in ("FREEE=1", "FREE=0", "FREE=1000001", "FREE=99999999999999999999", ""):
        assert darkroom("queue", "caps", nonsense).code == 2


def until_ready(command: tuple[str, ...], folder: Path) -> list[str]:
    """Start a process, wait until it works, stop it; return what it logged."""
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([PROGRAM, *command], text=True, stdout=subprocess.PIPE, stderr=log)
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", (folder / "log").read_text()
        finally:
            process.terminate()
            process.communicate(timeout=HANGS_AFTER_S)
    return (folder / "log").read_text().splitlines()


def test_live_worker_at_a_queue_that_no_job_enters_fails_doctor(darkroom: Darkroom, arrange: Arrange) -> None:
    arrange(make_worker)
    assert finding(darkroom, "queues of workers")[1] == "ok"

    arrange(lambda db: db.fetch("UPDATE darkroom.workers SET queues = '{default,slow}'"))

    code, status, message = finding(darkroom, "queues of workers")
    assert (code, status, "slow" in message) == (1, "fail", True)


@pytest.fixture
def tied_table(arrange: Arrange) -> Iterator[Callable[[], None]]:
    def execute(sql: str) -> None:
        for statement in sql.split(";"):
            arrange(lambda db, statement=statement: db.fetch(statement))

    execute(VISITS)
    yield
    execute(UNDONE)


@pytest.mark.usefixtures("tied_table")
def test_policy_that_reaches_users_stops_a_scheduler_at_its_start(
    darkroom: Darkroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DARKROOM_RETENTION", MONEY)

    ran = subprocess.run([PROGRAM, "scheduler"], text=True, capture_output=True, timeout=HANGS_AFTER_S, check=False)

    assert (ran.returncode, ran.stdout) == (1, "")
    assert "DARKROOM_RETENTION: retention of public.visits" in ran.stderr
    assert "users" in ran.stderr
    assert darkroom("schedule", "run", "prune-visits").code == 1
    code, status, message = finding(darkroom, "retention")
    assert (code, status, "public.visits" in message) == (1, "fail", True)


def test_policy_that_names_money_is_refused_by_every_command(
    darkroom: Darkroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DARKROOM_RETENTION", '{"token_purchases": {"column": "at", "days": 1}}')

    ran = darkroom("schedule", "list")

    assert (ran.code, "token_purchases must not be named" in ran.err) == (2, True)


def test_task_without_its_table_is_shown_and_harms_nothing(darkroom: Darkroom, arrange: Arrange) -> None:
    arrange(lambda db: db.fetch("ALTER TABLE public.sessions RENAME TO sessions_away"))
    try:
        rows = {row["name"]: row for row in darkroom("schedule", "list", "--json").json}
        ran = darkroom("schedule", "run", "prune-sessions")
        code, status, message = finding(darkroom, "tables of tasks")
    finally:
        arrange(lambda db: db.fetch("ALTER TABLE public.sessions_away RENAME TO sessions"))

    assert rows["prune-sessions"]["last_error"] == "passed over: public.sessions not there"
    assert ran.code == 0
    assert (code, status) == (0, "warn")
    assert message == "prune-sessions: passed over: public.sessions not there"


def test_shared_pipelines_that_are_not_recorded_as_set_are_told(
    darkroom: Darkroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DARKROOM_LINK_PIPELINES", "trust")

    assert finding(darkroom, "shared pipelines") == (
        0,
        "warn",
        "DARKROOM_LINK_PIPELINES=trust, but owner is recorded",
    )
