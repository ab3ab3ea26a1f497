"""Waits for a pixel child and for bytes: they count against no deadline, and end at once if the job is told to end."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from pipelines.deadline import Deadline
from pipelines.imaging.budget import ByteBudget
from pipelines.imaging.pool import PixelPool
from tests.support import imaging_tasks as tasks
from tests.support.kept_pixels import pixels
from tests.support.patience import HANGS_AFTER_S, is_within

__all__ = ["pixels"]

BUSY_S = 1.0
DEADLINE_S = 0.4


@pytest.fixture
async def busy(pixels: PixelPool) -> AsyncIterator["asyncio.Task[None]"]:
    """Let the pool's only child be busy for longer than the deadlines of these tests."""
    await pixels.run(tasks.pid)
    task = asyncio.create_task(pixels.run(tasks.sleep, BUSY_S))
    await asyncio.sleep(0.05)
    yield task
    await task


async def test_wait_for_a_child_counts_against_no_deadline(pixels: PixelPool, busy: "asyncio.Task[None]") -> None:
    with Deadline(DEADLINE_S):
        assert await pixels.run(tasks.pid) == pixels.child_pids[0]


async def test_wait_for_decoded_bytes_counts_against_no_deadline() -> None:
    async with PixelPool(size=2, budget_bytes=100) as pool:
        await asyncio.gather(*(pool.run(tasks.sleep, 0.1, task_bytes=50) for _ in range(2)))
        busy = asyncio.create_task(pool.run(tasks.sleep, BUSY_S, task_bytes=100))
        await asyncio.sleep(0.05)
        with Deadline(DEADLINE_S):
            await pool.run(tasks.pid, task_bytes=1)
        await busy


async def test_wait_for_the_bytes_of_inputs_counts_against_no_deadline() -> None:
    budget = ByteBudget(100)

    async def hold() -> None:
        async with budget.hold(100):
            await asyncio.sleep(BUSY_S)

    holding = asyncio.create_task(hold())
    await asyncio.sleep(0)
    with Deadline(DEADLINE_S):
        async with budget.hold(1):
            assert budget.free_bytes == 99
    await holding


async def test_time_for_which_a_child_works_counts_and_its_end_frees_the_next(pixels: PixelPool) -> None:
    first = await pixels.run(tasks.pid)

    async def hang() -> None:
        with Deadline(DEADLINE_S):
            await pixels.run(tasks.sleep, 60)

    hanging = asyncio.create_task(hang())
    await asyncio.sleep(0.05)
    with Deadline(HANGS_AFTER_S):
        assert await pixels.run(tasks.pid) != first
    with pytest.raises(TimeoutError):
        await hanging


async def test_job_that_waits_ends_at_once_and_leaves_its_turn_to_the_next(
    pixels: PixelPool, busy: "asyncio.Task[None]"
) -> None:
    waiting = asyncio.create_task(pixels.run(tasks.sleep, 60))
    behind = asyncio.create_task(pixels.run(tasks.pid))
    await asyncio.sleep(0.05)
    began_s = time.monotonic()
    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert is_within(time.monotonic() - began_s, 0.2)
    assert not busy.done()
    assert await behind == pixels.child_pids[0]
