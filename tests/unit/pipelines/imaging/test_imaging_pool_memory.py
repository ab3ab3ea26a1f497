"""A pixel task that fails leaves no cycle, so its picture is freed at once and not by a later garbage collection."""

import asyncio
import contextlib
import signal
import sys

import psutil
import pytest

from pipelines.errors import StageError
from pipelines.imaging.pool import PixelPool
from tests.support import imaging_tasks as tasks
from tests.support.freed import Picture, require_freed, uncollected
from tests.support.kept_pixels import kept_children, pixels
from tests.unit.pipelines.imaging.test_imaging_pool import until

__all__ = ["kept_children", "pixels", "uncollected"]

pytestmark = pytest.mark.usefixtures("uncollected")


@pytest.mark.parametrize(
    "task",
    [("echo", 1), ("refuse", "bad"), ("fail",), ("throttle",), ("end_by", signal.SIGSEGV), ("attack",), ("sleep", 60)],
    ids=lambda task: task[0],
)
async def test_picture_of_a_task_that_ended_is_freed(pixels: PixelPool, task: tuple[object, ...]) -> None:
    async def work(picture: Picture) -> None:
        with contextlib.suppress(StageError):
            await pixels.run(tasks.work_on, picture, *task, wall_s=2)

    await require_freed(work)


async def test_picture_that_can_not_be_sent_is_freed(pixels: PixelPool) -> None:
    async def work(picture: Picture) -> None:
        with contextlib.suppress(Exception):
            await pixels.run(tasks.work_on, picture, lambda: None)

    await require_freed(work)


async def test_picture_of_a_cancelled_task_is_freed(pixels: PixelPool) -> None:
    await pixels.run(tasks.pid)

    async def work(picture: Picture) -> None:
        running = asyncio.create_task(pixels.run(tasks.work_on, picture, "sleep", 60))
        await asyncio.sleep(0.2)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running

    await require_freed(work)


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is kept as told by glibc")
async def test_child_gives_back_what_it_kept_once_it_is_idle() -> None:
    async with PixelPool(size=1) as pool:
        await pool.run(tasks.picture, 8)
        (pid,) = pool.child_pids
        before = psutil.Process(pid).memory_info().rss
        await pool.run(tasks.picture, 3000)  # of 27 MB
        assert await pool.run(tasks.peak_memory_bytes) > before + 27_000_000

        await until(lambda: psutil.Process(pid).memory_info().rss < before + 10_000_000)
