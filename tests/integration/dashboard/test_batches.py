"""The pages of batches: the list, one batch with its jobs, and what is done to all of them."""

from functools import partial

from tests.integration.queue.test_batches import end, jobs_of, make_album
from tests.support.builders import balance_of, make_image, make_user
from tests.support.dashboard_app import shown
from tests.support.page_reader import read_page
from tests.support.statement_costs import cost_of
from workers.operations.batch_lists import PAGE_BATCHES, batch_facts, batches_page

HOSTILE = "<img src=x onerror=alert(1)> {{7*7}} \x01\u202e" + "y" * 10_000
SUBMIT = "SELECT darkroom.submit_album($1, $2, 'TIER_1K')"
ACTIONS = "SELECT actor, action, target, reason FROM darkroom.operator_actions ORDER BY id"
LABEL = "UPDATE darkroom.batches SET label = $2 WHERE id = $1"
NONE = "0193d5a0-0000-7000-8000-000000000000"


async def make_batch(database, user, number=3):
    album = await make_album(database, user, [await make_image(database, user) for _ in range(number)])
    return await database.fetchval(SUBMIT, user, album)


async def page_of(client, url):
    answer = await client.get(url)
    assert answer.status_code == 200, answer.text
    assert "<img" not in answer.text
    return read_page(answer.text)


async def test_batches_and_their_jobs_are_shown(database, database_url, services):
    user = await make_user(database)
    old = await make_batch(database, user)
    new = await make_batch(database, user, 2)
    await end(database, old, "COMPLETED", "FAILED")
    await database.fetch(LABEL, old, HOSTILE)
    await database.fetch(LABEL, new, None)
    jobs = await jobs_of(database, old)
    await database.fetch('UPDATE public.image_enhancement_jobs SET "errorMessage" = $2 WHERE id = $1', jobs[1], HOSTILE)

    async with shown(database_url, services) as client:
        page = await page_of(client, "/batches")
        rows = page.get("table", "Batches").rows()
        assert [row[:2] for row in rows] == [[str(new), "0 of 2 over"], [" ".join(HOSTILE.split()), "2 of 3 over"]]
        assert rows[1][2:10] == ["1", "1", "0", "0", "1", "0", "TIER_1K", user]
        links = [one["href"] for one in page.get("table", "Batches").find("link")]
        assert links == [f"/batches/{new}", f"/users/{user}", f"/batches/{old}", f"/users/{user}"]
        page = await page_of(client, f"/batches/{old}")
        assert page.find("heading")[0].text == " ".join(HOSTILE.split())
        assert [one["href"] for one in page.get("table", "Jobs").find("link")] == [f"/jobs/{one}" for one in jobs]
        assert [row[1] for row in page.get("table", "Jobs").rows()] == ["COMPLETED", "FAILED", "PENDING"]
        for name in ("Retry batch", "Cancel batch"):
            page.get("button", name)
        page = await page_of(client, f"/batches/{new}")
        assert page.find("heading")[0].text == str(new)
        assert not page.find("button", "Retry batch")
        for wrong in (NONE, "x", "~~", "x%00"):
            answer = await client.get(f"/batches/{wrong}")
            assert (answer.status_code, read_page(answer.text).find("heading")[0].text) == (404, "Not found")
        assert (await client.get(f"/batches/{old}?cursor=WzFd")).status_code == 200
        for cursor in ("Wy0xXQ", "x", "W10"):
            assert (await client.get(f"/batches/{old}?cursor={cursor}")).status_code == 422
        assert (await client.get("/batches?cursor=WyJ4IiwieCJd")).status_code == 422

    async with shown(database_url, services, role="viewer") as client:
        page = await page_of(client, f"/batches/{old}")
    assert not [one for one in page.find("button") if one.name.endswith("batch")]


