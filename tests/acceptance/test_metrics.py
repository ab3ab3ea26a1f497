"""Metrics of real processes: one answer for all processes of a worker, whatever becomes of them."""

import asyncio
import os
import re
import signal
import urllib.parse

import psutil
import pytest

from pipelines.settings import Settings
from tests.support.builders import make_generation, make_image, make_job, make_user, set_status
from tests.support.fleet import SlowWorkers, eventually
from tests.support.program import darkroom
from tests.support.promql import deployed_names
from tests.support.scraping import Scrape, Site, site_of
from workers.metrics.exposition import exposition
from workers.metrics.families import FAMILIES
from workers.metrics.listening import listen
from workers.metrics.serving import Serving

AT_ANY_PORT = {"DARKROOM_METRICS_ADDRESS": "127.0.0.1:0"}
WORDS = re.compile(r"[A-Za-z0-9_.:+-]{0,60}")


@pytest.fixture
def serve():
    """Start a server for worker processes of a test; return it."""
    servings = []

    def start():
        serving = Serving(listen("127.0.0.1:0", "address"), None, {"worker"})
        servings.append(serving.__enter__())
        return serving

    yield start
    for serving in servings:
        serving.__exit__()


@pytest.fixture
def served(fleet, serve):
    """Start worker processes that are scraped; return their site and the processes."""

    def start(processes=2, *, slow_s=0.0, **settings):
        serving = serve()
        os.environ |= {"SLOW_S": str(slow_s), "SLOW_CALLS": str(fleet.calls_path), "LOG_LEVEL": "warning"}
        os.environ["DARKROOM_WARM_CHILDREN"] = "0"
        made = Settings(home=fleet.folder, **settings)
        workers = SlowWorkers(made, fleet.services, processes=processes, lanes=4, serving=serving)
        for name, value in settings.items():
            workers.environment[f"DARKROOM_{name.upper()}"] = str(value)
        return Site(serving.address.url), fleet.add(workers)

    return start


async def scraped(site):
    return await asyncio.to_thread(site.scrape)


async def worker_pids(fleet):
    return [row["pid"] for row in await fleet.database.fetch("SELECT pid FROM darkroom.workers ORDER BY started_at")]


async def test_worker_answers_once_for_all_processes_after_jobs_of_every_end(fleet, served):
    user, image = await fleet.stored_picture(balance=100)
    done = [await make_job(fleet.database, user_id=user, image_id=image) for _ in range(3)]
    gone = await make_image(fleet.database, user)  # its object was never stored
    refunded = await make_job(fleet.database, user_id=user, image_id=gone, tier="TIER_2K", maxRetries=0)
    free = await make_generation(fleet.database, user_id=user, tier="FREE", prompt="x" * 10)
    site, _ = served(2)

    async def are_over():
        rows = await fleet.database.fetch("SELECT id, status FROM darkroom.jobs")
        return {row["status"] for row in rows} <= {"COMPLETED", "FAILED", "REFUNDED"} and rows

    statuses = {row["id"]: row["status"] for row in await eventually(are_over)}
    now = await eventually(lambda: all_counted(site, len(statuses)))

    assert [statuses[job] for job in (*done, free)] == ["COMPLETED"] * 4
    assert statuses[refunded] == "REFUNDED"
    assert now.value("jobs_finished_total", type="enhance", tier="TIER_1K", status="COMPLETED") == 3
    assert now.value("jobs_finished_total", type="generate", tier="FREE", status="COMPLETED") == 1
    assert now.value("jobs_finished_total", status="REFUNDED") == now.value("refunds_total") == 1
    assert now.value("refunded_tokens_total") == 5
    assert (now.value("lanes"), now.value("lanes_busy")) == (8, 0)
    assert now.value("job_wait_seconds_count", tier="TIER_1K") == 3
    assert now.value("lease_renewals_total", outcome="renewed") >= 2
    await compare_with_history(fleet, now)
    await compare_with_calls(fleet, now)
    assert now.kinds == {f"darkroom_{one.name}": one.kind for one in FAMILIES if one.source in {"worker", "all"}}
    await no_label_names_anybody(fleet, now)


