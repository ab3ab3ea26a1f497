"""Pixel children that are started in advance, and kept running."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from pipelines.errors import BadImageError
from pipelines.imaging import pixel_child
from pipelines.imaging.pool import PixelPool
from pipelines.providers.local.provider import CHILD_IMPORTS
from tests.support import imaging_tasks as tasks
from tests.unit.pipelines.imaging.test_imaging_pool import is_gone, until


@pytest.fixture
async def warm(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PixelPool]:
    monkeypatch.setattr(pixel_child, "WARM_LOOK_S", 0.1)
    async with PixelPool(size=1, imports=CHILD_IMPORTS) as pool:
        pool.keep_warm(1)
        await until(lambda: len(pool.child_pids) == 1)
        yield pool


async def test_warm_pool_has_its_child_and_its_imports_before_the_first_task(warm: PixelPool) -> None:
    (before,) = warm.child_pids

    assert await warm.run(tasks.pid) == before
    assert await warm.run(tasks.is_imported, "pipelines.providers.local.work")
    for slow in ("ncnn", "pydantic", "asyncio", "importlib.metadata"):
        assert not await warm.run(tasks.is_imported, slow)


async def test_warm_child_killed_while_idle_is_started_again_without_a_task(warm: PixelPool) -> None:
    first = await warm.run(tasks.pid)

    os.kill(first, signal.SIGKILL)
    await until(lambda: bool(warm.child_pids) and warm.child_pids[0] != first)

    assert is_gone(first)
    assert await warm.run(tasks.pid) == warm.child_pids[0]


async def test_warm_child_that_crashed_at_work_is_started_again_without_a_task(warm: PixelPool) -> None:
    first = await warm.run(tasks.pid)

    with pytest.raises(BadImageError):
        await warm.run(tasks.end_by, signal.SIGSEGV)
    await until(lambda: bool(warm.child_pids) and warm.child_pids[0] != first)

    assert await warm.run(tasks.pid) == warm.child_pids[0]


async def test_warm_pool_starts_as_many_children_as_told_and_more_when_they_are_busy() -> None:
    async with PixelPool(size=3) as pool:
        pool.keep_warm(2)
        await until(lambda: len(pool.child_pids) == 2)
        await asyncio.gather(*(pool.run(tasks.sleep, 0.3) for _ in range(3)))

        assert len(pool.child_pids) == 3


async def test_child_that_cannot_start_ahead_is_logged_and_tried_until_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_child, "FIRST_WAIT_S", 0.1)
    python = sys.executable
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with capture_logs() as said:
        async with PixelPool(size=1) as pool:
            pool.keep_warm(2)
            await until(lambda: len(said) >= 2)
            with pytest.raises(FileNotFoundError):  # a task that comes meanwhile says what was refused
                await pool.run(tasks.pid)
            monkeypatch.setattr(sys, "executable", python)
            await until(lambda: said[-1]["event"] == "pixel_child_started")

            assert await pool.run(tasks.pid) in pool.child_pids

    assert {line["event"] for line in said[:-1]} == {"pixel_child_start_failed"}
    assert [line["retry_in_s"] for line in said[:2]] == [0.1, 0.2]
    assert "/nowhere/python" in said[0]["error"]


async def test_child_whose_imports_fail_is_logged_with_what_they_said() -> None:
    with capture_logs() as said:
        async with PixelPool(size=1, imports=("pipelines.no_such_module",)) as pool:
            pool.keep_warm(2)
            await until(lambda: len(said) == 1)

    assert "no_such_module" in said[0]["evidence"]


async def test_warm_pool_closed_while_it_starts_leaves_no_child() -> None:
    pool = PixelPool(size=2)
    pool.keep_warm(2)
    await until(lambda: len(pool.child_pids) == 2)
    pids = pool.child_pids

    with capture_logs() as said:
        await pool.close()

    assert all(map(is_gone, pids))
    assert said == []
    with pytest.raises(RuntimeError, match="closed"):
        await pool.run(tasks.pid)
