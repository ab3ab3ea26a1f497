import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from pipelines.errors import BadImageError, CropTooSmallError, PermanentError, PixelChildLostError
from pipelines.imaging.decode import decode
from pipelines.imaging.header import DecodeLimits
from pipelines.imaging.pixel_child import PixelFunctionError, Task, _late
from pipelines.imaging.pool import PixelPool
from tests.support import imaging_tasks as tasks
from tests.support.imaging_pictures import encoded, jpeg_of_scans, photo, png_bomb
from tests.support.patience import HANGS_AFTER_S

GIGABYTE = 1_000_000_000


@pytest.fixture
async def pool() -> AsyncIterator[PixelPool]:
    async with PixelPool(size=1) as one:
        yield one


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(HANGS_AFTER_S):
        while not condition():  # noqa: ASYNC110 - the condition is another process's
            await asyncio.sleep(0.01)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def busy_child(pool: PixelPool, run: "asyncio.Task[None]", pid: int) -> None:
    """Wait until the child computes for this task."""
    before = sum(psutil.Process(pid).cpu_times()[:2])
    await until(lambda: run.done() or sum(psutil.Process(pid).cpu_times()[:2]) > before + 0.05)


async def test_run_gives_the_result_and_keeps_the_child_warm(pool: PixelPool) -> None:
    first = await pool.run(tasks.pid)
    second = await pool.run(tasks.pid)

    assert first == second == pool.child_pids[0] != os.getpid()


async def test_run_carries_pictures_both_ways(pool: PixelPool) -> None:
    decoded = await pool.run(decode, encoded(photo(), "PNG"), DecodeLimits())

    assert np.array_equal(decoded.pixels, np.asarray(photo()))


async def test_run_carries_tens_of_megabytes_with_little_work(pool: PixelPool) -> None:
    await pool.run(tasks.pid)
    load = bytes(25_000_000)
    before_s = time.process_time()

    assert await pool.run(tasks.echo, load) == load
    assert (await pool.run(tasks.picture, 4096)).shape == (4096, 4096, 3)

    assert time.process_time() - before_s < 5


async def test_run_in_a_loop_of_another_thread_works() -> None:
    async def work() -> int:
        async with PixelPool(size=1) as pool:
            return await pool.run(tasks.pid)

    assert await asyncio.to_thread(asyncio.run, work()) != os.getpid()


async def test_run_uses_as_many_children_as_it_may() -> None:
    async with PixelPool(size=2) as pool:
        pids = await asyncio.gather(*(pool.run(tasks.spin, 0.1) for _ in range(4)), pool.run(tasks.pid))

        assert len(pool.child_pids) == 2
        assert pids[-1] in pool.child_pids


