"""The page Jobs: its filter, its pages, and what is done to many jobs at once."""

import json
import re
from datetime import UTC, datetime, timedelta
from functools import partial

from models.queue.job_filter import JobFilter, UserOfJobs
from tests.support.builders import balance_of, make_generation, make_job, make_user, set_status
from tests.support.dashboard_app import shown
from tests.support.page_reader import read_page
from tests.support.statement_costs import cost_of
from workers.operations.job_lists import jobs_page


async def names(client, query=""):
    page = read_page((await client.get(f"/jobs{query}")).text)
    return [one.text for one in page.get("table", "Jobs").find("link") if one["href"].startswith("/jobs/")]


async def at(database, job_id, seconds_ago, **columns):
    """Set when a job was last changed."""
    table = "mcp_generation_jobs" if job_id.startswith("g") else "image_enhancement_jobs"
    further = "".join(f', "{name}" = ${number}' for number, name in enumerate(columns, 3))
    await database.fetch(
        f"""UPDATE public.{table} SET "updatedAt" = darkroom.utc_now() - make_interval(secs => $2){further}
            WHERE id = $1""",
        job_id,
        seconds_ago,
        *columns.values(),
    )


async def test_jobs_are_listed_by_their_last_change_and_filtered_by_the_url(database, database_url, services):
    user = await make_user(database)
    failed = await make_job(
        database, user_id=user, status="FAILED", errorMessage="<img src=x onerror=alert(1)> {{7*7}}"
    )
    waiting = await make_job(database, tier="TIER_2K")
    done = await make_job(database, status="COMPLETED", currentStage="GENERATING")
    words = await make_generation(database)
    for number, one in enumerate((words, done, failed, waiting)):
        await at(database, one, 10 * number)

    async with shown(database_url, services) as client:
        assert await names(client) == [words, done, failed, waiting]
        assert await names(client, "?status=FAILED") == [failed]
        assert await names(client, "?status=FAILED&status=COMPLETED") == [done, failed]
        assert await names(client, "?type=generate") == [words]
        assert await names(client, "?tier=TIER_2K") == [waiting]
        assert await names(client, "?stage=ANALYZING") == [waiting]
        assert await names(client, f"?user={user}") == [failed]
        assert await names(client, f"?user={user}@example.test&status=FAILED") == [failed]
        assert await names(client, "?error=ONERROR") == [failed]
        assert await names(client, "?since=1h") == [words, done, failed, waiting]
        assert await names(client, "?until=1h") == []
        assert await names(client, "?type=nosuch") == []
        assert (await client.get("/jobs?since=yesterday")).status_code == 422

        text = (await client.get("/jobs?status=FAILED")).text
        page = read_page(text)
        assert "<img src=x" not in text
        assert page.get("heading", "Jobs").tag == "h1"
        filter_ = page.get("search", "Jobs")
        for name in ("Status", "Type", "Tier", "Stage"):
            assert "any" in [one.text for one in filter_.get("combobox", name).find("option")]
        for name in ("User", "Error", "Since", "Until"):
            filter_.get("textbox", name)
        filter_.get("button", "Filter")
        assert ("status", "FAILED") in filter_.values()
        row = page.get("table", "Jobs").rows()[0]
        assert row[:5] == ["", failed, "enhance", "TIER_1K", "FAILED"]
        assert row[-1] == "<img src=x onerror=alert(1)> {{7*7}}"
        page.get("checkbox", f"Select {failed}")
        page.get("checkbox", "Select all")


async def test_pages_show_each_job_once_also_those_of_one_moment(database, database_url, services):
    user = await make_user(database)
    jobs = [await make_job(database, user_id=user, status="CANCELLED") for _ in range(7)]
    jobs += [await make_job(database, user_id=user, status="FAILED") for _ in range(120)]
    await database.fetch("""UPDATE public.image_enhancement_jobs SET "updatedAt" = '2026-01-02 03:04:05'""")

    async with shown(database_url, services) as client:
        seen, url = [], "/jobs?tier=TIER_1K"
        for _ in range(9):
            page = read_page((await client.get(url)).text)
            found = [one.text for one in page.get("table", "Jobs").find("link") if one["href"].startswith("/jobs/")]
            assert len(found) <= 50
            seen += found
            assert page.get("link", "First page")["href"] == "/jobs?tier=TIER_1K"
            following = page.find("link", "Next page")
            if not following:
                break
            url = following[0]["href"]
        assert (await client.get("/jobs?cursor=nonsense")).status_code == 422
        assert (await client.get("/jobs?cursor=eyJpIjpbIjIwMjYiLDFdfQ")).status_code == 422

    assert sorted(seen) == sorted(jobs)


def form_of(page):
    """Return the fields of the form of an action, as a browser would send them."""
    return dict(page.get("main").values())


