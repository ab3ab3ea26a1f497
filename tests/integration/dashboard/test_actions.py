"""The page Actions: what operators did, the newest first, a page at a time."""

from functools import partial

from tests.support.dashboard_app import shown
from tests.support.page_reader import read_page
from tests.support.statement_costs import cost_of
from workers.operations.action_lists import PAGE_ACTIONS, actions_page

HOSTILE = "<img src=x onerror=alert(1)> {{7*7}} \x01\u202e" + "y" * 10_000
INSERT = """
INSERT INTO darkroom.operator_actions (at, actor, action, target, reason)
VALUES (now() - make_interval(secs => $1), $2, $3, $4, $5)
"""
MANY = """
INSERT INTO darkroom.operator_actions (at, actor, action, target, after)
SELECT now() - make_interval(secs => n % 100), 'ada', 'job_cancel', 'j' || n,
       jsonb_build_object('text', repeat('x', 300))
FROM generate_series(1, 20000) n
"""


async def page_of(client, url="/actions"):
    answer = await client.get(url)
    assert answer.status_code == 200
    return read_page(answer.text)


async def test_actions_are_listed_by_their_time_and_every_text_is_text(database, database_url, services):
    await database.fetch(INSERT, 20, "ada", "job_cancel", "j 1", None)
    await database.fetch(INSERT, 10, HOSTILE, HOSTILE, HOSTILE, HOSTILE)
    await database.fetch(INSERT, 30, "grace", "tokens_grant", "u1", "a gift")

    for role in ("operator", "viewer"):
        async with shown(database_url, services, role=role) as client:
            answer = await client.get("/actions")
        assert "<img" not in answer.text
        page = read_page(answer.text)
        rows = page.get("table", "Actions").rows()
        assert [row[1:] for row in rows] == [
            [" ".join(HOSTILE.split())] * 4,
            ["ada", "job_cancel", "j 1", "-"],
            ["grace", "tokens_grant", "u1", "a gift"],
        ]
        links = {one.text: one["href"] for one in page.get("table", "Actions").find("link")}
        assert links == {"j 1": "/jobs/~aiAx", "u1": "/users/u1"}
        headers = [one.text for one in page.get("table", "Actions").find("columnheader")]
        assert headers == ["Time", "Actor", "Action", "Target", "Reason"]
        assert not page.find("link", "Next page")


async def test_pages_go_on_behind_each_other_and_read_few_rows(database, database_url, services):
    await database.fetch(MANY)
    await database.fetch("ANALYZE darkroom.operator_actions")

    seen = []
    async with shown(database_url, services) as client:
        page = await page_of(client)
        assert page.get("link", "First page")["href"] == "/actions"
        for _ in range(4):
            seen += [row[3] for row in page.get("table", "Actions").rows()]
            page = await page_of(client, page.get("link", "Next page")["href"])
        for wrong in ("x", "W10", "WyJ4IiwxXQ", "WyIwMDAxLTAxLTAxVDAwOjAwOjAwKzIzOjAwIiwxXQ", "W251bGwsdHJ1ZV0"):
            assert (await client.get(f"/actions?cursor={wrong}")).status_code == 422
    expected = await database.fetch("SELECT target FROM darkroom.operator_actions ORDER BY at DESC, id DESC LIMIT 400")
    assert seen == [row[0] for row in expected]

    cursor = None
    for _ in range(3):
        found, cost = await cost_of(database, partial(actions_page, cursor=cursor))
        assert (len(found.actions), cost.statements, cost.most_rows_of_a_scan) == (PAGE_ACTIONS, 1, 0)
        assert cost.buffers <= 300
        cursor = found.next
