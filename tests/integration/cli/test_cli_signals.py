"""Commands that end on Ctrl-C and SIGTERM, sent to real processes."""

import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest

from models.database import Database
from tests.support.builders import make_job, make_user
from tests.support.calling import Arrange, Darkroom
from tests.support.fleet import eventually
from tests.support.patience import HANGS_AFTER_S

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
        process.communicate(timeout=HANGS_AFTER_S)


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
    process.communicate(timeout=HANGS_AFTER_S)

    assert (process.returncode, errors.read_text()) == (code, "")


# PostgreSQL learns only at the end of a query that its client is gone, and the query has a snapshot until then
END_SESSIONS_OF_PSQL = """SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'psql'"""


def test_psql_is_ended_by_the_signal_that_its_command_is_told_to_end_by(start: Start, arrange: Arrange) -> None:
    process = start("db", "psql", "--", "-XAt", "-c", "SELECT 1", "-c", "SELECT pg_sleep(60)")
    assert process.stdout is not None
    assert process.stdout.readline() == "1\n"

    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=HANGS_AFTER_S)
    arrange(lambda db: db.fetch(END_SESSIONS_OF_PSQL))

    assert process.returncode == 143


def test_up_says_ready_once_and_stops_with_code_0(start: Start, darkroom: Darkroom) -> None:
    process = start("up", "--processes", "1")
    assert process.stdout is not None
    assert process.stdout.readline().startswith("dashboard at http://127.0.0.1:")
    assert process.stdout.readline() == "ready\n"
    assert len(darkroom("queue", "stats", "--json").json["workers"]) == 1

    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=HANGS_AFTER_S)

    assert (process.returncode, out) == (0, "")
    assert darkroom("queue", "stats", "--json").json["workers"] == []


STANDS_STILL = """DO $$ BEGIN
    CREATE FUNCTION public.stand_still() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_sleep(60); RETURN new; END';
    CREATE TRIGGER stand_still BEFORE INSERT ON public.enhanced_images
        FOR EACH ROW WHEN (new.name = 'b.jpg') EXECUTE FUNCTION public.stand_still();
END $$"""
STANDING = """SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event = 'PgSleep' AND query LIKE '%enhanced_images%'"""


def test_enhance_that_is_left_while_it_submits_names_what_is_charged_and_what_is_not(
    start: Start, arrange: Arrange, errors: Path, picture: Path, tmp_path: Path
) -> None:
    paths = [tmp_path / name for name in ("a.jpg", "b.jpg", "c.jpg")]
    for path in paths:
        path.write_bytes(picture.read_bytes())
    user_id = arrange(make_user)

    async def stands(database: Database) -> None:
        await eventually(lambda: database.fetchval(STANDING))

    arrange(lambda db: db.fetch(STANDS_STILL))
    try:
        process = start("enhance", *map(str, paths), "--user", user_id, "--no-wait")
        arrange(stands)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=HANGS_AFTER_S)
    finally:
        arrange(lambda db: db.fetch("DROP FUNCTION public.stand_still CASCADE"))

    said = errors.read_text()
    (job,) = arrange(lambda db: db.fetch("SELECT id FROM public.image_enhancement_jobs"))
    assert process.returncode == 130
    assert f"`darkroom jobs save {job['id']} --out DIR`" in said
    assert said.endswith("not submitted, and not charged: 2 pictures: b.jpg, c.jpg\n")