async def all_counted(site, jobs):
    now = await scraped(site)
    return now if now.value("jobs_finished_total") == jobs and not now.value("lanes_busy") else None


async def compare_with_history(fleet, now):
    """Compare the numbers of stages with the history that the database has."""
    rows = await fleet.database.fetch(
        """SELECT job_type, stage, event, count(*) AS count FROM darkroom.stage_runs
           WHERE event <> 'claimed' GROUP BY 1, 2, 3"""
    )
    expected = {(row["job_type"], row["stage"], row["event"]): row["count"] for row in rows}
    found = {
        (one.labels["type"], one.labels["stage"], one.labels["outcome"]): one.value
        for one in now.samples
        if one.name == "darkroom_stage_seconds_count"
    }
    assert found == expected
    rows = await fleet.database.fetch(
        """SELECT stage, event, count(*) AS count FROM darkroom.stage_runs
           WHERE event IN ('retried', 'snoozed', 'released', 'rescued', 'fenced') GROUP BY 1, 2"""
    )
    found = {
        (one.labels["stage"], one.labels["how"]): one.value
        for one in now.samples
        if one.name == "darkroom_attempts_ended_total"
    }
    assert found == {(row["stage"], row["event"]): row["count"] for row in rows}


async def compare_with_calls(fleet, now):
    """Compare the numbers, units and costs of calls with what the gate has recorded."""
    rows = await fleet.database.fetch(
        "SELECT provider, purpose, outcome, count(*) AS count FROM darkroom.provider_calls GROUP BY 1, 2, 3"
    )
    found = {
        (one.labels["provider"], one.labels["purpose"], one.labels["outcome"]): one.value
        for one in now.samples
        if one.name == "darkroom_provider_calls_total"
    }
    assert found == {(row["provider"], row["purpose"], row["outcome"]): row["count"] for row in rows}
    cost = await fleet.database.fetchval("SELECT coalesce(sum(cost_usd), 0)::float8 FROM darkroom.provider_calls")
    assert now.value("provider_cost_usd_total") == pytest.approx(cost)


async def no_label_names_anybody(fleet, now):
    """Compare every label of a scrape with every id and address in the database, and with the form of a word."""
    ids = set()
    for table in ("public.users", "public.enhanced_images", "darkroom.jobs", "darkroom.workers"):
        ids |= {row["id"] for row in await fleet.database.fetch(f"SELECT t.id::text FROM {table} t")}
    values = {value for one in now.samples for value in one.labels.values()}
    assert {value for value in values if not WORDS.fullmatch(value) or urllib.parse.urlsplit(value).netloc} == set()
    assert not values & ids


async def test_killed_process_leaves_no_gauge_and_loses_no_counter(fleet, served):
    user, image = await fleet.stored_picture(balance=100)
    site, _ = served(2, slow_s=3)
    jobs = [await make_job(fleet.database, user_id=user, image_id=image) for _ in range(8)]

    async def are_all_running():
        now = await scraped(site)
        return now if now.value("lanes_busy") == 8 else None

    before = await eventually(are_all_running)
    first, second = await worker_pids(fleet)
    assert before.value("job_wait_seconds_count") == 8
    os.kill(first, signal.SIGSTOP)  # it can't restart before it is killed
    os.kill(first, signal.SIGKILL)

    async def is_forgotten():
        now = await scraped(site)
        return now if now.value("lanes") == 4 else None

    after = await eventually(is_forgotten, "forgetting the gauges", within_s=2)
    assert after.value("lanes_busy") <= 4
    assert after.value("job_wait_seconds_count") >= 8

    async def are_done():
        now = await scraped(site)
        return now if now.value("jobs_finished_total", status="COMPLETED") == len(jobs) else None

    now = await eventually(are_done)
    assert now.value("lanes") == 8
    assert now.value("job_wait_seconds_count") == 8  # a claim after a rescue isn't a job's first
    assert now.value("attempts_ended_total", how="rescued") == await fleet.database.fetchval(
        "SELECT count(*) FROM darkroom.stage_runs WHERE event = 'rescued'"
    )
    assert psutil.pid_exists(second)


