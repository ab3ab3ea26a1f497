"""Barriers: what can't be undone waits until the database says that the stages before it have finished."""

import asyncio
import hashlib
from datetime import timedelta

import pytest

from config.masking import SecretMask
from models import database_retries
from models.queue import writing
from models.queue.groups import GroupWriter
from pipelines.errors import BadImageError, ProviderUnavailableError, ThrottledError
from pipelines.job_types import JOB_TYPES, JobType
from pipelines.stage import Stage
from tests.integration.queue.test_groups import committed, history_of
from tests.support.builders import job_row, make_claim, queue_row, set_status
from tests.support.patience import HANGS_AFTER_S
from tests.support.rules import refuse
from tests.support.running import make_stages
from workers.running.job import RunningJob
from workers.running.record import Recorder
from workers.running.runner import Runner

__all__ = ["committed"]


async def nothing(_context):
    """Do nothing outside this process."""


def raising(error):
    async def fail(_context):
        raise error

    return fail


async def store(context):
    await context.storage.put("users/u/x.jpg", b"x", "image/jpeg", hashlib.sha256(b"x").hexdigest())


async def look_for_the_same(context):
    await context.find_same("f" * 64)


class Calls:
    """Calls of providers, through a job's barrier as the gate does it."""

    def __init__(self):
        self.sent = []

    def of(self, job):
        async def generate():
            await job.saved()
            self.sent.append(job.claim.job_id)

        return type("Calling", (), {"generate": staticmethod(generate)})()


async def call(context):
    await context.provider.generate()


@pytest.fixture
def calls():
    return Calls()


@pytest.fixture
def begin(database, tmp_path, monkeypatch, calls):
    """Begin to run a claim whose second stage is given; return its running job."""
    tasks = []

    def begin_claim(claim, second, *, deadline_s=60):
        stages = [Stage("ANALYZING", nothing, output=object, deadline_s=60)]
        stages += [Stage(name, nothing, output=object, deadline_s=60) for name in ("CROPPING",)]
        stages.append(Stage("PROMPTING", second, output=object, deadline_s=deadline_s))
        stages.append(Stage("GENERATING", nothing, output=object, deadline_s=60))
        monkeypatch.setitem(JOB_TYPES, "enhance", JobType("enhance", tuple(stages)))
        writer = GroupWriter(database)
        runner = make_stages(database, writer, tmp_path, None, SecretMask([]))
        runner._provider_for = lambda job, **_: calls.of(job)
        runner._reuses_results = True
        job = RunningJob(claim)
        job.task = asyncio.create_task(Runner(runner, Recorder(database, writer, SecretMask([]))).run_job(job))
        tasks.append(job.task)
        return job

    yield begin_claim
    for task in tasks:
        task.cancel()


@pytest.fixture
async def held(database, foreign):
    """A claim whose job's row another program holds until `free` is awaited."""
    claim = await make_claim(database)
    transaction = foreign.transaction()
    await transaction.start()
    await foreign.execute("SELECT FROM public.image_enhancement_jobs WHERE id = $1 FOR UPDATE", claim.job_id)
    return claim, transaction.commit


FIRST = ["finished ANALYZING", "finished CROPPING"]
DONE = [*FIRST, "finished PROMPTING", "finished GENERATING"]
ACTS = {
    "provider's call": (call, DONE),
    "object": (store, DONE),
    "reuse": (look_for_the_same, DONE),
    "retry": (raising(ProviderUnavailableError("down")), [*FIRST, "retried PROMPTING"]),
    "snooze": (raising(ThrottledError("busy", retry_after=timedelta(hours=1))), [*FIRST, "snoozed PROMPTING"]),
    "failure": (raising(BadImageError("bad")), [*FIRST, "failed PROMPTING"]),
}


@pytest.mark.parametrize("act", ACTS)
async def test_nothing_is_done_before_the_checkpoints_of_earlier_stages_are_there(
    database, eventually, committed, begin, held, calls, act
):
    (claim, free), (second, ends_with) = held, ACTS[act]
    job = begin(claim, second)
    await eventually(lambda: asyncio.sleep(0, "record_checkpoint" in committed))
    await asyncio.sleep(0.1)

    assert job.stage == "PROMPTING"
    assert (calls.sent, set(committed) - {"record_group", "record_checkpoint", "log_error", "prolong"}) == ([], set())
    assert await history_of(database, claim) == []

    await free()
    await asyncio.wait_for(job.task, HANGS_AFTER_S)
    assert await history_of(database, claim) == ends_with


