"""The page Schedules: periodic tasks, their ticks, and runs by hand."""

import pytest

from tests.support import dashboard_app
from tests.support.page_reader import read_page

ACTIONS = "SELECT actor, action, target, reason FROM darkroom.operator_actions ORDER BY id"
FAILED = """
INSERT INTO darkroom.ticks (task, tick_at, status, error, failures, started_at, finished_at)
VALUES ('roll-up-jobs', now() - interval '1 hour', 'failed', $1, 5, now(), now())
"""
HOSTILE = "<img src=x onerror=alert(1)> {{7*7}} \u202e" + "x" * 9_000


@pytest.fixture
def shown(tmp_path):
    """A dashboard whose storage is a folder of the test's."""
    return lambda *arguments, **named: dashboard_app.shown(*arguments, storage_url=f"file://{tmp_path}", **named)


async def test_task_is_run_paused_and_resumed(shown, database, database_url, services):
    await database.fetch(FAILED, HOSTILE)

    async with shown(database_url, services) as client:
        before = (await client.get("/schedules")).text
        read_page((await client.get("/schedules/roll-up-jobs/run")).text).get("button", "Run roll-up-jobs")
        ran = await client.post("/schedules/roll-up-jobs/run", data={"reason": "to see"})
        after_run = read_page((await client.get("/schedules")).text)
        await client.post("/schedules/roll-up-jobs/pause", data={"reason": ""})
        paused = read_page((await client.get("/schedules")).text)
        await client.post("/schedules/roll-up-jobs/resume")
        resumed = read_page((await client.get("/schedules")).text)

    page = read_page(before)
    schedules = {row[0]: row for row in page.get("table", "Schedules").rows()}
    assert {"roll-up-jobs", "collect-orphans"} <= schedules.keys()
    assert schedules["roll-up-jobs"][9] == HOSTILE
    assert "<img" not in before
    ((task, _, status, *_, failures, _),) = page.get("table", "Ticks").rows()
    assert (task, status, failures) == ("roll-up-jobs", "failed", "5")
    assert ran.status_code == 303
    assert after_run.get("status").text.startswith("roll-up-jobs: ")
    assert [row[2] for row in after_run.get("table", "Ticks").rows()] == ["finished", "failed"]
    paused.get("button", "Resume roll-up-jobs")
    assert {row[0]: row[4] for row in paused.get("table", "Schedules").rows()}["roll-up-jobs"] == "paused"
    resumed.get("button", "Pause roll-up-jobs")
    resumed.get("button", "Run collect-orphans")
    assert [tuple(row) for row in await database.fetch(ACTIONS)] == [
        ("tester", "schedule_run", "roll-up-jobs", "to see"),
        ("tester", "schedule_pause", "roll-up-jobs", None),
        ("tester", "schedule_resume", "roll-up-jobs", None),
    ]


async def test_unknown_task_and_verb_are_not_found(shown, database_url, services):
    async with shown(database_url, services) as client:
        unknown = await client.post("/schedules/roll-up-job/run")
        verb = await client.get("/schedules/roll-up-jobs/burn")

    assert (unknown.status_code, verb.status_code) == (404, 404)
    assert "did you mean roll-up-jobs?" in read_page(unknown.text).get("alert").text


async def test_viewer_sees_schedules_and_no_action(shown, database_url, services):
    async with shown(database_url, services, role="viewer") as client:
        page = read_page((await client.get("/schedules")).text)

    assert page.get("table", "Schedules").rows()
    assert not [one for one in page.find("button") if one.name.startswith(("Run", "Pause", "Resume"))]
