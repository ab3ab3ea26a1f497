"""Pages of the dashboard on a database that holds studio alone: its jobs, and nothing of pictures."""

import pytest

from models.applications.registry import job_tables
from tests.support.dashboard_app import shown
from tests.support.page_reader import read_page

FAILED = """
INSERT INTO darkroom.stage_runs (job_type, job_id, event, stage, error) VALUES ($1, 'a b', 'failed', 'GENERATING', 'no')
"""


@pytest.mark.parametrize(
    "path", ["/", "/queues", "/schedules", "/providers", "/settings", "/batches", "/actions", "/users", "/pipelines"]
)
async def test_page_is_shown(database, database_url, services, tmp_path, path):
    job_type = job_tables()[0].job_types[0]
    await database.fetch(FAILED, job_type)

    async with shown(database_url, services, storage_url=f"file://{tmp_path}") as client:
        answer = await client.get(path)

    page = read_page(answer.text)
    assert answer.status_code == 200
    if path == "/":
        assert page.get("group", "Tokens today").text.startswith("-")
        links = [one["href"] for one in page.get("table", "Failures by reason").find("link")]
        assert links == [f"/jobs/{links[0].split('/')[2]}"]
        assert links[0].endswith(":~YSBi") or links[0].endswith("/~YSBi")
    if path in {"/batches", "/users", "/pipelines"}:
        assert "isn't drained here" in page.get("main").text
    if path == "/queues":
        page.get("button", f"Pause {job_type}")


ENTRY = """
INSERT INTO darkroom.token_entries (application, user_id, amount, kind, job_id, balance_after)
VALUES ('studio', 'u1', -3, 'charge', 'j1', 17)
"""


async def test_user_of_studio_has_a_balance_and_a_ledger(database, database_url, services, tmp_path):
    await database.fetch(ENTRY)

    async with shown(database_url, services, storage_url=f"file://{tmp_path}") as client:
        answer = await client.get("/users?user=u1")
        assert (answer.status_code, answer.headers["location"]) == (303, "/users/studio:u1")
        for url in ("/users/studio:u1", "/users/u1"):
            page = read_page((await client.get(url)).text)
            assert page.find("heading")[0].text == "studio/u1"
            assert page.get("group", "Balance").text == "20 tokens"
            entry = next(row for row in page.get("table", "Ledger").rows() if row[1] == "charge")
            assert entry[1:5] == ["charge", "-3", "17", "j1"]
            assert not page.find("button", "Grant tokens")
        assert (await client.get("/users/studio:u1/grant")).status_code == 409
        assert (await client.post("/users/studio:u1/grant", data={"tokens": "5"})).status_code == 409
        for unknown in ("/users/nobody", "/users/studio:nobody", "/pipelines/x"):
            assert (await client.get(unknown)).status_code == 404
        assert (await client.get("/users?user=nobody")).status_code == 404
