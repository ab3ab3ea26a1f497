"""The page Overview, and the stream that tells of its changes."""

import asyncio
import contextlib
import json
from datetime import timedelta

import httpx
import pytest

from config.postgres_url import parse_postgres_url
from models.database import Database
from models.gate.provider_calls import Admitted, CallOutcome, CallPlan, close_call, open_call
from models.periodic.minutes import MOST_ENDS
from models.queue import counts
from models.queue.counts import SHORT
from pipelines.settings import Settings
from tests.support.builders import claim_jobs, make_claim, make_job, make_worker, set_status
from tests.support.dashboard_app import shown
from tests.support.page_reader import read_page
from tests.support.patience import HANGS_AFTER_S
from workers.operations import overview as operation
from workers.operations.overview import MINUTES, overview
from workers.process.runtime import Runtime

GROUPS = ("Waiting", "Running", "Oldest waits", "To drain", "Failed today", "Spent today", "Tokens today")
TABLES = ("Running by stage", "Failures by reason", "Providers", "Budgets", "Schedulers and workers")
FAILED = """
INSERT INTO darkroom.stage_runs (job_type, job_id, event, stage, error, at)
VALUES ('enhance', $1, 'failed', 'GENERATING', $2, now() - make_interval(secs => $3))
"""
BOUGHT = CallPlan("gemini", "generate", may_be_paid=True, model="m", price_usd=1, images=1)  # type: ignore[arg-type]


def figure_of(page, name):
    """Return what a group shows beside its name."""
    group = page.get("group", name)
    return next(one.text for one in group.all() if one.attributes.get("class") == "value")


async def buy(database, claim):
    call = await database.run(lambda connection: open_call(connection, claim, BOUGHT))
    assert isinstance(call, Admitted)
    end = CallOutcome("answered", may_be_paid=True, latency_ms=9, cost_usd=1)
    await database.run(lambda connection: close_call(connection, call.intent, end))


async def test_overview_of_an_empty_installation(database_url, services):
    async with shown(database_url, services) as client:
        answer = await client.get("/")

    page = read_page(answer.text)
    assert answer.status_code == 200
    assert "<title>Overview · Darkroom</title>" in answer.text
    assert [figure_of(page, name) for name in GROUPS] == ["0", "0", "-", "0.0 s", "0", "0 USD", "0"]
    assert [page.get("table", name).name for name in TABLES] == list(TABLES)
    assert "no worker is running" in page.get("table", "Schedulers and workers").text
    assert "no scheduler is running" in page.get("table", "Schedulers and workers").text


async def test_overview_counts_what_waits_runs_fails_and_costs(database, database_url, services):
    for status in ("COMPLETED", "COMPLETED", "FAILED", "CANCELLED"):
        await set_status(database, (await make_claim(database, tier="TIER_2K")).job_id, status)
    worker = await make_worker(database, queues=["default", "gpu"])
    for _ in range(3):
        await make_job(database, tier="TIER_4K")
    (claim, *_) = await claim_jobs(database, worker, most=1)
    await buy(database, claim)
    hostile = "<img src=x onerror=alert(1)> {{7*7}} of job j_1a2b3c4d took 17 s"
    for number in range(3):
        await database.fetch(FAILED, f"job{number}", hostile.replace("17", str(17 + number)), float(number))

    async with shown(database_url, services) as client:
        answer = await client.get("/")

    page = read_page(answer.text)
    figures = {name: figure_of(page, name) for name in GROUPS}
    assert (figures["Waiting"], figures["Failed today"], figures["Spent today"]) == ("2", "1", "1 USD")
    assert figures["Tokens today"] == "10"  # twice the price of TIER_2K
    ((reason, jobs, _, example),) = page.get("table", "Failures by reason").rows()
    assert (reason, jobs, example) == ("<img src=x onerror=alert(N)> {{N*N}} of job ID took N s", "3", "job0")
    assert "<img" not in answer.text
    assert ["ANALYZING", "1", "2"] in page.get("table", "Running by stage").rows()
    workers = page.get("table", "Schedulers and workers").rows()
    assert ["worker", "here", "1", "default, gpu", "1 of 4"] in [row[:5] for row in workers]
    ends = page.get("figure", "Jobs per minute").get("table", "Jobs per minute").rows()
    assert [sum(int(row[place]) for row in ends[:3]) for place in (1, 2, 3)] == [2, 1, 1]
    assert len(ends) == MINUTES + 1


