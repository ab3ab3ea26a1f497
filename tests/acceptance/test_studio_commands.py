"""Commands on a database that has only studio's tables: what they show and do, and which say that they can't."""

import asyncio
import json

import asyncpg
import pytest

from tests.integration.cli import conftest as command_line
from tests.support.fleet import eventually
from tests.support.program import darkroom as program
from tests.support.studio_fleet import ForkedStudioWorkers, Producer, studio

__all__ = ["command", "logging_restored", "plain_environment", "studio"]

command = command_line.command
logging_restored = command_line.logging_restored
plain_environment = command_line.plain_environment


@pytest.fixture(scope="module")
def jobs(studio):
    """The ids of a completed, a failed, a cancelled and a waiting generation of one user, and the user's."""
    studio.start(1, kind=ForkedStudioWorkers)

    async def make(producer):
        user = await producer.user()
        made = {
            "completed": await producer.order(user, count=2),
            "failed": await producer.order(user, says="[1:refused]"),
            "cancelled": await producer.order(user, status="uploading"),
            "uploading": await producer.order(user, status="uploading"),
        }
        await producer.set(made["cancelled"], status="cancelled")
        for name in ("completed", "failed"):
            assert (await producer.ended(made[name]))["status"] == name
        return {**made, "user": user}

    return with_producer(studio, make)


def with_producer(studio, work):
    """Let a producer of studio's work on a connection of its own."""

    async def run():
        connection = await asyncpg.connect(studio.url)
        try:
            return await work(Producer(studio, connection))
        finally:
            await connection.close()

    return asyncio.run(run())


@pytest.fixture
def darkroom(command, studio, monkeypatch):
    """Run `darkroom` on the database."""
    for name, value in {
        "DATABASE_URL": studio.url,
        "REDIS_URL": studio.services.redis_url,
        "STORAGE_URL": studio.services.storage_url,
        "PROVIDER": "local",
    }.items():
        monkeypatch.setenv(name, value)
    return command


def test_jobs_are_listed_shown_and_explained(darkroom, jobs):
    listed = darkroom("jobs", "list", "--json")
    assert listed.code == 0, listed.err
    assert {row["_id"]: row["status"] for row in listed.json} == {
        jobs[name]: name for name in ("completed", "failed", "cancelled", "uploading")
    }
    for arguments in (
        ("--status", "failed"),
        ("--user", jobs["user"], "--status", "failed"),
        ("--type", "studio.generate", "--error", "refused"),
    ):
        ran = darkroom("jobs", "list", *arguments, "--json")
        assert (ran.code, [row["_id"] for row in ran.json]) == (0, [jobs["failed"]]), ran.err
    for name in ("completed", "failed", "cancelled", "uploading"):
        shown = darkroom("jobs", "show", jobs[name])
        assert (shown.code, jobs[name] in shown.out) == (0, True), shown.err
        explained = darkroom("jobs", "explain", jobs[name][:-1])
        assert (explained.code, jobs[name] in explained.out) == (0, True), explained.err
    shown = darkroom("jobs", "show", jobs["completed"], "--json").json
    assert [(one["kind"], one["amount"]) for one in shown["money"]] == [("charge", 4)]
    assert [one["outcome"] for one in shown["providerCalls"]] == ["answered", "answered"]
    assert len(shown["resultImageFiles"]) == 2
    assert "its producer hasn't let it go yet" in darkroom("jobs", "explain", jobs["uploading"]).out
    assert "refused" in darkroom("jobs", "explain", jobs["failed"]).out


COMMANDS = [
    "status",
    "doctor",
    "doctor --all",
    "queue stats",
    "queue stats --json",
    "db check",
    "application show",
    "application sql --table generations",
    "tokens audit",
    "costs",
    "costs --by job",
    "costs --open",
    "schedule list",
    "config",
]


@pytest.mark.parametrize("line", COMMANDS)
def test_command_works_without_the_tables_of_pictures(darkroom, jobs, line):
    ran = darkroom(*line.split())

    assert (ran.code, ran.err.replace("darkroom: ", "")) == (0, ran.err), ran.out + ran.err


