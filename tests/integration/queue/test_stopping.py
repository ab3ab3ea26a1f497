"""A claim loop that is told to stop: what it still claims, what it waits for, and what it releases."""

import asyncio
import contextlib
import time

import pytest

from pipelines.providers.calls import Answer
from pipelines.providers.provider import EncodedImage
from pipelines.settings import Settings
from tests.support.builders import make_image, make_job, make_user, make_worker
from tests.support.patience import HANGS_AFTER_S, is_within
from workers.process.session_age import SessionAge
from workers.process.wake_up import Lanes
from workers.running.claim_loop import ClaimLoop


class Running:
    """A claim loop whose jobs do what a test says, and when each of them ended, and how."""

    def __init__(self, database, worker_id, do):
        self.lanes, self.ended_s, self.broken_off = Lanes(), {}, set()
        self.jobs = {}
        self._do = do
        settings = Settings(lanes=8, queues=["default"], poll_s=0.1)
        self.loop = ClaimLoop(
            settings, database, worker_id, self._run, lanes=self.lanes, session_age=lambda: SessionAge(15)
        )

    async def _run(self, job):
        self.jobs[job.claim.job_id] = job
        try:
            await self._do(job)
        except asyncio.CancelledError:
            if job.told_to_end() is None:
                raise
            self.broken_off.add(job.claim.job_id)
        self.ended_s[job.claim.job_id] = time.monotonic()


@pytest.fixture
async def begin(database):
    """Begin a loop with so many jobs, whose ids come with it."""
    tasks = []
    user = await make_user(database, balance=100)
    image = await make_image(database, user)

    async def begin(do, *, jobs):
        running = Running(database, await make_worker(database), do)
        ids = [await make_job(database, user_id=user, image_id=image) for _ in range(jobs)]
        tasks.append(asyncio.create_task(running.loop.run()))
        async with asyncio.timeout(HANGS_AFTER_S):
            while len(running.jobs) < jobs:  # noqa: ASYNC110 - set by a job
                await asyncio.sleep(0.01)
        return running, ids

    yield begin
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_loop_that_finishes_waits_for_jobs_outside_of_their_lanes_and_claims_no_more(database, begin):
    async def wait_outside(job):
        job.leave_lane()
        await asyncio.sleep(1)

    running, (first,) = await begin(wait_outside, jobs=1)
    finishing = asyncio.create_task(running.loop.finish(30))
    await asyncio.sleep(0)
    row = await database.fetchrow('SELECT "userId", "imageId" FROM image_enhancement_jobs WHERE id = $1', first)
    await make_job(database, user_id=row["userId"], image_id=row["imageId"])
    assert not await asyncio.to_thread(running.lanes.wait, 0)

    await finishing

    assert running.ended_s.keys() == {first}
    assert running.broken_off == set()
    assert not running.lanes.wait(0)  # wake-ups are for others


async def test_loop_finishes_within_its_time_and_breaks_nothing_off(begin):
    running, ids = await begin(lambda _job: asyncio.sleep(1), jobs=2)

    await running.loop.finish(0.1)

    assert running.ended_s == {}
    await running.loop.stop(0)
    assert running.broken_off == set(ids)


@pytest.mark.parametrize(("grace_s", "is_hurried"), [(30, True), (2, False), (0, False)])
async def test_when_the_grace_ends_a_picture_that_has_come_has_a_moment_more(begin, grace_s, is_hurried):
    holding = []

    async def call(job):
        with job.calling():
            if not holding:
                holding.append(job.claim.job_id)
                job.hold_picture()
                await asyncio.sleep(2)
            await asyncio.sleep(1 if job.claim.job_id in holding else 60)

    running, ids = await begin(call, jobs=2)
    (calling,) = set(ids) - set(holding)
    began_s = time.monotonic()
    if is_hurried:
        running.loop.end_grace(1)

    await running.loop.stop(grace_s)

    assert running.broken_off == {calling}
    assert is_within(running.ended_s[calling] - began_s, 2.5)


async def test_answer_that_is_not_finished_is_cut_off_when_the_grace_ends_and_a_finished_one_is_not(begin):
    unfinished, is_cut_off = [], asyncio.Event()

    async def finish(job):
        if unfinished:
            job.hold_picture()
            await is_cut_off.wait()
            return
        unfinished.append(job.claim.job_id)
        job.hold_answer(Answer(EncodedImage(b"a picture"), "m"))
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            is_cut_off.set()
            raise

    running, _ids = await begin(finish, jobs=2)

    await running.loop.stop(0)

    assert running.broken_off == set(unfinished)


def test_grace_of_a_loop_that_is_closed_can_be_ended(database_url):
    async def make():
        return ClaimLoop(Settings(), None, None, None, lanes=Lanes(), session_age=lambda: SessionAge(15))

    asyncio.run(make()).end_grace(1)