async def test_zombie_is_fenced_and_its_write_counted(fleet, served):
    job = await make_generation(fleet.database)
    site, _ = served(1, slow_s=2)

    async def is_called():
        return fleet.calls("generate")

    await eventually(is_called)
    await set_status(fleet.database, job, "CANCELLED")

    async def has_ended():
        now = await scraped(site)
        return now if now.has("lanes_busy") and not now.value("lanes_busy") else None

    now = await eventually(has_ended)
    assert now.value("jobs_finished_total") == 0


async def test_every_metric_of_the_dashboard_and_the_alerts_is_in_a_scrape(fleet, tmp_path):
    with darkroom("up", "--processes", "1", environment=fleet.environment | AT_ANY_PORT, folder=tmp_path) as up:
        site = site_of(up)
        await asyncio.to_thread(up.says, "\nready\n")
        now = await scraped(site)

        of_dashboard = Scrape(exposition({}, {"dashboard"}).decode()).names
        assert deployed_names() - now.names - of_dashboard - {"up"} == set()
        up.process.terminate()
        assert await asyncio.to_thread(up.ends) == 0


async def test_schedulers_show_the_same_state_of_queues_pauses_and_money(fleet, tmp_path):
    user = await make_user(fleet.database)
    for number in range(3):
        await make_generation(fleet.database, user_id=user, tier="TIER_1K" if number else "TIER_2K")
    await fleet.database.fetch(
        """INSERT INTO darkroom.settings (key, value)
           VALUES ('pauses', '{"tier:TIER_2K": {"actor": "test", "at": "2026-01-01T00:00:00Z"}}')
           ON CONFLICT (key) DO UPDATE SET value = excluded.value"""
    )
    await fleet.database.fetch(
        """INSERT INTO darkroom.ticks (task, tick_at, status, counts, started_at, finished_at)
           VALUES ('audit-ledger', now(), 'finished', '{"violations": 2}', now(), now()),
                  ('roll-up-jobs', now() - interval '1 year', 'failed', '{}', now(), now())"""
    )
    environment = fleet.environment | AT_ANY_PORT | {"DARKROOM_BUDGETS": "day_usd=5,user_day_usd=1"}
    with (
        darkroom("scheduler", environment=environment, folder=tmp_path) as one,
        darkroom("scheduler", environment=environment, folder=tmp_path) as other,
    ):
        found = []
        for running in (one, other):
            await asyncio.to_thread(running.says, "\nready\n")
            found.append(await scraped(site_of(running)))

    for now in found:
        assert now.value("queue_jobs", queue="default", status="pending") == 2
        assert now.value("queue_jobs", queue="default", status="paused") == 1
        assert now.value("queue_jobs", queue="default") == 3
        assert (now.value("workers_live"), now.has("queue_drain_seconds")) == (0, False)
        assert now.value("paused", name="tier:TIER_2K") == now.value("provider_open", provider="local") == 1
        assert (now.has("paused"), now.value("paused", name="buying")) == (True, 0)
        assert [one.labels for one in now.samples if one.name == "darkroom_budget_spent_ratio"] == [
            {"budget": "day_usd"}
        ]
        assert now.value("money_violations") == 2
        assert now.value("ticks_failed", task="roll-up-jobs") == 1
        assert now.has("calls_open")
        assert now.value("tick_age_seconds", task="audit-ledger") < 600


async def test_worker_leaves_no_folder_behind(fleet, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with darkroom("worker", "--processes", "1", environment=fleet.environment | AT_ANY_PORT, folder=tmp_path) as worker:
        await asyncio.to_thread(worker.says, "\nready\n")
        assert list(tmp_path.glob("darkroom-metrics-*"))
        worker.process.terminate()
        assert await asyncio.to_thread(worker.ends) == 0

    assert list(tmp_path.glob("*darkroom-metrics-*")) == []
