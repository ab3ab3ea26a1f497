"""`darkroom` without arguments: the installation's state in ten lines, and useful commands."""

from pathlib import Path

import pytest

from tests.support.builders import claim_jobs, make_job, make_worker, set_status
from tests.support.calling import Arrange, Darkroom


def test_program_alone_shows_what_waits_who_works_and_what_ended(darkroom: Darkroom, arrange: Arrange) -> None:
    worker = arrange(make_worker)
    for _ in range(3):
        arrange(make_job)
    arrange(lambda db: claim_jobs(db, worker, most=1))
    done = arrange(make_job)
    arrange(lambda db: set_status(db, done, "CANCELLED"))
    assert darkroom("queue", "pause", "--tier", "4k").code == 0

    ran = darkroom()

    shown = dict(line.split(maxsplit=1) for line in ran.out.splitlines() if not line.startswith(" "))
    assert (ran.code, len(ran.out.splitlines()) <= 10) == (0, True)
    assert shown["workers"].endswith("lanes busy")
    assert shown["queue"].startswith("2 pending, the oldest for ")
    assert "1 processing" in shown["queue"]
    assert shown["last"] == "day  1 CANCELLED"
    assert shown["paused"] == "tier:TIER_4K"
    assert "darkroom jobs list" in ran.out
    assert darkroom("status").out.splitlines()[0] == ran.out.splitlines()[0]


def test_program_alone_names_the_database_without_its_password(
    darkroom: Darkroom, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url.replace("darkroom@", "darkroom:very-secret@", 1))

    ran = darkroom()

    assert (ran.code, "very-secret" in ran.out) == (0, False)
    assert "command_line" in ran.out


def test_program_alone_starts_nothing(command: Darkroom, tmp_path: Path) -> None:
    ran = command()

    assert ran.code == 0
    assert "nothing yet" in ran.out
    assert "darkroom demo" in ran.out
    assert not (tmp_path / "home").exists()
