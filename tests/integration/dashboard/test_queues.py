"""The page Queues: what waits in each, who works on it, and what is paused."""

from tests.support.builders import make_job, make_worker
from tests.support.dashboard_app import shown
from tests.support.page_reader import read_page

ACTIONS = "SELECT actor, action, target, reason FROM darkroom.operator_actions ORDER BY id"
HOSTILE = "<img src=x onerror=alert(1)> {{7*7}}"


async def page_of(client):
    answer = await client.get("/queues")
    assert answer.status_code == 200
    assert "<img" not in answer.text
    return read_page(answer.text)


async def test_every_queue_that_a_worker_serves_is_listed_also_when_it_is_empty(database, database_url, services):
    await make_worker(database, queues=["default", "gpu"])
    await make_worker(database, queues=["late"], lease_s=-60)
    await make_job(database)

    async with shown(database_url, services) as client:
        page = await page_of(client)

    rows = page.get("table", "Queues").rows()
    assert [row[0] for row in rows] == ["default", "gpu"]
    assert (rows[0][2], rows[1][2], rows[1][9]) == ("1", "0", "4")
    assert [row[:4] for row in page.get("table", "Workers").rows()] == [["here", "1", "default, gpu", "0 of 4"]]
    assert page.get("table", "Pauses").text.endswith("nothing is paused")
    for name in ("default", "gpu", "enhance", "generate", "TIER_1K", "FREE", "gemini", "local"):
        page.get("button", f"Pause {name}")
    assert not [one for one in page.find("button") if one.name.startswith("Resume")]


async def test_default_queue_can_be_paused_where_nothing_runs(database, database_url, services):
    async with shown(database_url, services) as client:
        page = await page_of(client)

    assert page.get("table", "Queues").rows()[0][:3] == ["default", "Pause default", "-"]
    page.get("button", "Pause default")


async def test_pause_and_resume_of_each_kind(database, database_url, services):
    await make_job(database)
    scopes = [("queue", "default"), ("type", "enhance"), ("tier", "TIER_1K"), ("provider", "gemini")]

    async with shown(database_url, services) as client:
        for kind, name in scopes:
            path = f"/queues/{kind}/{name}/pause"
            form = read_page((await client.get(path)).text)
            form.get("textbox", "Reason")
            form.get("button", f"Pause {name}")
            answer = await client.post(path, data={"reason": HOSTILE})
            assert (answer.status_code, answer.headers["location"]) == (303, "/queues")
        paused = await page_of(client)
        for kind, name in scopes:
            await client.post(f"/queues/{kind}/{name}/resume")
        resumed = await page_of(client)

    rows = {row[0]: row for row in paused.get("table", "Pauses").rows()}
    assert rows.keys() == {"queue default", "type enhance", "tier TIER_1K", "provider gemini"}
    assert [rows["queue default"][1], rows["provider gemini"][1], rows["tier TIER_1K"][1]] == ["1", "-", "1"]
    assert rows["queue default"][3:] == ["tester", HOSTILE]
    assert paused.get("status").text == "provider gemini: paused"
    for _, name in scopes:
        paused.get("button", f"Resume {name}")
        resumed.get("button", f"Pause {name}")
    done = [tuple(row) for row in await database.fetch(ACTIONS)]
    assert done[:4] == [("tester", "queue_pause", f"{kind}:{name}", HOSTILE) for kind, name in scopes]
    assert [row[1] for row in done[4:]] == ["queue_resume"] * 4


async def test_what_does_not_exist_is_refused(database, database_url, services):
    async with shown(database_url, services) as client:
        for path in ("queue/x/pause", "tier/x/pause", "provider/x/resume"):
            answer = await client.post(f"/queues/{path}")
            assert answer.status_code == 404
            assert "there is no " in read_page(answer.text).get("alert").text
        for path in ("house/default/pause", "queue/default/burn", "queue/~~/pause"):
            assert (await client.get(f"/queues/{path}")).status_code == 404

    assert await database.fetch(ACTIONS) == []


async def test_viewer_is_offered_no_pause(database_url, services):
    async with shown(database_url, services, role="viewer") as client:
        page = await page_of(client)

    assert not [one for one in page.find("button") if one.name.startswith(("Pause", "Resume"))]
