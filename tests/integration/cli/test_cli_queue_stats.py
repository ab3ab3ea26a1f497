"""`queue stats`: what waits in each queue, who works on it, and how long that takes."""

from uuid import uuid4

import pytest

from models.queue.counts import count_queues
from models.queue.leases import renew_lease
from tests.support.builders import claim_jobs, make_job, make_user, make_worker, set_stage_queues, set_status
from tests.support.calling import Arrange, Darkroom

SECONDS = """
INSERT INTO darkroom.recent_stages (job_type, tier, stage, runs, seconds, counts)
SELECT 'enhance', 'TIER_1K', k.stage, 100, 100 * k.seconds,
       darkroom.bucket_counts(ARRAY[darkroom.bucket_of(k.seconds)], ARRAY[100::bigint])
FROM (VALUES ('ANALYZING', 1.0), ('CROPPING', 0.5), ('PROMPTING', 0.5), ('GENERATING', 8.0)) k (stage, seconds)
"""
FIELDS = {
    *("queue", "waiting", "running", "retrying", "scheduled", "paused", "held", "refused", "suspect"),
    *("oldest_wait_s", "next_due_at", "drain_s", "lanes", "workers", "as_of"),
}


def queues(darkroom: Darkroom) -> list[dict[str, object]]:
    ran = darkroom("queue", "stats", "--json")
    assert ran.code == 0
    assert ran.json.keys() == {"queues", "statuses", "workers", "pauses"}
    assert all(row.keys() == FIELDS for row in ran.json["queues"])
    return ran.json["queues"]


def seconds_known(arrange: Arrange) -> None:
    arrange(lambda db: db.fetch(SECONDS))


def jobs(arrange: Arrange, number: int, **columns: object) -> list[str]:
    return [arrange(lambda db: make_job(db, **columns)) for _ in range(number)]


def test_queue_says_what_waits_who_works_and_how_long_it_takes(darkroom, arrange):
    seconds_known(arrange)
    arrange(lambda db: make_worker(db, lease_s=-60))
    worker = arrange(make_worker)
    jobs(arrange, 10)
    arrange(lambda db: claim_jobs(db, worker, most=2))

    (row,) = queues(darkroom)

    shown = {name: row[name] for name in FIELDS - {"oldest_wait_s", "as_of", "queue"}}
    assert shown == {
        "waiting": 8,
        "running": 2,
        "retrying": 0,
        "scheduled": 0,
        "paused": 0,
        "held": 0,
        "refused": 0,
        "suspect": 0,
        "next_due_at": None,
        "lanes": 4,
        "workers": 1,
        "drain_s": (8 * 10 + 10) / 4,
    }
    assert (row["queue"], row["oldest_wait_s"] >= 0) == ("default", True)


def test_drain_of_a_queue_ends_where_the_next_stage_has_another_queue(darkroom, arrange):
    seconds_known(arrange)
    arrange(lambda db: set_stage_queues(db, GENERATING="gpu"))
    worker = arrange(make_worker)
    jobs(arrange, 10)
    arrange(lambda db: claim_jobs(db, worker, most=2))

    here, there = queues(darkroom)

    assert (here["queue"], here["drain_s"]) == ("default", (8 * 2 + 2) / 4)
    assert (there["queue"], there["waiting"], there["workers"]) == ("gpu", 0, 0)


def test_drain_is_unknown_without_workers_times_or_while_all_is_paused(darkroom, arrange):
    jobs(arrange, 2)
    without_workers = queues(darkroom)
    worker = arrange(make_worker)
    without_times = queues(darkroom)
    seconds_known(arrange)
    known = queues(darkroom)
    darkroom("queue", "pause", "--tier", "1k")
    paused = queues(darkroom)
    darkroom("queue", "resume", "--tier", "1k")
    darkroom("queue", "pause", "--provider", "local")
    stopped = queues(darkroom)
    darkroom("queue", "resume", "--provider", "local")
    arrange(lambda db: claim_jobs(db, worker, most=2))
    all_run = queues(darkroom)

    drains = [rows[0]["drain_s"] for rows in (without_workers, without_times, known, paused, stopped, all_run)]
    assert drains == [None, None, 10.0, None, None, 0.0]
    assert (paused[0]["waiting"], paused[0]["paused"]) == (2, 2)


