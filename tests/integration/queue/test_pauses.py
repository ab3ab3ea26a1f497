"""Operators' pauses: paused jobs aren't claimed, others are, and the maximum wait doesn't count the time."""

import asyncio
from datetime import timedelta

import pytest

from models.gate.provider_calls import Admitted, CallPlan, open_call, provider_wait
from models.queue.claims import _claim, wake_due
from models.queue.pause_records import remember_pause
from models.queue.pauses import hold_paused
from models.queue.rescue import end_overdue_jobs
from models.queue.transitions import Retried, record
from tests.support.builders import (
    claim_jobs,
    job_row,
    make_claim,
    make_generation,
    make_image,
    make_job,
    make_user,
    make_worker,
    queue_row,
)

RIGHT_NOW = timedelta()
MANY = """
INSERT INTO public.image_enhancement_jobs (id, "imageId", "userId", tier, "tokensCost", status, "updatedAt")
SELECT $3 || n, $1, $2, $4::text::public."EnhancementTier", 0, 'PENDING', now() FROM generate_series(1, $5) n
"""


async def pause(database, *names, seconds_ago=0):
    await database.fetch(
        """INSERT INTO darkroom.settings AS s (key, value)
           SELECT 'pauses', jsonb_object_agg(name, jsonb_build_object('actor', 'ann', 'reason', 'test',
               'at', now() - make_interval(secs => $2))) FROM unnest($1::text[]) name
           ON CONFLICT (key) DO UPDATE SET value = s.value || excluded.value""",
        list(names),
        float(seconds_ago),
    )


async def resume(database, name):
    async def change(connection):
        async with connection.transaction():
            await remember_pause(connection, name)
            await connection.execute("UPDATE darkroom.settings SET value = value - $1 WHERE key = 'pauses'", name)

    await database.run(change)


async def age(database, seconds):
    """Let so much time pass for queue and pauses."""
    await database.fetch("UPDATE darkroom.job_queue SET created_at = created_at - make_interval(secs => $1)", seconds)
    await database.fetch(
        """UPDATE darkroom.past_pauses SET paused_at = paused_at - make_interval(secs => $1),
               resumed_at = resumed_at - make_interval(secs => $1)""",
        seconds,
    )
    await database.fetch(
        """UPDATE darkroom.settings s SET value = (
               SELECT coalesce(jsonb_object_agg(p.key, p.value || jsonb_build_object(
                   'at', (p.value ->> 'at')::timestamptz - make_interval(secs => $1))), '{}')
               FROM jsonb_each(s.value) p)
           WHERE s.key = 'pauses'""",
        seconds,
    )


async def claimed_ids(database, most=10):
    return {claim.job_id for claim in await claim_jobs(database, most=most)}


@pytest.mark.parametrize("name", ["queue:default", "type:enhance", "tier:TIER_4K"])
async def test_what_is_paused_is_not_claimed_and_goes_on_when_resumed(database, name):
    before = await make_job(database, tier="TIER_4K")
    await pause(database, name)
    after = await make_job(database, tier="TIER_4K")

    paused = await claimed_ids(database)
    statuses = {(await job_row(database, job))["status"] for job in (before, after)}
    await resume(database, name)
    await database.run(wake_due)

    assert paused == set()
    assert statuses == {"PENDING"}
    assert await claimed_ids(database) == {before, after}


async def test_paused_tier_or_type_lets_others_through(database):
    await make_job(database, tier="TIER_4K")
    words, small = await make_generation(database), await make_job(database)
    await pause(database, "tier:TIER_4K", "type:generate")

    assert await claimed_ids(database) == {small}
    assert (await queue_row(database, words))["paused_by"] == "type:generate"


async def test_resumed_jobs_come_back_to_their_turn(database):
    first = await make_job(database, tier="TIER_4K")
    await pause(database, "tier:TIER_4K")
    await claimed_ids(database)
    second = await make_job(database)
    await resume(database, "tier:TIER_4K")
    await database.run(wake_due)

    assert [claim.job_id for claim in await claim_jobs(database, most=2)] == [first, second]