async def test_selected_jobs_are_retried_as_the_dry_run_said(database, database_url, services):
    user = await make_user(database, balance=3)  # enough for one of tier 1K
    first, second = [await make_job(database, user_id=user, status="FAILED") for _ in range(2)]
    done = await make_job(database, status="COMPLETED")

    async with shown(database_url, services) as client:
        url = f"/selected/retry?id={first}&id={second}&id={done}&status=FAILED"
        page = read_page((await client.get(url)).text)
        texts = [one.text for one in page.get("main").all() if one.tag == "p"]
        assert "1 job, 2 tokens, 2 refused" in texts
        assert any(f"job {done} is COMPLETED" in text for text in texts)
        page.get("button", "Retry 1 job")
        assert await database.fetchval("SELECT count(*) FROM public.image_enhancement_jobs") == 3

        answer = await client.post("/selected/retry", data={**form_of(page), "reason": "provider was down"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/jobs?status=FAILED")
        said = read_page((await client.get("/jobs")).text)
        assert said.find("status")[0].text == "1 job is tried again"
        # the same form again must charge nobody twice
        answer = await client.post("/selected/retry", data=form_of(page))
        assert answer.status_code == 303

    assert await database.fetchval("SELECT count(*) FROM public.image_enhancement_jobs") == 4
    assert await balance_of(database, user) == 1
    actions = await database.fetch("SELECT actor, action, target, reason FROM darkroom.operator_actions")
    assert [tuple(one) for one in actions] == [("tester", "job_retry", first, "provider was down")]


async def test_all_that_match_are_those_that_were_counted(database, database_url, services):
    user = await make_user(database)
    jobs = [await make_job(database, user_id=user) for _ in range(3)]

    async with shown(database_url, services) as client:
        page = read_page((await client.get(f"/matching/cancel?user={user}")).text)
        assert "3 jobs, 6 tokens, 0 refused" in page.get("main").text
        page.get("button", "Cancel 3 jobs")
        later = await make_job(database, user_id=user)
        answer = await client.post("/matching/cancel", data=form_of(page))
        assert (answer.status_code, answer.headers["location"]) == (303, f"/jobs?user={user}")

        none = read_page((await client.get("/matching/retry?error=nosuch")).text)
        assert "0 jobs, 0 tokens, 0 refused" in none.get("main").text
        assert not [one for one in none.find("button") if one.name.startswith("Retry")]
        many = json.dumps([f"j{number}" for number in range(10_001)])
        assert (await client.post("/matching/cancel", data={"jobs": many})).status_code == 422
        assert (await client.post("/matching/cancel", data={"jobs": "[1"})).status_code == 422
        nothing = read_page((await client.get("/selected/cancel")).text)
        assert "No job is selected." in nothing.get("main").text

    rows = await database.fetch("SELECT id, status::text FROM public.image_enhancement_jobs")
    assert dict(rows) == {**dict.fromkeys(jobs, "CANCELLED"), later: "PENDING"}
    assert await balance_of(database, user) == 98


async def test_a_dialog_is_a_form_in_place_for_scripts(database, database_url, services):
    job = await make_job(database, status="FAILED")

    async with shown(database_url, services) as client:
        scripts = {"HX-Request": "true"}
        dialog = read_page((await client.get(f"/selected/retry?id={job}", headers=scripts)).text)
        assert dialog.get("dialog").name == "Retry selected"
        answer = await client.post("/selected/retry", data=dict(dialog.values()), headers=scripts)
        assert answer.headers["hx-redirect"] == "/jobs"


async def test_viewers_are_offered_nothing(database, database_url, services):
    await make_job(database)

    async with shown(database_url, services, role="viewer") as client:
        page = read_page((await client.get("/jobs")).text)
    assert not [one for one in page.find("button") if re.match("Retry|Cancel", one.name)]
    assert not page.find("checkbox")


FILTERS = {
    "all": JobFilter(),
    "rare": JobFilter(error="nosuch"),
    "of a type": JobFilter(["FAILED"], job_type="blend"),
    "at a stage": JobFilter(stage="PROMPTING"),
    "since": JobFilter(since=datetime.now(UTC) - timedelta(hours=1)),
}


async def test_lists_of_many_jobs_read_few_rows(database):
    first = await make_job(database, status="FAILED")
    await database.fetch(
        """INSERT INTO public.image_enhancement_jobs
               (id, "imageId", "userId", tier, "tokensCost", status, "createdAt", "updatedAt")
           SELECT 'x' || n, j."imageId", j."userId", 'TIER_1K', 2,
                  (ARRAY['COMPLETED', 'FAILED', 'CANCELLED'])[1 + n % 3]::public."JobStatus",
                  darkroom.utc_now() - interval '1 s' * (n / 7), darkroom.utc_now() - interval '1 s' * (n / 7)
           FROM generate_series(1, 20000) n, public.image_enhancement_jobs j WHERE j.id = $1""",
        first,
    )
    user = await database.fetchval('SELECT "userId" FROM public.image_enhancement_jobs WHERE id = $1', first)
    for name, wanted in {**FILTERS, "of a user": JobFilter(user=UserOfJobs(user))}.items():
        found, cost = await cost_of(database, partial(jobs_page, wanted=wanted))
        assert cost.statements <= 12, name
        assert cost.buffers <= 2000, (name, cost)
        assert cost.most_rows_of_a_scan <= 1000, (name, cost)
        assert found.looked_at <= 1100, name
        assert len(found.jobs) == {"rare": 0, "of a type": 0, "at a stage": 0}.get(name, 50), name
        assert found.next is not None, name
    cursor, looks = None, 0
    while looks == 0 or cursor is not None:
        found, _ = await cost_of(database, partial(jobs_page, wanted=FILTERS["rare"], cursor=cursor))
        assert not found.jobs
        cursor, looks = found.next, looks + 1
    assert looks == 21


async def test_find_leads_to_the_job(database, database_url, services):
    job = await make_job(database)
    await set_status(database, job, "CANCELLED")
    async with shown(database_url, services) as client:
        answer = await client.get(f"/find?job={job}")
        assert (answer.status_code, answer.headers["location"]) == (303, f"/jobs/{job}")
