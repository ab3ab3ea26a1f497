"""Jobs of the third table that wait for a time or for their producer; run by test_third_table.py with its plugin."""

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from models.job_state import JobStatus
from models.queue.claims import wake_due
from models.queue.rescue import adopt_jobs
from models.queue.sweep import Sweep
from models.queue.transitions import Completed
from tests.integration.third_table.scenarios import claimed, credits_of, make_order, order_row, write, write_state
from tests.support.builders import claim_jobs, queue_row


async def claimable(database):
    """Return the jobs that a worker would get now, once what is due was made ready."""
    await database.run(wake_due)
    return [claim.job_id for claim in await claim_jobs(database, most=9)]


async def test_held_job_is_charged_and_queued_and_waits_for_its_producer(database):
    order = await make_order(database, state="draft")

    assert await credits_of(database) == 8
    assert (await queue_row(database, order))["job_type"] == "frame"
    assert await claimable(database) == []

    await write_state(database, order, "new")

    assert await claimable(database) == [order]
    assert await credits_of(database) == 8


async def test_waiting_job_can_be_held_again_by_its_producer(database):
    order, other = await make_order(database), await make_order(database)

    await write_state(database, order, "draft")

    assert await claimable(database) == [other]


async def test_held_job_that_is_stopped_is_refunded(database):
    order = await make_order(database, state="draft")

    await write_state(database, order, "stopped")

    assert await queue_row(database, order) is None
    assert await credits_of(database) == 10


@pytest.mark.parametrize(("before", "after"), [("draft", "working"), ("working", "draft"), ("draft", "done")])
async def test_change_that_passes_by_the_producer_is_refused(database, before, after):
    order = await make_order(database, state="draft" if before == "draft" else "new")
    if before == "working":
        assert await claimable(database) == [order]

    with pytest.raises(asyncpg.CheckViolationError):
        await write_state(database, order, after)

    assert (await order_row(database, order))["state"] == before


async def test_held_job_that_is_taken_in_goes_on_waiting(database):
    order = await make_order(database, state="draft")
    await database.fetch("DELETE FROM darkroom.job_queue")

    assert await adopt_jobs(database, page=await Sweep().next_page(database)) == (1, 0)

    assert await queue_row(database, order) is not None
    assert await claimable(database) == []


async def test_job_waits_for_its_time_and_follows_it(database):
    order = await make_order(database, due=datetime.now(UTC) + timedelta(hours=1))
    assert await claimable(database) == []

    await database.fetch("UPDATE public.frame_orders SET due = now() + interval '2 hours'")
    assert (await queue_row(database, order))["scheduled_at"] > datetime.now(UTC) + timedelta(minutes=90)
    await database.fetch("UPDATE public.frame_orders SET due = now() - interval '1 s'")

    assert await claimable(database) == [order]


async def test_job_for_later_takes_its_turn_when_it_is_due_and_puts_off_no_other(database):
    times = [datetime.now(UTC) + timedelta(hours=1), None, datetime.now(UTC) + timedelta(hours=1), None]
    first, drafted = await make_order(database, due=times[0]), await make_order(database, state="draft")
    rows = await database.fetch(
        """INSERT INTO public.frame_orders (customer, photo_key, price, due)
           SELECT 8, 'p', 0, t FROM unnest($1::timestamptz[]) t RETURNING id::text""",
        times,
    )
    orders = [row["id"] for row in rows]
    now = await database.fetchval("SELECT darkroom.virtual_time()")
    assert [(await queue_row(database, order))["position"] for order in orders[1::2]] == [now, now + 1_000_000]
    held = {order: (await queue_row(database, order))["held_by"] for order in (first, drafted, *orders)}
    assert held == {first: "tag", drafted: "tag", orders[0]: "tag", orders[1]: None, orders[2]: "tag", orders[3]: None}

    await database.fetch("UPDATE public.frame_orders SET due = now() - interval '1 s', state = 'new'")

    assert set(await claimable(database)) == {first, drafted, *orders}
    finishes = await database.fetch("SELECT user_id, (finish - $1) / 1000000 AS tokens FROM darkroom.turns", now)
    assert {row["user_id"]: row["tokens"] for row in finishes} == {
        "7": 6,
        "8": 4,
    }


async def test_job_whose_time_is_past_or_unset_is_due_at_once(database):
    orders = [await make_order(database, due=due) for due in (datetime.now(UTC) - timedelta(days=1), None)]

    assert await claimable(database) == orders


async def test_time_of_a_claimed_job_changes_nothing_for_its_claim(database):
    claim = await claimed(database)

    await database.fetch("UPDATE public.frame_orders SET due = now() + interval '1 hour'")

    assert await write(database, claim, Completed("GENERATING", 1, {"print_key": "k"})) == JobStatus.COMPLETED


async def test_held_job_of_a_paused_tier_waits_for_its_producer_first(database):
    await database.run(lambda c: c.execute("INSERT INTO darkroom.settings VALUES ('pauses', '{\"type:frame\": {}}')"))
    order = await make_order(database, state="draft")
    await database.fetch("DELETE FROM darkroom.settings WHERE key = 'pauses'")

    assert await claimable(database) == []
    await write_state(database, order, "new")

    assert await claimable(database) == [order]