async def test_running_job_finishes_and_its_retry_waits(database):
    held = await make_claim(database)
    await pause(database, "type:enhance")
    await database.run(lambda connection: record(connection, held, Retried(held.stage, "again", RIGHT_NOW)))

    assert await claimed_ids(database) == set()
    assert (await queue_row(database, held.job_id))["paused_by"] == "type:enhance"


async def test_job_under_two_pauses_waits_for_both(database):
    job = await make_job(database, tier="TIER_4K")
    await pause(database, "tier:TIER_4K", "type:enhance")
    await claimed_ids(database)
    await resume(database, "type:enhance")
    await database.run(wake_due)
    after_one = await claimed_ids(database)
    await resume(database, "tier:TIER_4K")
    await database.run(wake_due)

    assert after_one == set()
    assert await claimed_ids(database) == {job}


async def test_cancelled_while_paused_is_refunded_as_ever(database):
    job = await make_job(database, tier="TIER_4K")
    await pause(database, "tier:TIER_4K")
    await claimed_ids(database)

    await database.fetch("SELECT darkroom.cancel_job($1)", job)

    assert (await job_row(database, job))["status"] == "CANCELLED"
    assert await queue_row(database, job) is None


@pytest.mark.parametrize("is_paid", [True, False])
async def test_paused_provider_is_not_called(database, is_paid):
    claim = await make_claim(database)
    await pause(database, "provider:gemini")
    plan = CallPlan("gemini", "generate", may_be_paid=is_paid)

    refused = await database.run(lambda connection: open_call(connection, claim, plan))
    shut = await database.run(lambda connection: provider_wait(connection, "gemini", {}, is_paid=is_paid))
    await resume(database, "provider:gemini")

    assert (refused.kind, refused.reason, shut.kind) == ("stopped", "an operator paused it: test", "stopped")
    assert isinstance(await database.run(lambda connection: open_call(connection, claim, plan)), Admitted)


async def crowd(database, count):
    user = await make_user(database)
    image = await make_image(database, user)
    await database.fetch(MANY, image, user, "big", "FREE", count)
    await database.fetch("ANALYZE")
    return user


async def test_claims_behind_thousands_of_paused_jobs_read_none_of_them(database):
    user = await crowd(database, 20_000)
    await pause(database, "type:enhance")
    others = {await make_generation(database, user_id=user) for _ in range(5)}  # another user's would come first

    first = await claimed_ids(database, 3)  # holds what it meets
    worker = await make_worker(database)
    async with database.connection() as connection, connection.transaction():
        rows = await connection.fetchval(
            f"EXPLAIN (ANALYZE, FORMAT JSON) {_claim(8)}", "default", 7, worker, {"GENERATING": 60}
        )
        read = [node for node in nodes(rows[0]["Plan"]) if node.get("Relation Name") == "job_queue"]

    assert len(first) == 3
    assert first < others
    assert max(node["Actual Rows"] for node in read) <= 8
    assert await database.fetchval("SELECT count(*) FROM darkroom.job_queue WHERE paused_by IS NOT NULL") == 20_000


def nodes(plan):
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


async def test_jobs_that_enter_while_paused_step_aside_at_once(database):
    await pause(database, "type:enhance")
    await crowd(database, 100)

    assert await database.fetchval("SELECT count(*) FROM darkroom.job_queue WHERE ready") == 0


async def test_pause_is_not_counted_in_the_maximum_wait(database):
    job = await make_job(database, tier="TIER_4K")
    await age(database, 1_000.0)
    await pause(database, "tier:TIER_4K")
    await age(database, 5_000.0)
    while_paused = await end_overdue_jobs(database, 3_600)
    await resume(database, "tier:TIER_4K")
    await age(database, 2_000.0)
    after_3000_s = await end_overdue_jobs(database, 3_600)
    await age(database, 1_000.0)
    after_4000_s = await end_overdue_jobs(database, 3_600)

    assert (while_paused, after_3000_s, after_4000_s) == (0, 0, 1)
    assert (
        "not finished within 3600 s (and 5000 s of operators' pauses)" in (await job_row(database, job))["errorMessage"]
    )