@pytest.mark.parametrize(
    ("limits", "drain_s"),
    [
        ("gemini/requests_per_minute=6", 40 / 6 * 61),
        ("gemini/images_per_minute=2", 20 / 2 * 61),
        ("gemini/concurrency=1", 20 * 9),
        ("gemini/requests_per_minute=600", 50),
    ],
)
def test_drain_is_bounded_by_the_limits_of_the_provider(darkroom, arrange, monkeypatch, limits, drain_s):
    monkeypatch.setenv("PROVIDER", "gemini")
    monkeypatch.setenv("GEMINI_API_KEY", "x")
    monkeypatch.setenv("DARKROOM_PROVIDER_LIMITS", limits)
    seconds_known(arrange)
    arrange(make_worker)
    jobs(arrange, 20)

    assert queues(darkroom)[0]["drain_s"] == pytest.approx(drain_s, abs=0.1)


def test_drain_waits_for_the_next_day_of_a_spent_quota(darkroom, arrange, monkeypatch):
    monkeypatch.setenv("PROVIDER", "gemini")
    monkeypatch.setenv("GEMINI_API_KEY", "x")
    monkeypatch.setenv("DARKROOM_PROVIDER_LIMITS", "gemini/images_per_day=2")
    seconds_known(arrange)
    arrange(make_worker)
    jobs(arrange, 7)

    # two today, two on each of the next two days, the last one on the third
    assert 2 * 86_400 < queues(darkroom)[0]["drain_s"] <= 3 * 86_400


def test_drain_is_bounded_by_the_cap_of_one_user(darkroom, arrange, monkeypatch):
    seconds_known(arrange)
    arrange(make_worker)
    darkroom("queue", "caps", "FREE=1")
    user = arrange(make_user)
    jobs(arrange, 6, user_id=user)
    arrange(claim_jobs)

    (row,) = queues(darkroom)

    assert (row["running"], row["waiting"], row["held"], row["drain_s"]) == (1, 5, 5, 50.0)


def test_queue_that_a_worker_serves_is_shown_without_jobs(darkroom, arrange):
    for names in (["default"], ["gpu", "default"]):
        arrange(lambda db, names=names: db.run(lambda connection: _serve(connection, names)))

    found = {row["queue"]: (row["waiting"], row["drain_s"], row["lanes"], row["workers"]) for row in queues(darkroom)}

    assert found == {"default": (0, 0.0, 16, 2), "gpu": (0, 0.0, 8, 1)}


async def _serve(connection, names):
    await renew_lease(connection, uuid4(), host="here", pid=1, queues=names, lanes=8, lease_s=60)


def test_oldest_wait_is_that_of_jobs_that_wait(darkroom, arrange):
    worker = arrange(make_worker)
    jobs(arrange, 1)
    arrange(lambda db: db.fetch("UPDATE darkroom.job_queue SET created_at = now() - interval '1 h'"))
    arrange(lambda db: claim_jobs(db, worker))
    none_waits = queues(darkroom)
    jobs(arrange, 1)
    arrange(lambda db: db.fetch("UPDATE darkroom.job_queue SET created_at = now() - interval '60 s' WHERE ready"))

    assert none_waits[0]["oldest_wait_s"] == 0
    assert 60 <= queues(darkroom)[0]["oldest_wait_s"] < 120


def test_long_queue_is_shown_as_it_was_counted_with_its_time(darkroom, arrange):
    jobs(arrange, 2)
    arrange(count_queues)
    arrange(lambda db: db.fetch("UPDATE darkroom.queue_counting SET jobs = 20001, as_of = now() - interval '20 s'"))
    jobs(arrange, 1)

    (row,) = queues(darkroom)
    out = darkroom("queue", "stats").out

    assert row["waiting"] == 2
    assert row["as_of"] == arrange(lambda db: db.fetchval("SELECT as_of FROM darkroom.queue_counting")).isoformat(
        timespec="milliseconds"
    ).replace("+00:00", "Z")
    assert "counted 2" in out
    assert "long queues are counted seldom" in out


def test_people_see_each_queue_in_eighty_columns(darkroom, arrange, monkeypatch):
    seconds_known(arrange)
    arrange(make_worker)
    job = jobs(arrange, 12)[0]
    arrange(lambda db: set_status(db, job, "CANCELLED"))
    darkroom("queue", "pause", "--tier", "1k")

    out = darkroom("queue", "stats").out

    assert "11 paused" in out
    title = out.splitlines()[0]
    assert title.split("kept back")[0].split() == [
        *("queue", "waiting", "running", "retrying", "scheduled", "oldest", "wait", "to", "drain", "lanes")
    ]
    assert len(title.split("kept back")[0].rstrip()) <= 80