async def test_child_sees_no_secret_and_writes_no_file(
    pool: PixelPool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", "hidden")

    assert "hidden" not in str(await pool.run(tasks.environment))
    with pytest.raises(PixelFunctionError, match="OSError"):
        await pool.run(tasks.write_file, str(tmp_path / "file"))


async def test_child_that_prints_keeps_the_protocol(pool: PixelPool) -> None:
    assert await pool.run(tasks.chatter) == "said"
    assert await pool.run(tasks.echo, 1) == 1


async def test_refusal_arrives_with_its_type_message_and_evidence(pool: PixelPool) -> None:
    with pytest.raises(BadImageError, match="no good") as refused:
        await pool.run(tasks.refuse, "no good")
    with pytest.raises(CropTooSmallError):
        await pool.run(tasks.refuse_crop)
    with pytest.raises(PermanentError, match="not now"):
        await pool.run(tasks.throttle)

    assert refused.value.evidence == "what the decoder said"


async def test_undeclared_failure_says_where_and_the_child_lives(pool: PixelPool) -> None:
    before = await pool.run(tasks.pid)

    with pytest.raises(PixelFunctionError, match=r"pixel work failed: KeyError in .*imaging_tasks\.fail") as failed:
        await pool.run(tasks.fail)

    assert "Traceback" in str(failed.value.evidence)
    assert await pool.run(tasks.pid) == before


@pytest.mark.parametrize("function", [tasks.attack, tasks.unpicklable])
async def test_answer_that_may_not_cross_is_refused(pool: PixelPool, function: Callable[[], object]) -> None:
    with pytest.raises(PixelFunctionError):
        await pool.run(function)

    assert await pool.run(tasks.echo, 2) == 2


async def test_function_that_no_child_could_import_is_refused(pool: PixelPool) -> None:
    with pytest.raises(ValueError, match="top level of an importable module"):
        await pool.run(lambda: None)


async def test_child_killed_while_idle_is_replaced_unseen(pool: PixelPool) -> None:
    first = await pool.run(tasks.pid)
    os.kill(first, signal.SIGKILL)
    await until(lambda: is_gone(first))

    assert await pool.run(tasks.pid) != first


async def test_child_killed_at_work_is_lost_and_the_next_task_runs(pool: PixelPool) -> None:
    pid = await pool.run(tasks.pid)
    run = asyncio.create_task(pool.run(tasks.spin, 30))
    await busy_child(pool, run, pid)
    os.kill(pid, signal.SIGKILL)

    with pytest.raises(PixelChildLostError, match=r"imaging_tasks.spin was lost \(SIGKILL\)"):
        await run
    assert await pool.run(tasks.pid) != pid


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_signal_to_the_whole_group_leaves_the_child_alone(pool: PixelPool, number: signal.Signals) -> None:
    pid = await pool.run(tasks.pid)
    os.kill(pid, number)

    assert await pool.run(tasks.pid) == pid


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT])
async def test_crash_is_the_pictures_fault(pool: PixelPool, number: signal.Signals) -> None:
    with pytest.raises(BadImageError, match=rf"crashed its decoder \({number.name}\)"):
        await pool.run(tasks.end_by, number)

    assert await pool.run(tasks.echo, 3) == 3


async def test_child_that_leaves_is_lost(pool: PixelPool) -> None:
    with pytest.raises(PixelChildLostError, match="exit code 3"):
        await pool.run(tasks.leave, 3)


async def test_cpu_limit_ends_a_task_and_counts_each_task_anew(pool: PixelPool) -> None:
    for _ in range(3):
        await pool.run(tasks.spin, 0.5, cpu_s=1)

    with pytest.raises(BadImageError, match=r"picture needs more CPU than the limit of 0\.5 s"):
        await pool.run(tasks.spin, 60, cpu_s=0.5)

    assert await pool.run(tasks.echo, 4) == 4


async def test_jpeg_of_thousand_scans_meets_the_cpu_limit(pool: PixelPool) -> None:
    bomb = jpeg_of_scans(1000, 3000)
    assert len(bomb) < 200_000

    with pytest.raises(BadImageError, match="picture needs more CPU than the limit of 1 s"):
        await pool.run(decode, bomb, DecodeLimits(max_scans=10_000), cpu_s=1)


def test_wall_limit_blames_a_picture_that_computed_all_the_time() -> None:
    task = Task.of(tasks.spin, (), {}, wall_s=10, cpu_s=30)

    assert isinstance(_late(task, 9.0), BadImageError)
    assert isinstance(_late(task, 1.0), PixelChildLostError)


async def test_wall_limit_blames_nobodys_picture_for_a_child_that_was_stopped(pool: PixelPool) -> None:
    pid = await pool.run(tasks.pid)

    with pytest.raises(PixelChildLostError, match=r"not done after 0\.3 s"):
        await pool.run(tasks.sleep, 60, wall_s=0.3)

    assert is_gone(pid)
    assert await pool.run(tasks.echo, 5) == 5


@pytest.mark.parametrize(("function", "size"), [(tasks.allocate, 2 * GIGABYTE), (tasks.enlarge, 30_000)])
async def test_memory_limit_refuses_and_the_next_task_gets_a_fresh_child(
    pool: PixelPool, function: Callable[[int], object], size: int
) -> None:
    pid = await pool.run(tasks.pid)

    with pytest.raises(BadImageError, match="picture needs more memory than the limit of 1,073,741,824 bytes"):
        await pool.run(function, size)

    assert await pool.run(tasks.pid) != pid