async def test_pauses_at_the_same_time_are_subtracted_once(database):
    await make_job(database, tier="TIER_4K")
    await pause(database, "tier:TIER_4K", "type:enhance", "queue:default")
    await age(database, 5_000.0)
    for name in ("tier:TIER_4K", "type:enhance", "queue:default"):
        await resume(database, name)
    await age(database, 3_700.0)

    assert await end_overdue_jobs(database, 3_600) == 1


@pytest.mark.parametrize(("paused", "ended"), [(["gemini"], 1), (["gemini", "openai"], 0)])
async def test_provider_pause_counts_while_no_other_provider_is_left(database, paused, ended):
    await make_job(database)
    await pause(database, *(f"provider:{name}" for name in paused))
    await age(database, 5_000.0)
    stops = [["provider:gemini", "buying"], ["provider:openai", "buying"]]

    assert await end_overdue_jobs(database, 3_600, stops) == ended


async def test_kill_switch_is_not_counted_either(database):
    await make_job(database)
    await database.fetch(
        """INSERT INTO darkroom.settings VALUES ('buying', '{"stopped": true}', now() - interval '2 h')"""
    )
    await age(database, 5_000.0)

    assert await end_overdue_jobs(database, 3_600, [["provider:gemini", "buying"]]) == 0
    assert await end_overdue_jobs(database, 3_600, [["provider:local"]]) == 1


async def test_paused_jobs_hide_no_overdue_one_behind_them(database):
    user = await crowd(database, 2_500)
    late = await make_generation(database, user_id=user)
    await pause(database, "type:enhance")
    await age(database, 5_000.0)

    assert await end_overdue_jobs(database, 3_600) == 1
    assert (await job_row(database, late))["status"] == "REFUNDED"


async def test_claims_pauses_and_cancels_at_once_lose_no_job_and_claim_none_twice(database, connect):
    user = await make_user(database)
    image = await make_image(database, user)
    await database.fetch(MANY, image, user, "a", "FREE", 600)
    generations = [await make_generation(database, user_id=user, tier="FREE") for _ in range(60)]
    workers = [await make_worker(database) for _ in range(6)]
    program = await connect()
    claimed = []

    async def work(worker, rounds):
        for _ in range(rounds):
            claimed.extend(claim.job_id for claim in await claim_jobs(database, worker, most=5))

    async def toggle():
        for _ in range(4):
            await pause(database, "type:enhance")
            await database.run(lambda connection: hold_paused(connection, "default"))
            await resume(database, "type:enhance")
            await database.run(wake_due)

    async def cancel():
        for number in range(1, 41):
            await program.execute(
                "UPDATE public.image_enhancement_jobs SET status = 'CANCELLED' WHERE id = $1", f"a{number * 15}"
            )

    await asyncio.gather(*(work(worker, 8) for worker in workers), toggle(), cancel())
    await pause(database, "type:enhance")
    before = len(claimed)
    await asyncio.gather(*(work(worker, 5) for worker in workers))
    while_paused = claimed[before:]
    await resume(database, "type:enhance")
    while await database.fetchval("SELECT count(*) FROM darkroom.job_queue WHERE status = 'pending'"):
        await database.run(wake_due)
        await work(workers[0], 20)

    cancelled = await database.fetchval("SELECT count(*) FROM darkroom.jobs WHERE status = 'CANCELLED'")
    taken = {row["job_id"] for row in await database.fetch("SELECT job_id FROM darkroom.job_queue")}
    assert len(claimed) == len(set(claimed))
    assert set(while_paused) <= set(generations)
    assert cancelled == 40
    assert taken <= set(claimed)
    assert len(taken) == 660 - cancelled
