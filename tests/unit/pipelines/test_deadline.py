"""Deadlines that stand still while a job waits for something that others hold."""

import asyncio
import weakref

import pytest

from pipelines.deadline import Deadline, deadlines_paused
from tests.support.patience import HANGS_AFTER_S


async def test_deadline_ends_a_block_that_is_too_slow():
    with pytest.raises(TimeoutError), Deadline(0.01):
        await asyncio.sleep(60)


async def pause_and_hang(outer, left):
    with Deadline(0.05) as inner:
        with deadlines_paused():
            await asyncio.sleep(0.1)
            left.append((outer.left_s, inner.ends_s))
        left.append(inner.ends_s)
        await asyncio.sleep(60)


async def test_all_deadlines_around_a_pause_stand_still_and_go_on_after_it():
    left = []
    with Deadline(30) as outer, pytest.raises(TimeoutError):
        await pause_and_hang(outer, left)

    (left_s, paused), resumed = left
    assert (29 < left_s <= 30, paused, resumed is None, outer.expired()) == (True, None, False, False)


async def test_deadline_that_begins_anew_gives_the_rest_of_its_block_as_long_as_the_whole():
    with Deadline().within(30) as deadline:
        planned_s = deadline.planned_s
        await asyncio.sleep(0.01)
        deadline.restart()
        assert deadline.planned_s >= planned_s + 0.01
        assert deadline.ends_s == deadline.planned_s
        assert deadline.left_s == pytest.approx(30, abs=1)


async def test_pause_without_a_deadline_changes_nothing():
    with deadlines_paused():
        await asyncio.sleep(0)


async def test_task_that_is_cancelled_as_its_deadline_ends_stays_cancelled():
    async def hang():
        with Deadline(0.01) as deadline:
            asyncio.get_running_loop().call_later(0.01, cancel_with, deadline)
            await asyncio.sleep(60)

    def cancel_with(deadline):
        deadline.expire()
        task.cancel()

    task = asyncio.create_task(hang())
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_blocks_that_follow_each_other_have_each_its_own_time():
    deadline = Deadline()
    with deadline.within(0.05):
        await asyncio.sleep(0)
    await asyncio.sleep(0.2)
    with pytest.raises(TimeoutError), deadline.within(0.01):
        await asyncio.sleep(60)
    with deadline.within(30):
        await asyncio.sleep(0)

    assert not deadline.expired()


async def test_pause_that_outlives_its_block_starts_no_deadline_again():
    may_end = asyncio.Event()

    async def wait_for_others():
        with deadlines_paused():
            await may_end.wait()

    deadline = Deadline()
    with deadline.within(0.01):
        waiting = asyncio.create_task(wait_for_others())
        await asyncio.sleep(0)
    may_end.set()
    await waiting

    assert deadline.ends_s is None


async def test_deadline_of_a_task_that_has_ended_is_forgotten():
    async def work():
        with Deadline(60):
            await asyncio.sleep(0)
        return weakref.ref(asyncio.current_task())

    ended = await asyncio.create_task(work())
    async with asyncio.timeout(HANGS_AFTER_S):
        while ended() is not None:  # noqa: ASYNC110 - nothing tells of the end of a reference
            await asyncio.sleep(0.01)
