"""What becomes of processes whose supervisor is gone."""

import asyncio
import os
import random
import signal

import psutil

from tests.acceptance.conftest import eventually
from tests.acceptance.running import darkroom
from tests.acceptance.test_faults_inside import worker_pids

AT_MOST_S = 10


def below(pid):
    return psutil.Process(pid).children(recursive=True)


async def all_gone(processes, within_s=AT_MOST_S):
    async def are_gone():
        return not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in processes)

    await eventually(are_gone, within_s, f"the end of {processes}")


async def test_workers_whose_supervisor_is_killed_sign_off_and_end_within_ten_seconds(fleet, tmp_path):
    environment = fleet.environment | {"DARKROOM_PROCESSES": "1", "DARKROOM_WARM_CHILDREN": "1"}
    with darkroom("worker", environment=environment, folder=tmp_path) as worker:
        await asyncio.to_thread(worker.says, "\nready\n", 60)
        processes = below(worker.process.pid)
        assert len(processes) >= 2
        worker.process.kill()

        await all_gone(processes)

    assert not await worker_pids(fleet)


async def test_worker_that_is_told_to_stop_and_then_orphaned_ends_in_order(fleet, tmp_path):
    """Two SIGTERMs reach dramatiq, whose second one leaves a process without a main thread."""
    environment = fleet.environment | {"DARKROOM_PROCESSES": "1"}
    with darkroom("worker", environment=environment, folder=tmp_path) as worker:

        async def has_forked():
            return len(below(worker.process.pid)) > 1

        await eventually(has_forked, 30)
        await asyncio.sleep(random.uniform(0, 0.5))  # any moment of the start is to do
        processes = below(worker.process.pid)
        worker.process.terminate()
        await asyncio.sleep(0.3)
        worker.process.kill()

        await all_gone(processes)


async def test_worker_that_starts_ends_with_its_master(fleet, tmp_path):
    environment = fleet.environment | {"DARKROOM_PROCESSES": "1"}
    with darkroom("worker", environment=environment, folder=tmp_path) as worker:

        async def pair():
            masters = psutil.Process(worker.process.pid).children()
            return [*masters, *masters[0].children()] if masters and masters[0].children() else None

        master, forked = await eventually(pair, 30)
        os.kill(master.pid, signal.SIGKILL)

        await all_gone([forked])
