"""Counts of queues: made by one scheduler at a time, seldom where a queue is long, and read by everybody."""

import asyncio
import itertools
from datetime import timedelta
from types import SimpleNamespace

import pytest

from models.queue import counts
from models.queue.counts import count_queues, job_groups
from models.queue.stats import by_status
from tests.support.builders import claim_jobs, make_job, make_user, set_status

STATES = "SELECT status, held_by, jobs FROM darkroom.queue_counts ORDER BY 1, 2"


async def kept(database):
    return [tuple(row) for row in await database.fetch(STATES)]


async def make_due(database):
    await database.fetch("UPDATE darkroom.queue_counting SET due_at = now()")


async def test_one_of_many_schedulers_counts_when_it_is_due(database):
    for _ in range(3):
        await make_job(database)
    await claim_jobs(database)

    first = await asyncio.gather(*(count_queues(database) for _ in range(8)))
    again = await count_queues(database)
    await make_due(database)
    await make_job(database)
    later = await count_queues(database)

    assert [one for one in first if one is not None] == [3]
    assert (again, later) == (None, 4)
    assert await kept(database) == [("running", "", 1), ("waiting", "", 3)]


async def test_empty_queue_is_counted(database):
    await make_job(database)
    await count_queues(database)
    await database.fetch("DELETE FROM darkroom.job_queue")
    await make_due(database)

    assert await count_queues(database) == 0
    assert await kept(database) == []
    assert await database.run(job_groups) == []


async def test_count_that_took_long_is_repeated_after_a_hundred_times_as_long(database, monkeypatch):
    seconds = itertools.count(step=3)
    monkeypatch.setattr(counts, "time", SimpleNamespace(monotonic=lambda: next(seconds)))

    await count_queues(database)

    row = await database.fetchrow("SELECT took_s, due_at - as_of AS rest FROM darkroom.queue_counting")
    assert row["took_s"] == 3.0
    assert timedelta(seconds=300) <= row["rest"] < timedelta(seconds=330)


async def test_long_queue_is_read_as_it_was_counted_as_long_as_a_scheduler_counts(database):
    await make_job(database)
    await count_queues(database)
    await database.fetch("UPDATE darkroom.queue_counting SET jobs = 20001, as_of = now() - interval '20 s'")
    await make_job(database)

    (long,) = await database.run(job_groups)
    age_s = await database.fetchval("SELECT extract(epoch FROM now() - $1::timestamptz)::float8", long.as_of)
    await database.fetch("UPDATE darkroom.queue_counting SET as_of = now() - interval '31 s'")
    (stale,) = await database.run(job_groups)
    await database.fetch("UPDATE darkroom.queue_counting SET as_of = now(), jobs = 20000")
    (short,) = await database.run(job_groups)

    assert (long.jobs, stale.jobs, short.jobs) == (1, 2, 2)
    assert age_s >= 20


async def test_each_job_has_one_status_and_what_keeps_it(database):
    user = await make_user(database)
    jobs = [await make_job(database, user_id=user, tier=tier) for tier in ("TIER_1K", "TIER_2K", "TIER_4K", "FREE")]
    change = "UPDATE darkroom.job_queue SET status = 'retrying', ready = false, {} WHERE job_id = $1"
    await database.fetch(change.format("scheduled_at = now() + interval '1 h'"), jobs[1])
    run_at = "scheduled_at = now() + interval '2 h', run_at = now() + interval '2 h'"
    await database.fetch(change.format(run_at), jobs[2])
    await database.fetch(change.format("refused_since = now(), refused_state = 'P0001'"), jobs[3])
    await database.fetch("""INSERT INTO darkroom.settings VALUES ('pauses', '{"tier:TIER_1K": {}}')
                            ON CONFLICT (key) DO UPDATE SET value = excluded.value""")

    groups = await database.run(job_groups)

    assert {(one.status, one.held_by, one.jobs) for one in groups} == {
        ("waiting", "paused", 1),
        ("retrying", "", 1),
        ("scheduled", "", 1),
        ("retrying", "refused", 1),
    }
    now = groups[0].as_of
    assert [(one.status, one.count) for one in by_status(groups, now)] == [
        ("paused", 1),
        ("refused", 1),
        ("retrying", 1),
        ("scheduled", 1),
    ]


@pytest.mark.parametrize(("caps", "turns"), [('{"FREE": 2, "PREMIUM": 1}', 3.0), ('{"FREE": 8}', None)])
async def test_turns_are_those_of_the_user_whose_jobs_need_most(database, caps, turns):
    await database.fetch("INSERT INTO darkroom.settings VALUES ('user_caps', $1::text::jsonb)", caps)
    for tier, number in (("FREE", 6), ("PREMIUM", 4)):
        user = await make_user(database, tier=tier)
        for _ in range(number):
            await make_job(database, user_id=user)
    await claim_jobs(database, most=3)

    groups = await database.run(job_groups)

    held = [one for one in groups if one.held_by == "cap"]
    assert [one.turns for one in held] == ([turns] if turns else [])


async def test_end_leaves_the_counts(database):
    job = await make_job(database)
    await set_status(database, job, "CANCELLED")

    assert await database.run(job_groups) == []