async def test_bomb_that_passes_the_header_meets_the_memory_limit(pool: PixelPool) -> None:
    limits = DecodeLimits(max_pixels=10**9)

    with pytest.raises(BadImageError, match="picture needs more memory"):
        await pool.run(decode, png_bomb(30_000), limits)


async def test_largest_picture_stays_under_a_gigabyte(pool: PixelPool) -> None:
    data = encoded(Image.new("RGB", (8000, 8000), "red"), "JPEG", progressive=True, subsampling=0)

    assert await pool.run(tasks.decoded_shape, data, DecodeLimits()) == (8000, 8000, 3)
    assert await pool.run(tasks.peak_memory_bytes) < GIGABYTE


async def test_cancelling_the_caller_kills_the_child_and_frees_its_place(pool: PixelPool) -> None:
    pid = await pool.run(tasks.pid)
    run = asyncio.create_task(pool.run(tasks.spin, 60))
    await busy_child(pool, run, pid)
    run.cancel()

    with pytest.raises(asyncio.CancelledError):
        await run
    assert is_gone(pid)
    assert await pool.run(tasks.echo, 6) == 6


async def test_cancelling_before_the_child_has_started_leaves_nothing(pool: PixelPool) -> None:
    run = asyncio.create_task(pool.run(tasks.spin, 60))
    await asyncio.sleep(0)
    run.cancel()

    with pytest.raises(asyncio.CancelledError):
        await run
    assert await pool.run(tasks.echo, 7) == 7


async def test_tasks_beyond_the_byte_budget_wait() -> None:
    async with PixelPool(size=2, budget_bytes=100) as pool:
        await asyncio.gather(*(pool.run(tasks.spin, 0.05, task_bytes=60) for _ in range(4)))
        await pool.run(tasks.echo, 8, task_bytes=10**12)

        assert len(pool.child_pids) == 1


async def test_close_ends_tasks_and_children_and_may_come_twice() -> None:
    before = set(threading.enumerate())
    pool = PixelPool(size=1)
    pid = await pool.run(tasks.pid)
    run = asyncio.create_task(pool.run(tasks.spin, 60))
    await busy_child(pool, run, pid)

    await pool.close()
    await pool.close()

    with pytest.raises(PixelChildLostError):
        await run
    assert is_gone(pid)
    with pytest.raises(RuntimeError, match="closed"):
        await pool.run(tasks.pid)
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name == "pixel-child"]


async def test_close_turns_away_tasks_that_wait_for_a_child() -> None:
    pool = PixelPool(size=1)
    pid = await pool.run(tasks.pid)
    first = asyncio.create_task(pool.run(tasks.spin, 60))
    second = asyncio.create_task(pool.run(tasks.pid))
    await busy_child(pool, first, pid)

    await pool.close()

    with pytest.raises(PixelChildLostError):
        await first
    with pytest.raises(RuntimeError, match="closed"):
        await second


PARENT = """
import asyncio, sys, threading
sys.path.insert(0, {root!r})
from tests.support import imaging_tasks
from pipelines.imaging.pool import PixelPool

async def main():
    pool = PixelPool(size=1)
    print(await pool.run(imaging_tasks.pid), flush=True)
    await pool.run(imaging_tasks.{busy}, 60)

thread = threading.Thread(target=lambda: asyncio.run(main()))
thread.start()
thread.join()
"""


@pytest.mark.parametrize("busy", ["spin", "sleep"])
async def test_child_dies_with_a_parent_that_was_killed(busy: str) -> None:
    script = PARENT.format(root=str(Path(__file__).parents[4]), busy=busy)
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)  # noqa: ASYNC220 - milliseconds
    with parent:
        assert parent.stdout
        child = int(await asyncio.to_thread(parent.stdout.readline))
        assert not is_gone(child)
        parent.kill()

    await until(lambda: is_gone(child))


async def test_interpreter_ends_although_nobody_closed_the_pool() -> None:
    script = PARENT.format(root=str(Path(__file__).parents[4]), busy="echo")
    ended = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", script], capture_output=True, timeout=HANGS_AFTER_S, check=False
    )

    assert (ended.returncode, ended.stderr) == (0, b"")
    await until(lambda: is_gone(int(ended.stdout)))