OF_ANY_APPLICATION = ("audit-ledger", "collect-orphans", "roll-up-jobs")


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.proof)])
def test_periodic_tasks_run_by_hand(darkroom, jobs, every):
    names = [row["name"] for row in darkroom("schedule", "list", "--json").json]
    assert {*OF_ANY_APPLICATION} <= {*names}
    assert not {"regenerate-tokens", "renew-subscriptions", "expire-vouchers"} & {*names}

    ran = {name: darkroom("schedule", "run", name, "--json") for name in (names if every else OF_ANY_APPLICATION)}

    assert {name: (one.code, one.err) for name, one in ran.items()} == dict.fromkeys(ran, (0, ""))


def test_scheduler_runs_every_periodic_task_without_an_error(darkroom, jobs, studio, tmp_path):
    names = [row["name"] for row in darkroom("schedule", "list", "--json").json]
    environment = {
        "DATABASE_URL": studio.url,
        "REDIS_URL": studio.services.redis_url,
        "STORAGE_URL": studio.services.storage_url,
        "DARKROOM_SCHEDULES": json.dumps(dict.fromkeys(names, "PT1S")),
        "LOG_LEVEL": "warning",
    }

    async def all_are_finished(producer):
        async def are_finished():
            rows = await producer.fetch("SELECT DISTINCT task FROM darkroom.ticks WHERE status = 'finished'")
            return {row["task"] for row in rows} >= {*names}

        await eventually(are_finished, "a tick of each task")
        return await producer.fetchval("SELECT count(*) FROM darkroom.ticks WHERE status = 'failed' OR error <> ''")

    with program("scheduler", environment=environment, folder=tmp_path) as running:
        running.says("\nready")
        assert with_producer(studio, all_are_finished) == 0, running.said
        running.process.terminate()
        assert running.ends() == 0
    assert [line for line in running.said.splitlines() if '"error"' in line] == []


@pytest.mark.parametrize(
    "line",
    [
        *("users list", "users show u1", "users create a@example.org"),
        *("tokens balance", "tokens balance u1", "tokens grant u1 5", "tokens history u1", "batches list"),
        *("pipelines list", "pipelines show x", "enhance PICTURE --user u1", "generate shirt --user u1"),
        "modify PICTURE darker --user u1",
    ],
)
def test_command_about_pictures_is_refused_in_plain_words(darkroom, studio, line):
    picture = studio.folder / "objects" / "uploads" / "u1" / "shirt.png"

    ran = darkroom(*(str(picture) if word == "PICTURE" else word for word in line.split()))

    assert (ran.code, ran.out) == (2, "")
    assert "this command is about the application pictures, and this database is for studio" in ran.err


def test_retry_submits_a_generation_once_more_and_charges_it(darkroom, studio, jobs):
    for name in ("failed", "cancelled"):
        ran = darkroom("jobs", "retry", jobs[name], "--dry-run", "--json")
        assert (ran.code, [one["refusal"] for one in ran.json]) == (0, [None]), ran.err

    ran = darkroom("jobs", "retry", jobs["completed"], "--redo", "--json")
    assert ran.code == 0, ran.err
    (new,) = ran.json

    async def look(producer):
        old, again = await producer.row(jobs["completed"]), await producer.ended(new["_id"])
        assert await producer.violations() == []
        return old, again, await producer.usage(new["_id"])

    old, again, usage = with_producer(studio, look)
    assert again["status"] == "completed", again["error"]
    same = ("userId", "parameters", "productImageFiles", "modelImageFiles", "prompt", "tokensUsed")
    assert {name: again[name] for name in same} == {name: old[name] for name in same}
    assert [action for action, _ in usage] == ["generation_started", "generation_completed"]


def test_cancel_ends_a_held_generation_and_pays_it_back(darkroom, studio, jobs):
    ran = darkroom("jobs", "cancel", jobs["uploading"], "--reason", "asked by the user")

    assert ran.code == 0, ran.err

    async def look(producer):
        assert await producer.violations() == []
        return (await producer.row(jobs["uploading"]))["status"], (await producer.usage(jobs["uploading"]))[1][0]

    assert with_producer(studio, look) == ("cancelled", "generation_cancelled")
    assert json.loads(darkroom("tokens", "audit", "--json").out)["violations"] == []
