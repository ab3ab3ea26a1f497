"""A worker whose own parts fail: pixel children, event loop, calls, clock, database."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipelines.settings import Settings
from tests.support.builders import balance_of, job_row, make_generation, make_job, make_user, money_violations
from tests.support.fleet import SlowWorkers, eventually
from tests.support.forked import PreloadedWorkers
from tests.support.hanging_gemini import HangingGemini
from tests.support.patience import is_within
from tests.support.processes import is_alive

OVER = {"COMPLETED", "FAILED", "REFUNDED", "CANCELLED"}
LEASE_S = 3
AT_WORK_CPU_S = 2.0
"""More than a pixel child needs for its start, imports included; it waits without using any."""


class FaultyWorkers(SlowWorkers):
    ENTRY_POINT = "tests.support.faulty_worker:main"


async def ended(fleet, job):
    async def is_over():
        row = await job_row(fleet.database, job)
        return row if row["status"] in OVER else None

    return await eventually(is_over, f"the end of {job}")


async def meeting(fleet, fault):
    """Submit a job that meets a fault; return its id once it does."""
    job = await make_generation(fleet.database, prompt=fault)

    async def is_met():
        return fleet.calls(fault.removesuffix(" once").replace(" ", "_"))

    await eventually(is_met, fault)
    return job


async def worker_pids(fleet):
    return {row["pid"] for row in await fleet.database.fetch("SELECT pid FROM darkroom.workers")}


def pixel_children(pid):
    """Return the pixel children that live; one that was killed while idle isn't reaped before it is looked at."""
    found = []
    for child in psutil.Process(pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):  # a zombie is one, too
            if "imaging/child.py" in " ".join(child.cmdline()):
                found.append(child)
    return found


def cpu_s(process):
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.cpu_times().user
    return 0.0


def is_gone(process):
    return not is_alive(process)


async def events(fleet, event):
    return await fleet.database.fetchval("SELECT count(*) FROM darkroom.stage_runs WHERE event = $1", event)


