"""The pages of users: finding one, balance, ledger and jobs, and granting tokens."""

from functools import partial

from tests.support.builders import balance_of, make_job, make_user, set_mode
from tests.support.dashboard_app import shown
from tests.support.page_reader import read_page
from tests.support.statement_costs import cost_of
from workers.operations.user_facts import newest_users, user_facts

HOSTILE = "<img src=x onerror=alert(1)> {{7*7}} \x01\u202e" + "y" * 10_000
SHOWN = " ".join(HOSTILE.split())
ACTIONS = "SELECT actor, action, target, reason FROM darkroom.operator_actions ORDER BY id"
CAPS = "INSERT INTO darkroom.settings (key, value) VALUES ('user_caps', '{\"FREE\": 3}')"
LEDGER = """
INSERT INTO public.token_transactions (id, "userId", amount, type, source, "sourceId", "balanceAfter", metadata)
VALUES ('t1', $1, 5, 'EARN_BONUS', $2, $2, 5, jsonb_build_object('reason', $2::text))
"""
MANY = """
INSERT INTO public.users (id, email, "createdAt", "updatedAt")
SELECT md5(n::text), n || '@example.test', darkroom.utc_now() - make_interval(secs => 50000 - n), darkroom.utc_now()
FROM generate_series(1, 20000) n
"""


async def page_of(client, url):
    answer = await client.get(url)
    assert answer.status_code == 200, answer.text
    assert "<img" not in answer.text
    return read_page(answer.text)


async def test_user_is_found_and_shown(database, database_url, services):
    user = await make_user(database)
    await database.fetch("UPDATE public.users SET name = $2 WHERE id = $1", user, HOSTILE)
    await database.fetch(LEDGER, user, HOSTILE[:2000])
    await database.fetch(CAPS)
    job = await make_job(database, user_id=user, status="FAILED", errorMessage=HOSTILE)
    odd = "a b/<c>"
    await database.fetch('INSERT INTO public.users (id, "updatedAt") VALUES ($1, darkroom.utc_now())', odd)

    async with shown(database_url, services) as client:
        page = await page_of(client, "/users")
        page.get("textbox", "User")
        page.get("button", "Find")
        rows = page.get("table", "Users").rows()
        assert [row[:2] for row in rows] == [[odd, odd], [f"{user}@example.test", user]]
        assert rows[1][2:5] == [SHOWN, "100", "FREE"]
        for given in (user, f"{user}@example.test"):
            answer = await client.get("/users", params={"user": given})
            assert (answer.status_code, answer.headers["location"]) == (303, f"/users/{user}")
        answer = await client.get("/users", params={"user": "nobody@example.test"})
        assert answer.status_code == 404
        assert "not found" in read_page(answer.text).get("alert").text
        assert (await client.get("/users", params={"user": "a\0b"})).status_code == 404

        page = await page_of(client, f"/users/{user}")
        assert page.find("heading")[0].text == f"{user}@example.test"
        assert "100" in page.get("group", "Balance").text
        assert "0 of 3" in page.get("group", "Running of cap").text
        assert page.get("table", "Ledger").rows()[0][1:4] == ["EARN_BONUS", "5", "5"]
        assert [one["href"] for one in page.get("table", "Jobs").find("link")] == [f"/jobs/{job}"]
        page.get("button", "Grant tokens")
        links = [one["href"] for one in (await page_of(client, "/users")).get("table", "Users").find("link")]
        assert read_page((await client.get(links[0])).text).find("heading")[0].text == odd
        for wrong in ("nobody", "~~", "x%00"):
            answer = await client.get(f"/users/{wrong}")
            assert (answer.status_code, read_page(answer.text).find("heading")[0].text) == (404, "Not found")

    async with shown(database_url, services, role="viewer") as client:
        page = await page_of(client, f"/users/{user}")
    assert not page.find("button", "Grant tokens")


async def test_tokens_are_granted_once_by_a_form(database, database_url, services):
    user = await make_user(database)

    async with shown(database_url, services) as client:
        path = f"/users/{user}/grant"
        form = await page_of(client, path)
        form.get("textbox", "Tokens")
        form.get("textbox", "Reason")
        form.get("button", "Grant tokens")
        fields = dict(form.values()) | {"tokens": "25", "reason": HOSTILE[:500]}
        for wrong in ("", "x", "0", "1.5", "9" * 12, "-101", "٣"):
            answer = await client.post(path, data=fields | {"tokens": wrong})
            assert answer.status_code in {402, 422}, wrong
        answer = await client.post(path, data=fields)
        assert (answer.status_code, answer.headers["location"]) == (303, f"/users/{user}")
        assert (await client.post(path, data=fields)).status_code == 422
        assert (await client.post(path, data=fields | {"known": "x"})).status_code == 422
        page = await page_of(client, f"/users/{user}")
        assert page.get("table", "Ledger").rows()[0][1:4] == ["EARN_ADMIN_ADJUSTMENT", "25", "125"]
        fields = dict((await page_of(client, path)).values()) | {"tokens": "-5"}
        assert (await client.post(path, data=fields)).status_code == 303
        assert (await client.post("/users/nobody/grant", data=fields)).status_code == 404
    assert await balance_of(database, user) == 120
    done = [tuple(row) for row in await database.fetch(ACTIONS)]
    assert done == [
        ("tester", "tokens_grant", user, HOSTILE[:500].strip()),
        ("tester", "tokens_grant", user, None),
    ]

    await set_mode(database, "recorded")
    async with shown(database_url, services) as client:
        assert not (await page_of(client, f"/users/{user}")).find("button", "Grant tokens")
        assert (await client.get(path)).status_code == 409
        assert (await client.post(path, data=fields)).status_code == 409


async def test_users_are_many_and_few_rows_are_read(database):
    await database.fetch(MANY)
    user = await make_user(database)
    await database.fetch("ANALYZE public.users")

    found, cost = await cost_of(database, newest_users)
    assert [one.id for one in found[:2]] == [user, (await database.fetchval("SELECT md5('20000')"))]
    assert [one.email for one in found[1:]] == [f"{20001 - n}@example.test" for n in range(1, 50)]
    assert (cost.buffers <= 2000, cost.most_rows_of_a_scan <= 1000) == (True, True), cost
    await database.fetch(
        """INSERT INTO public.token_transactions (id, "userId", amount, type, "balanceAfter", "createdAt")
           SELECT 't' || n, $1, 1, 'EARN_BONUS', n, darkroom.utc_now() - make_interval(secs => n)
           FROM generate_series(1, 20000) n""",
        user,
    )
    await database.fetch("ANALYZE public.token_transactions")
    facts, cost = await cost_of(database, partial(user_facts, given=user))
    assert len(facts.ledger) == 50
    assert (cost.statements <= 15, cost.buffers <= 2000, cost.most_rows_of_a_scan <= 1000) == (True, True, True), cost