async def test_stop_releases_a_job_whose_checkpoints_wait_with_all_that_it_has_done(
    database, eventually, committed, begin, held
):
    claim, free = held
    job = begin(claim, call)
    await eventually(lambda: asyncio.sleep(0, "record_checkpoint" in committed))

    job.shut_down(has_grace=True)
    await asyncio.sleep(0.1)
    assert not job.task.done()
    await free()
    await asyncio.wait_for(job.task, HANGS_AFTER_S)

    assert await history_of(database, claim) == [*FIRST, "released PROMPTING"]
    row = await queue_row(database, claim.job_id)
    assert (row["status"], row["stage"], row["attempts"], row["lease_token"]) == ("pending", "PROMPTING", 0, None)


@pytest.mark.parametrize("way", ["lost", "cancelled"])
async def test_run_whose_claim_is_gone_while_its_checkpoints_wait_does_nothing_more(
    database, eventually, committed, begin, held, calls, way
):
    claim, free = held
    job = begin(claim, call)
    await eventually(lambda: asyncio.sleep(0, "record_checkpoint" in committed))

    if way == "lost":
        await database.fetch("UPDATE darkroom.job_queue SET lease_token = gen_random_uuid()")
        job.lose_claim()
        await asyncio.wait_for(job.task, HANGS_AFTER_S)
        await free()
    else:
        await free()  # who waits for the row cancels it before the group's next try, or after
        await set_status(database, claim.job_id, "CANCELLED")
        await asyncio.wait_for(job.task, HANGS_AFTER_S)

    if way == "lost":
        assert (calls.sent, await history_of(database, claim)) == ([], [])
    else:
        assert (await job_row(database, claim.job_id))["status"] == "CANCELLED" or calls.sent == [claim.job_id]


async def test_stage_that_runs_again_after_a_lock_does_not_act_without_its_checkpoint(
    database, begin, held, calls, monkeypatch
):
    """The checkpoint's row was held for longer than a result may wait."""
    monkeypatch.setattr(database_retries, "CONTENTION_RETRY_S", 0.2)
    monkeypatch.setattr(database_retries, "DATABASE_GONE_S", 0.05)
    monkeypatch.setattr(writing, "LANE_RETRY_S", 0)
    claim, free = held
    job = begin(claim, call)
    await asyncio.wait([job.task], timeout=4)

    assert calls.sent == []
    await free()
    await asyncio.wait_for(job.task, HANGS_AFTER_S)
    assert calls.sent == []
    assert await history_of(database, claim) == ["snoozed PROMPTING"]
    assert (await queue_row(database, claim.job_id))["stage"] == "ANALYZING"


async def test_wait_for_another_program_is_no_time_of_the_stage(database, begin, held, calls):
    claim, free = held
    job = begin(claim, call, deadline_s=0.3)
    await asyncio.wait([job.task], timeout=1)

    await free()
    await asyncio.wait_for(job.task, HANGS_AFTER_S)

    assert await history_of(database, claim) == DONE
    assert calls.sent == [claim.job_id]


@pytest.mark.parametrize("error", [BadImageError("bad"), ProviderUnavailableError("down")], ids=["fails", "retries"])
async def test_checkpoint_that_is_refused_decides_the_end_and_not_what_came_after_it(database, begin, error):
    """The end of the run isn't taken for what the database refuses."""
    claim = await make_claim(database)
    await refuse(database, "raise", """NEW."currentStage" = 'PROMPTING'""")
    job = begin(claim, raising(error))

    await asyncio.wait_for(job.task, HANGS_AFTER_S)

    row = await queue_row(database, claim.job_id)
    assert (row["status"], row["attempts"], row["refusals"]) == ("retrying", 1, 0)
    assert "not while the moon is full" in row["last_error"]
    assert await history_of(database, claim) == ["retried PROMPTING"]
