"""Processes whose supervisor has died: they end, and release their jobs."""

import asyncio
import json
import os
import random
import signal

import psutil

from tests.acceptance.test_faults_inside import worker_pids
from tests.support.builders import job_row, make_image, make_job, money_violations
from tests.support.fleet import eventually
from tests.support.patience import HANGS_AFTER_S
from tests.support.processes import is_alive
from tests.support.program import darkroom

AT_MOST_S = 10


def below(pid):
    return psutil.Process(pid).children(recursive=True)


async def all_gone(processes, within_s=AT_MOST_S):
    async def are_gone():
        return not any(map(is_alive, processes))

    await eventually(are_gone, f"the end of {processes}", within_s=within_s)


async def test_workers_whose_supervisor_is_killed_sign_off_and_end_within_ten_seconds(fleet, tmp_path):
    environment = fleet.environment | {"DARKROOM_PROCESSES": "1", "DARKROOM_WARM_CHILDREN": "1"}
    with darkroom("worker", environment=environment, folder=tmp_path) as worker:
        await asyncio.to_thread(worker.says, "\nready\n")
        processes = below(worker.process.pid)
        assert len(processes) >= 2
        worker.process.kill()

        await all_gone(processes)

    assert not await worker_pids(fleet)


async def test_lines_of_all_processes_are_json_and_those_of_jobs_name_worker_host_and_pid(fleet, tmp_path):
    user, image = await fleet.stored_picture(balance=10)
    job = await make_job(fleet.database, user_id=user, image_id=image)
    environment = fleet.environment | {"DARKROOM_PROCESSES": "1", "DARKROOM_WARM_CHILDREN": "1"}
    with darkroom("worker", environment=environment, folder=tmp_path) as worker:
        await asyncio.to_thread(worker.says, '"event":"job_completed"')
        (row,) = await fleet.database.fetch("SELECT id::text, host, pid FROM darkroom.workers")
        os.kill(row["pid"], signal.SIGABRT)  # of which faulthandler or nobody speaks
        await asyncio.to_thread(worker.says, '"event":"worker_died"')
        worker.process.terminate()
        assert await asyncio.to_thread(worker.ends) == 0

    lines = [json.loads(line) for line in worker.said.splitlines() if line != "ready"]
    of_job = [line for line in lines if line.get("job_id") == job]
    assert {line["event"] for line in of_job} >= {"job_completed"}
    assert {(line["worker_id"], line["host"], line["pid"]) for line in of_job} == {(row["id"], row["host"], row["pid"])}


async def test_service_that_cannot_start_says_why_in_json(tmp_path):
    with darkroom("worker", environment={"DARKROOM_LANE": "4"}, folder=tmp_path) as worker:
        assert await asyncio.to_thread(worker.ends) == 2

    line = json.loads(worker.said)
    assert (line["event"], line["exit_code"]) == ("command_failed", 2)
    assert "did you mean DARKROOM_LANES?" in line["error"]


async def test_worker_that_is_told_to_stop_and_then_orphaned_ends_in_order(fleet, tmp_path):
    """Two SIGTERMs reach dramatiq, whose second one leaves a process without a main thread."""
    environment = fleet.environment | {"DARKROOM_PROCESSES": "1"}
    with darkroom("worker", environment=environment, folder=tmp_path) as worker:

        async def has_forked():
            return len(below(worker.process.pid)) > 1

        await eventually(has_forked)
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

        master, forked = await eventually(pair)
        os.kill(master.pid, signal.SIGKILL)

        # It watches once it has imported its modules, which may take long beside other tests, and ends within ORPHAN_S
        # of that.
        await all_gone([forked], within_s=HANGS_AFTER_S)


async def test_recycled_worker_finishes_its_call_and_loses_no_job_and_no_attempt(fleet):
    user, image = await fleet.stored_picture(balance=20)
    fleet.start(1, slow_s=0.3, max_jobs=2)

    async def are_done():
        jobs = await fleet.database.fetch("SELECT status FROM image_enhancement_jobs")
        return [job["status"] for job in jobs] == ["COMPLETED"] * 8

    for _ in range(8):
        await make_job(fleet.database, user_id=user, image_id=image)
    await eventually(are_done)

    claims = await fleet.database.fetch("SELECT DISTINCT worker_id, attempt FROM darkroom.stage_runs")
    assert len({row["worker_id"] for row in claims} - {None}) > 1
    assert {row["attempt"] for row in claims} == {1}
    assert fleet.calls("generate") == 8
    assert await money_violations(fleet.database) == []


async def generating(fleet, calls=1):
    """Submit a job; return its id, its user and its worker's process id once it is the given call's turn."""
    user, image = await fleet.stored_picture(balance=20)
    job = await make_job(fleet.database, user_id=user, image_id=image)

    async def is_called():
        return fleet.calls("generate") == calls

    await eventually(is_called)
    return job, user, await fleet.holder_pid(job)


async def become_due(fleet, user):
    """Have a process reach its limit of one job by a job that is over at once."""
    failing = await make_job(fleet.database, user_id=user, image_id=await make_image(fleet.database, user))

    async def is_over():
        return await fleet.database.fetchval("SELECT 1 FROM darkroom.stage_runs WHERE job_id = $1", failing)

    await eventually(is_over)


async def completed(fleet, *jobs):
    async def are_completed():
        return all([(await job_row(fleet.database, job))["status"] == "COMPLETED" for job in jobs])

    await eventually(are_completed, f"the end of {jobs}")


async def test_process_to_be_replaced_waits_for_a_call_that_takes_longer_than_the_grace(fleet):
    fleet.start(1, slow_s=3, shutdown_grace_s=0, max_jobs=1)
    job, user, pid = await generating(fleet)
    await become_due(fleet, user)
    assert await worker_pids(fleet) == {pid}

    await completed(fleet, job)

    assert fleet.calls("generate") == 1

    async def is_replaced():
        return await worker_pids(fleet) - {pid}

    await eventually(is_replaced)


async def test_first_sigterm_to_a_process_to_be_replaced_leaves_calls_their_grace(fleet):
    fleet.start(1, slow_s=4.5, shutdown_grace_s=20, max_jobs=1)
    job, user, pid = await generating(fleet)
    await become_due(fleet, user)
    await asyncio.sleep(1.2)  # longer than an echo of a signal takes

    os.kill(pid, signal.SIGTERM)

    await completed(fleet, job)
    assert fleet.calls("generate") == 1


async def test_job_that_reaches_the_limit_in_the_grace_cuts_off_no_other(fleet):
    fleet.start(1, slow_s=4.5, shutdown_grace_s=20, max_jobs=1)
    job, _, pid = await generating(fleet)
    await asyncio.sleep(2.5)
    other, _, _ = await generating(fleet, calls=2)

    os.kill(pid, signal.SIGTERM)

    await completed(fleet, job, other)
    assert fleet.calls("generate") == 2


async def test_picture_that_has_come_is_stored_after_a_second_sigterm(fleet, monkeypatch):
    monkeypatch.setenv("SLOW_PUT_S", "4.5")
    fleet.start(1, shutdown_grace_s=20)
    job, _, pid = await generating(fleet)

    async def is_being_stored():
        return fleet.calls("storing")

    os.kill(pid, signal.SIGTERM)
    await eventually(is_being_stored)
    await asyncio.sleep(1.2)  # longer than an echo of a signal takes
    os.kill(pid, signal.SIGTERM)

    await completed(fleet, job)
    assert fleet.calls("generate") == 1