async def test_batch_is_cancelled_and_retried(database, database_url, services):
    user = await make_user(database)
    batch = await make_batch(database, user)
    await end(database, batch, "COMPLETED")

    async with shown(database_url, services) as client:
        assert (await client.get(f"/batches/{NONE}/cancel")).status_code == 404
        assert (await client.post(f"/batches/{NONE}/retry")).status_code == 404
        assert (await client.get(f"/batches/{batch}/retry")).status_code == 409
        form = await page_of(client, f"/batches/{batch}/cancel")
        form.get("textbox", "Reason")
        form.get("button", "Cancel batch")
        answer = await client.post(f"/batches/{batch}/cancel", data={"reason": HOSTILE[:500]})
        assert (answer.status_code, answer.headers["location"]) == (303, f"/batches/{batch}")
        page = await page_of(client, f"/batches/{batch}")
        assert page.find("status")[0].text == "2 jobs are cancelled."
        assert not page.find("button", "Cancel batch")
        assert (await client.get(f"/batches/{batch}/cancel")).status_code == 409
        assert await balance_of(database, user) == 98

        answer = await client.post(f"/batches/{batch}/retry", data={"reason": "once more"})
        new = answer.headers["location"].removeprefix("/batches/")
        page = await page_of(client, f"/batches/{new}")
        assert [row[1] for row in page.get("table", "Jobs").rows()] == ["PENDING", "PENDING"]
        old = await page_of(client, f"/batches/{batch}")
        assert old.get("link", new)["href"] == f"/batches/{new}"

    assert await balance_of(database, user) == 94
    assert [tuple(row) for row in await database.fetch(ACTIONS)] == [
        ("tester", "batch_cancel", str(batch), HOSTILE[:500].strip()),
        ("tester", "batch_retry", str(batch), "once more"),
    ]


async def test_long_batches_are_estimated_by_few_rows(database, database_url, services):
    user = await make_user(database, balance=1_000_000)
    batch = await make_batch(database, user, 1)
    (job,) = await jobs_of(database, batch)
    await database.fetch("ALTER TABLE public.image_enhancement_jobs DISABLE TRIGGER USER")
    await database.fetch(
        """INSERT INTO public.image_enhancement_jobs
               (id, "imageId", "userId", tier, "tokensCost", status, "createdAt", "updatedAt")
           SELECT md5(n::text), j."imageId", j."userId", 'TIER_1K', 2,
                  (CASE n % 4 WHEN 0 THEN 'FAILED' ELSE 'COMPLETED' END)::public."JobStatus",
                  darkroom.utc_now(), darkroom.utc_now()
           FROM generate_series(1, 50000) n, public.image_enhancement_jobs j WHERE j.id = $1""",
        job,
    )
    await database.fetch(
        """INSERT INTO darkroom.batches (user_id, label, tier, job_ids, created_at)
           SELECT $1, 'many ' || b, 'TIER_1K',
                  (SELECT array_agg(md5(n::text) ORDER BY n) FROM generate_series(1 + b * 5000, (1 + b) * 5000) n),
                  now() - make_interval(secs => b)
           FROM generate_series(0, 9) b""",
        user,
    )
    await database.fetch(
        """INSERT INTO darkroom.batches (user_id, label, tier, job_ids, created_at, completed, finished_at)
           SELECT $1, 'done', 'TIER_1K', '{}', now() - make_interval(secs => 100 + n), 7, now()
           FROM generate_series(1, 5000) n""",
        user,
    )
    await database.fetch("ANALYZE public.image_enhancement_jobs, darkroom.batches")

    page, cost = await cost_of(database, batches_page)
    assert len(page.batches) == PAGE_BATCHES
    many = [one for one in page.batches if one.is_estimate]
    assert [one.total for one in many] == [5000] * 10
    for one in many:
        assert one.over == 5000
        assert 0 < one.failed < 3000
    assert (cost.buffers <= 2000, cost.most_rows_of_a_scan <= 1000) == (True, True), cost
    page, cost = await cost_of(database, partial(batches_page, cursor=page.next))
    assert [one.completed for one in page.batches] == [7] * PAGE_BATCHES
    assert (cost.buffers <= 200, cost.most_rows_of_a_scan) == (True, 0), cost

    facts, cost = await cost_of(database, partial(batch_facts, name=str(many[0].id)))
    assert (cost.buffers <= 2000, cost.most_rows_of_a_scan <= 1000) == (True, True), cost
    assert abs(facts.batch.failed - 1250) < 500
    assert len(facts.jobs) == 50
    facts, cost = await cost_of(database, partial(batch_facts, name=str(many[0].id), cursor=facts.next))
    assert cost.buffers <= 2000, cost
    await database.fetch("ALTER TABLE public.image_enhancement_jobs ENABLE TRIGGER USER")
    async with shown(database_url, services) as client:
        text = (await page_of(client, "/batches")).get("table", "Batches").text
    assert "about 5,000 of 5,000 over" in text
