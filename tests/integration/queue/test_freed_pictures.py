"""A run that fails or is ended leaves no cycle that holds its pictures, so none waits for a garbage collection."""

import asyncio
from datetime import timedelta
from itertools import count

import pytest

from config.masking import SecretMask
from models.connections import DatabaseLostError
from models.queue.groups import GroupWriter
from pipelines.corrections import ALL_CORRECTIONS
from pipelines.errors import BrokenAnswerError, ProviderUnavailableError, ThrottledError, WrongSizeError
from pipelines.job import Prompt
from pipelines.job_types import JOB_TYPES, JobType
from pipelines.settings import Settings
from pipelines.stage import Stage
from tests.support import imaging_tasks as tasks
from tests.support.builders import make_claim, queue_row
from tests.support.freed import require_freed, uncollected
from tests.support.kept_pixels import kept_children, pixels
from tests.support.running import make_stages
from tests.support.scripted_provider import ScriptedProvider, asking_again, lasting
from workers.gate.gate import Gate
from workers.running.job import Ending, RunningJob
from workers.running.record import Recorder
from workers.running.runner import Runner

__all__ = ["kept_children", "pixels", "uncollected"]

pytestmark = pytest.mark.usefixtures("uncollected")

PROMPT = Prompt("Make it better.", ALL_CORRECTIONS)


@pytest.fixture
async def run(database, pixels, tmp_path, monkeypatch):
    """Run a job of one stage, which is given a picture, and require that the picture is freed; return the claim."""
    await pixels.run(tasks.pid)
    writer, mask = GroupWriter(database), SecretMask([])

    async def run_job(work, *script, ending=None, deadline_s=60):
        provider = ScriptedProvider(*script, name="gemini", model="m")
        gate = Gate(database, [provider], provider, Settings())
        stages = make_stages(database, writer, tmp_path, None, mask)
        stages._pixels, stages._provider_for = pixels, gate.for_job
        runner = Runner(stages, Recorder(database, writer, mask))
        given, began = [], asyncio.Event()

        async def work_on_given(context):
            began.set()
            return await work(context, given[0])

        kind = JobType("enhance", (Stage("ANALYZING", work_on_given, output=object, deadline_s=deadline_s),))
        monkeypatch.setitem(JOB_TYPES, "enhance", kind)
        job = RunningJob(await make_claim(database))

        async def run_on(picture):
            given.append(picture)
            job.task = asyncio.create_task(runner.run_job(job))
            if ending:
                await began.wait()
                await asyncio.sleep(0.2)
                job.end(ending)
            await job.task
            given.clear()

        await require_freed(run_on)
        return job.claim

    return run_job


def pixel_task(*task):
    async def work(context, picture):
        await context.pixels.run(tasks.work_on, picture, *task)

    return work


async def generate(context, picture):
    await context.provider.generate(PROMPT, [], 1024, float(picture.any()) + 1)


async def wait_long(_context, picture):
    await asyncio.sleep(60 + picture[0])


def failing(kind, *arguments, **named):
    """Make an entry of a script that raises a new error each time: an error that the script kept would keep frames."""
    return lambda _call: kind(*arguments, **named)


@pytest.mark.parametrize("task", [("refuse", "bad"), ("fail",), ("throttle",), ("leave", 3)], ids=lambda task: task[0])
async def test_picture_that_a_pixel_child_refuses_is_freed(database, run, task):
    claim = await run(pixel_task(*task))

    assert (await queue_row(database, claim.job_id) or {"status": "over"})["status"] != "active"


@pytest.mark.parametrize(
    "script",
    [
        [failing(BrokenAnswerError, "no picture")],
        [failing(WrongSizeError, "small")],
        [failing(ProviderUnavailableError, "down")],
        [failing(ThrottledError, "not now", retry_after=timedelta(seconds=9))],
        [failing(KeyError, "a bug")],
        [asking_again(BrokenAnswerError, "no picture"), failing(BrokenAnswerError, "none either")],
        [
            asking_again(BrokenAnswerError, "no picture"),
            failing(ThrottledError, "no", retry_after=timedelta(seconds=9)),
        ],
        [asking_again(BrokenAnswerError, "no picture"), b"picture"],
    ],
    ids=["broken", "missed", "down", "throttled", "bug", "twice", "throttled again", "good at last"],
)
async def test_picture_of_a_job_whose_call_fails_is_freed(run, script):
    await run(generate, *script)


@pytest.mark.parametrize("work", [pixel_task("sleep", 60), wait_long, generate], ids=["pixels", "other", "call"])
@pytest.mark.parametrize("ending", list(Ending))
async def test_picture_of_a_run_that_is_ended_is_freed(run, work, ending):
    await run(work, lasting(60), ending=ending)


@pytest.mark.parametrize("work", [pixel_task("sleep", 60), wait_long, generate], ids=["pixels", "other", "call"])
async def test_picture_of_a_stage_that_takes_too_long_is_freed(run, work):
    await run(work, lasting(60), deadline_s=0.3)


async def test_picture_of_a_stage_that_crashes_is_freed(run):
    async def work(_context, picture):
        errors = []
        try:
            {}[picture.size]
        except KeyError as error:
            errors.append(error)
        raise errors[0]

    await run(work)


@pytest.mark.parametrize("is_back", [False, True])
async def test_picture_of_a_stage_that_loses_the_database_is_freed(run, monkeypatch, is_back):
    monkeypatch.setattr("workers.running.run.DATABASE_GONE_S", 0.05)
    tries = count()

    async def work(_context, picture):
        assert picture.size
        if next(tries) == 0 or not is_back:
            raise DatabaseLostError(OSError("gone"))

    await run(work, deadline_s=0.3)