@contextlib.contextmanager
def scheduler(fleet, **settings):
    """Run a real scheduler."""
    environment = os.environ | fleet.environment | {"LOG_LEVEL": "warning"}
    environment |= {f"DARKROOM_{name.upper()}": str(value) for name, value in settings.items()}
    command = [str(Path(sys.executable).with_name("darkroom")), "scheduler"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"ready\n"
            yield
        finally:
            process.terminate()


async def test_pixel_child_over_its_limits_ends_the_job_and_the_worker_lives(fleet):
    fleet.start(1, kind=FaultyWorkers)
    worker = await worker_pids(fleet)
    reasons = {
        "child burns CPU": "picture needs more CPU than the limit of 1 s",
        "child swells": "picture needs more memory than the limit of 1,073,741,824 bytes",
        "child crashes": "picture crashed its decoder (SIGSEGV) within the limit of 1,073,741,824 bytes of memory",
    }
    jobs = {fault: await make_generation(fleet.database, prompt=fault) for fault in reasons}
    slow = await make_generation(fleet.database, prompt="child sleeps once")

    rows = {fault: await ended(fleet, job) for fault, job in jobs.items()}

    assert {fault: (row["status"], row["errorMessage"]) for fault, row in rows.items()} == {
        fault: ("REFUNDED", reason) for fault, reason in reasons.items()
    }
    assert [await balance_of(fleet.database, row["userId"]) for row in rows.values()] == [100] * 3
    assert (await ended(fleet, slow))["status"] == "COMPLETED"  # a wall clock without CPU is no picture's fault
    assert await fleet.database.fetch(
        'SELECT "errorType", "errorCode" FROM public.error_logs WHERE metadata ->> \'jobId\' = $1', slow
    ) == [("PixelChildLostError", "PIXEL_CHILD_LOST")]
    assert await events(fleet, "claimed") == 5
    assert await worker_pids(fleet) == worker
    assert await money_violations(fleet.database) == []


async def test_worker_has_warm_pixel_children_before_any_job(fleet):
    fleet.start(1, warm_children=1)
    (worker,) = await worker_pids(fleet)

    async def has_one():
        return len(pixel_children(worker)) == 1

    await eventually(has_one, "the child that no job has asked for")


async def test_pixel_child_that_is_killed_costs_an_attempt_and_one_dies_with_its_worker(fleet):
    fleet.start(1, kind=FaultyWorkers)
    (worker,) = await worker_pids(fleet)
    job = await meeting(fleet, "child works long once")

    async def has_one_at_work():  # the job is met before its child has begun
        return [child for child in pixel_children(worker) if cpu_s(child) > AT_WORK_CPU_S]

    for child in await eventually(has_one_at_work, "the child at work"):
        child.kill()

    assert (await ended(fleet, job))["status"] == "COMPLETED"
    assert await worker_pids(fleet) == {worker}

    await make_generation(fleet.database, prompt="child works long")

    async def two_are_met():
        return fleet.calls("child_works_long") == 2 and pixel_children(worker)

    children = await eventually(two_are_met, "the second child at work")
    os.kill(worker, signal.SIGKILL)

    async def children_are_gone():
        return all(map(is_gone, children))

    await eventually(children_are_gone, "the end of the children", within_s=5)


async def test_worker_whose_loop_sticks_ends_itself_and_its_job_is_rescued(fleet, monkeypatch, capfd):
    monkeypatch.setenv("STUCK_LOOP_S", "2")
    fleet.start(1, kind=FaultyWorkers)
    (stuck,) = await worker_pids(fleet)
    job = await meeting(fleet, "loop sticks once")

    assert (await ended(fleet, job))["status"] == "COMPLETED"

    assert not psutil.pid_exists(stuck)
    assert await events(fleet, "rescued") == 1
    assert "worker_stuck" in capfd.readouterr().err


@pytest.mark.proof
async def test_event_loop_blocked_for_longer_than_the_lease_makes_no_rescue(fleet):
    fleet.start(2, kind=FaultyWorkers, lease_s=LEASE_S)
    job = await meeting(fleet, "loop is blocked")

    assert (await ended(fleet, job))["status"] == "COMPLETED"
    assert (await events(fleet, "claimed"), await events(fleet, "rescued")) == (1, 0)


async def test_job_that_kills_two_workers_at_one_stage_is_quarantined_and_keeps_its_input(fleet):
    user, image = await fleet.stored_picture(balance=10)
    fleet.start(2, slow_s=60)
    job = await make_job(fleet.database, user_id=user, image_id=image, maxRetries=9)
    killed = set()

    async def another_is_generating():
        pid = await fleet.holder_pid(job)
        return pid not in killed and fleet.calls("generate") > len(killed) and pid

    for _ in range(2):
        pid = await eventually(another_is_generating, "generating")
        killed.add(pid)
        os.kill(pid, signal.SIGKILL)

    row = await ended(fleet, job)
    assert (row["status"], row["errorMessage"]) == (
        "REFUNDED",
        "quarantined: its worker died at GENERATING, 2 times; the input is kept",
    )
    assert await balance_of(fleet.database, user) == 10
    assert await fleet.storage.get(f"users/{user}/originals/{image}.jpg")

    async def is_logged():  # after the row has its end
        codes = await fleet.database.fetch('SELECT "errorCode" FROM public.error_logs ORDER BY "timestamp"')
        return [code for (code,) in codes] == ["WORKER_DIED", "QUARANTINED"]

    await eventually(is_logged, "both errors")
    assert await money_violations(fleet.database) == []


@pytest.fixture
async def hanging(fleet, monkeypatch):
    """A Gemini that never answers, and a worker that asks it, for up to 4 s."""
    async with HangingGemini() as gemini:
        key = "any-key-will-do"
        monkeypatch.setenv("GEMINI_API_KEY", key)
        monkeypatch.setenv("GEMINI_BASE_URL", gemini.url)
        monkeypatch.setenv("DARKROOM_STAGE_DEADLINES", "GENERATING=4")
        settings = Settings(home=fleet.folder, provider=("gemini",), gemini_api_key=key)
        fleet.add(PreloadedWorkers(settings, fleet.services, processes=1, lanes=4))
        yield gemini


async def test_provider_that_never_answers_is_hung_up_on_at_a_cancel_and_at_the_deadline(fleet, hanging):
    late, unwanted = [await make_generation(fleet.database, prompt=word) for word in ("tortoise", "hare")]
    await hanging.call_of("hare")
    cancelled_s = time.monotonic()
    await fleet.database.fetchval("SELECT darkroom.cancel_job($1)", unwanted)

    call = await hanging.call_of("hare", hung_up=True)
    assert is_within(call.hung_up_s - cancelled_s, 2)
    row = await job_row(fleet.database, unwanted)
    assert (row["status"], await balance_of(fleet.database, row["userId"])) == ("CANCELLED", 100)

    call = await hanging.call_of("tortoise", hung_up=True)
    assert (took_s := call.hung_up_s - call.came_s) > 3
    assert is_within(took_s, 6)

    async def is_waiting():
        return await fleet.database.fetchrow(
            "SELECT last_error, attempts FROM darkroom.job_queue WHERE job_id = $1 AND last_error IS NOT NULL", late
        )

    assert tuple(await eventually(is_waiting)) == ("GENERATING wasn't done within its deadline of 4 s", 1)
    calls = await fleet.database.fetch(
        "SELECT outcome, may_be_paid FROM darkroom.provider_calls WHERE outcome <> 'open'"
    )
    assert set(calls) == {("cut_off", True)}


async def test_jobs_over_the_maximum_wait_are_ended_by_the_scheduler_whether_they_run_or_wait(fleet):
    user = await make_user(fleet.database)
    fleet.start(1, slow_s=60)
    jobs = [await make_generation(fleet.database, user_id=user) for _ in range(5)]  # one more than there are lanes

    async def all_lanes_run():
        return fleet.calls("generate") == 4

    await eventually(all_lanes_run, "every lane's call")
    # nobody works there: the lane that an ended job frees must not take it before its own time is over
    await fleet.database.fetch("UPDATE darkroom.job_queue SET queue = 'elsewhere' WHERE status = 'pending'")
    with scheduler(fleet, max_wait_s=2):
        rows = [await ended(fleet, job) for job in jobs]

    assert {row["status"] for row in rows} == {"REFUNDED"}
    asked = "not finished within 2 s; it waited for: "
    reasons = sorted(row["errorMessage"] for row in rows)
    assert reasons == [f"{asked}a free worker"] + [f"{asked}its stage to finish"] * 4
    assert await balance_of(fleet.database, user) == 100

    async def calls_were_cut_off():
        return (
            await fleet.database.fetchval("SELECT count(*) FROM darkroom.provider_calls WHERE outcome = 'cut_off'") == 4
        )

    await eventually(calls_were_cut_off, "the end of the calls", within_s=4)


@pytest.mark.proof
async def test_postgresql_stopped_for_longer_than_the_lease_makes_no_rescue(fleet, services):
    user, image = await fleet.stored_picture(balance=100)
    with scheduler(fleet, lease_s=LEASE_S):
        fleet.start(1, slow_s=2 * LEASE_S, lease_s=LEASE_S)
        await asyncio.sleep(LEASE_S)  # whoever hasn't seen a lease through rescues nobody anyway
        jobs = [await make_job(fleet.database, user_id=user, image_id=image) for _ in range(3)]

        async def all_generate():
            return fleet.calls("generate") == len(jobs)

        await eventually(all_generate, "generating")
        workers = [psutil.Process(pid) for pid in await worker_pids(fleet)]
        postmaster = psutil.Process(services.postgres.pid())
        stopped = [postmaster, *postmaster.children(recursive=True)]
        for process in (*stopped, *workers):  # the workers, so that the scheduler is the first to look again
            process.suspend()
        await asyncio.sleep(LEASE_S)
        for process in reversed(stopped):
            process.resume()
        await asyncio.sleep(1.5)
        for process in workers:
            process.resume()
        rows = [await ended(fleet, job) for job in jobs]

    assert {row["status"] for row in rows} == {"COMPLETED"}
    assert (await events(fleet, "rescued"), fleet.calls("generate")) == (0, len(jobs))
    assert await money_violations(fleet.database) == []
