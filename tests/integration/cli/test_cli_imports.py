"""Commands import as little as they need, because people and programs call many of them."""

import json
import os
import subprocess
import sys

import pytest

from tests.support.builders import make_job
from tests.support.calling import Arrange, Darkroom
from workers.cli.catalogue import COMMANDS
from workers.cli.lazy import Command, Group

HEAVY = (
    *("alembic", "sqlalchemy", "boto3", "botocore", "dramatiq", "redis", "pika"),
    *("PIL", "numpy", "cv2", "httpx", "structlog", "psutil", "cronsim"),
)
ANY_WORK = (*HEAVY, "asyncpg", "pydantic", "rich")


def imported(names: tuple[str, ...], *arguments: str) -> tuple[int, str]:
    """Run a command in a process of its own; return its exit code, and which of these packages it imported."""
    program = (
        "import sys; from workers.cli.app import main; code = main(sys.argv[1:]); "
        f"print(*[name for name in {names!r} if name in sys.modules], file=sys.stderr); sys.exit(code)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False, env=os.environ
    )
    return ran.returncode, ran.stderr.strip()


@pytest.mark.usefixtures("darkroom")
@pytest.mark.parametrize(
    "arguments",
    [
        ("jobs", "list"),
        ("jobs", "list", "--status", "failed", "--type", "enhance", "--json"),
        ("jobs", "show", "JOB"),
        ("jobs", "cancel", "JOB"),
        ("queue", "stats"),
        ("pipelines", "list"),
        ("tokens", "balance"),
        ("costs",),
    ],
    ids=" ".join,
)
def test_command_that_reads_rows_imports_nothing_for_pictures_migrations_or_brokers(
    arrange: Arrange, arguments: tuple[str, ...]
) -> None:
    job = arrange(make_job)

    assert imported(HEAVY, *(job if one == "JOB" else one for one in arguments)) == (0, "")


@pytest.mark.parametrize("arguments", [("--help",), ("jobs", "--help"), ("db", "-h")], ids=" ".join)
def test_help_of_a_group_imports_no_command(arguments: tuple[str, ...]) -> None:
    assert imported(ANY_WORK, *arguments) == (0, "")


def commands() -> list[tuple[str, Command]]:
    found = []
    for one in (one for ones in COMMANDS.values() for one in ones):
        if isinstance(one, Group):
            found += [(f"{one.name} {command.name}", command) for command in one.commands]
        else:
            found.append((one.name, one))
    return found


def imported_by_each(names: tuple[str, ...]) -> dict[str, list[str]]:
    """Import the modules of all commands in one process; return which of these packages each imported first."""
    program = (
        "import json, sys; from workers.cli.lazy import function_at; first = {}\n"
        "for name, place in json.loads(sys.argv[1]):\n"
        "    before = set(sys.modules); function_at(place)\n"
        f"    if new := [one for one in {names!r} if one in sys.modules and one not in before]: first[name] = new\n"
        "print(json.dumps(first))"
    )
    places = json.dumps([(name, entry.place) for name, entry in commands()])
    return json.loads(subprocess.check_output([sys.executable, "-c", program, places], text=True))


def test_help_of_a_command_imports_nothing_for_pictures_migrations_or_brokers() -> None:
    assert imported_by_each(HEAVY) == {}


@pytest.mark.parametrize(("name", "entry"), commands(), ids=[name for name, _ in commands()])
def test_catalogue_says_of_each_command_what_its_docstring_says(command: Darkroom, name: str, entry: Command) -> None:
    ran = command(*name.split(), "--help")

    assert ran.code == 0
    assert ran.out.startswith(f"Usage: darkroom {name} ")
    assert entry.summary in " ".join(ran.out.split())
    for example in entry.examples:
        assert f"darkroom {name}" in example
        assert example in ran.out


SEQUENCE = "SELECT setval(pg_get_serial_sequence('darkroom.job_queue', 'id'), 1, false)"


def test_command_that_makes_jobs_compares_everything_first(darkroom: Darkroom, arrange: Arrange) -> None:
    job = arrange(make_job)
    arrange(lambda db: db.fetch(SEQUENCE))

    listed, retried = darkroom("jobs", "list"), darkroom("jobs", "retry", job)

    assert (listed.code, retried.code) == (0, 2)
    assert "sequence darkroom.job_queue_id_seq would give" in retried.err
    assert darkroom("db", "upgrade").code == 0
    assert darkroom("jobs", "retry", job).code == 1  # it is PENDING