async def test_waiting_jobs_of_a_minute_in_which_nobody_counted_are_a_gap(database, database_url, services):
    now = await database.fetchval("SELECT date_trunc('minute', now(), 'UTC')")
    for minute, jobs in ((30, 5), (29, 7), (10, 0), (9, 4)):
        await database.fetch(
            "INSERT INTO darkroom.queue_minutes VALUES ($1, 'default', 'waiting', $2, 0)",
            now - timedelta(minutes=minute),
            jobs,
        )

    async with shown(database_url, services) as client:
        page = read_page((await client.get("/")).text)

    figure = page.get("figure", "Waiting")
    rows = {row[0]: row[1] for row in figure.get("table", "Waiting").rows()}
    seen = [rows[f"{now - timedelta(minutes=minute):%H:%M}"] for minute in (30, 29, 28, 10, 9, 8)]
    assert seen == ["5", "7", "-", "0", "4", "-"]
    assert len([one for one in figure.all() if one.tag == "polyline"]) == 2
    (picture,) = [one for one in figure.all() if one.tag == "svg" and one.role == "img"]
    assert picture.name == "Waiting"
    assert picture["aria-describedby"]


async def events_of(client, number):
    """Return the data of the first `number` events of the stream, and its headers."""
    found: list[dict] = []
    async with asyncio.timeout(HANGS_AFTER_S), client.stream("GET", "/events") as answer:
        kinds = []
        async for line in answer.aiter_lines():
            if line.startswith("event: "):
                kinds.append(line.removeprefix("event: "))
            if line.startswith("data: "):
                found.append(json.loads(line.removeprefix("data: ")))
            if len(found) == number:
                break
        assert set(kinds) == {"overview"}
        return found, answer.headers


async def test_stream_sends_at_once_and_after_each_change(database, database_url, services):
    async with shown(database_url, services) as client:
        ((first,), headers) = await events_of(client, 1)
        listening = asyncio.create_task(events_of(client, 2))
        await asyncio.sleep(0)
        await make_job(database)
        (events, _) = await listening

    assert first["waiting"] == 0
    assert events[-1]["waiting"] == 1
    assert headers["content-type"].startswith("text/event-stream")
    assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-store", "no")


async def test_streams_share_one_read_and_end_when_the_dashboard_stops(database_url, services, monkeypatch):
    reads = 0

    async def counted(runtime):
        nonlocal reads
        reads += 1
        if reads == 3:
            has_read.set()
        return await overview(runtime)

    monkeypatch.setattr("workers.dashboard.pages.overview.overview", counted)
    ended = 0

    async def listen(url):
        nonlocal ended
        with contextlib.suppress(httpx.RemoteProtocolError):
            async with httpx.AsyncClient() as own, own.stream("GET", url, timeout=20) as answer:
                seen.release()
                async for _ in answer.aiter_lines():
                    pass
        ended += 1

    seen, has_read = asyncio.Semaphore(0), asyncio.Event()
    async with asyncio.timeout(HANGS_AFTER_S), shown(database_url, services) as client:
        assert reads == 0
        listening = [asyncio.create_task(listen(f"{client.base_url}/events")) for _ in range(10)]
        for _ in listening:
            await seen.acquire()
        began = asyncio.get_running_loop().time()
        await has_read.wait()
        took_s = asyncio.get_running_loop().time() - began
    async with asyncio.timeout(HANGS_AFTER_S):
        await asyncio.gather(*listening)

    assert ended == 10
    assert took_s > 1.5  # ten streams would have read thirty times


async def test_overview_needs_few_statements(database, database_url, services):
    await make_worker(database)
    await make_job(database)
    settings = Settings(provider=("gemini", "openai", "local"), gemini_api_key="x" * 20, openai_api_key="x" * 20)
    small = Database(parse_postgres_url(database_url), most_connections=1)
    await small.open()
    sent: list[str] = []
    try:
        async with small.connection() as connection:
            await connection.execute("SET default_transaction_read_only = on")
            connection.add_query_logger(lambda query: sent.append(query.query))
        await overview(Runtime(settings, services, small, ""))
    finally:
        await small.close()

    assert 5 < len(sent) <= 15, sent


@pytest.mark.parametrize("is_counted", [False, True])
async def test_long_queue_is_estimated_unless_a_scheduler_counts_it(
    database, database_url, services, monkeypatch, is_counted
):
    monkeypatch.setattr(counts, "SHORT", 20)
    monkeypatch.setattr(counts, "COUNT_TIMEOUT_S", 300)
    for _ in range(40):
        await make_job(database)
    if is_counted:
        await counts.count_queues(database)
    await make_job(database)

    read_ = await operation.overview(Runtime(Settings(), services, database, ""))

    assert read_.queues.is_estimate is not is_counted
    assert read_.waiting_jobs == (40 if is_counted else 41)  # few pages are read as a whole


async def test_ends_that_are_not_rolled_up_count_up_to_a_limit(database, services):
    await database.fetch(
        """INSERT INTO darkroom.job_ends (job_type, tier, outcome, wait_s)
           SELECT 'enhance', 'FREE', 'COMPLETED', 1 FROM generate_series(1, $1)""",
        MOST_ENDS + 1,
    )
    found = await operation.overview(Runtime(Settings(), services, database, ""))

    assert found.last_day == {"COMPLETED": MOST_ENDS}
    assert found.ends.unknown_since is not None
    assert SHORT < 1000
