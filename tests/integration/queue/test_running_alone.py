"""The claim loop and suspects: a process runs one of them at a time, and beside it nothing else."""

import asyncio
import contextlib
from datetime import timedelta

import pytest

from models.queue.rescue import rescue_lost_claims
from models.queue.transitions import Released, record
from pipelines.settings import Settings
from tests.support.builders import claim_jobs, make_image, make_job, make_user, make_worker, queue_row, set_status
from tests.support.fleet import eventually
from workers.operations.drain import Drain
from workers.process.session_age import SessionAge
from workers.process.wake_up import Lanes
from workers.running.claim_loop import ClaimLoop


class Process:
    """A claim loop whose jobs run until a test ends them, and what it has run beside what."""

    def __init__(self, database, worker_id, *, is_shut):
        self.running, self.ran, self.beside, self.jobs = {}, [], {}, {}
        self.is_shut, self._database = is_shut, database
        self.loop = ClaimLoop(
            Settings(lanes=8, queues=["default"], poll_s=0.05),
            *(database, worker_id, self._run),
            lanes=Lanes(),
            session_age=lambda: SessionAge(15),
            callable_jobs=self._callable_jobs,
        )
        self.task = asyncio.create_task(self.loop.run())

    async def _callable_jobs(self, _awaiting, _wanted):
        return 0 if self.is_shut else None

    async def _run(self, job):
        job_id, ends = job.claim.job_id, asyncio.Event()
        self.ran.append(job_id)
        self.jobs[job_id] = job
        self.beside[job_id] = set(self.running)
        self.running[job_id] = ends
        try:
            await ends.wait()
            await set_status(self._database, job_id, "CANCELLED")
        except asyncio.CancelledError:
            if job.told_to_end() is None:
                raise
            released = Released(job.claim.stage)
            await self._database.commit("release", lambda connection: record(connection, job.claim, released))
        del self.running[job_id]

    async def runs(self, *jobs):
        """Wait until exactly these jobs run."""

        async def run():
            return self.running.keys() == set(jobs)

        await eventually(run, f"the run of {jobs}")

    async def run_to_end(self, job_id):
        """Wait until a job runs, and end it."""

        async def end():
            return self.running.get(job_id)

        (await eventually(end, f"the run of {job_id}")).set()

    async def looked(self, times=3):
        """Wait until the loop has looked for jobs again a few times."""
        for _ in range(times):
            before = self.loop._looked_around_s

            async def has_looked(before=before):
                return self.loop._looked_around_s != before

            await eventually(has_looked, "a look")


@pytest.fixture
async def start(database):
    """Start a process, with the id of a live worker."""
    processes = []

    async def start(worker_id=None, *, is_shut=False):
        processes.append(Process(database, worker_id or await make_worker(database), is_shut=is_shut))
        return processes[-1]

    yield start
    for process in processes:
        process.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await process.task


@pytest.fixture
async def submit(database):
    user = await make_user(database, balance=1_000)
    image = await make_image(database, user)

    async def submit(count):
        return [await make_job(database, user_id=user, image_id=image) for _ in range(count)]

    return submit


@pytest.fixture
async def make_suspects(database, submit):
    """Submit jobs during which a worker dies."""

    async def make(count):
        jobs = await submit(count)
        assert len(await claim_jobs(database, most=count)) == count
        await database.fetch("DELETE FROM darkroom.workers")
        assert (await rescue_lost_claims(database, None)).requeued == count
        return jobs

    return make


async def test_process_runs_suspects_one_by_one_and_then_all_other_jobs_at_once(start, make_suspects, submit):
    suspects, others = await make_suspects(3), await submit(4)
    process = await start()

    for suspect in suspects:
        await process.run_to_end(suspect)
    await process.runs(*others)

    assert process.ran[:3] == suspects
    assert [process.beside[suspect] for suspect in suspects] == [set(), set(), set()]


@pytest.fixture
async def later(database, make_suspects):
    """Make a suspect that isn't due yet; return its id, and the function that makes it due."""
    (suspect,) = await make_suspects(1)
    put_off = "UPDATE darkroom.job_queue SET status = 'retrying', ready = false, scheduled_at = now() + $1::interval"
    await database.fetch(put_off, timedelta(hours=1))

    async def make_due():
        await database.fetch("UPDATE darkroom.job_queue SET scheduled_at = now() WHERE job_id = $1", suspect)

    return suspect, make_due


async def test_busy_process_whose_turn_it_is_claims_no_more_until_it_is_empty(start, later, submit):
    suspect, make_due = later
    first, second = await submit(2)
    process = await start()
    await process.runs(first, second)
    await make_due()
    await process.looked()
    (third,) = await submit(1)

    await process.run_to_end(first)
    await process.looked()
    assert process.running.keys() == {second}
    await process.run_to_end(second)
    await process.run_to_end(suspect)
    await process.run_to_end(third)

    assert process.ran == [first, second, suspect, third]
    assert process.beside[suspect] == set()


async def test_process_whose_turn_it_is_not_takes_a_suspect_only_when_it_has_nothing_else(
    database, start, later, submit
):
    suspect, make_due = later
    turn, worker = sorted([await make_worker(database) for _ in range(2)])
    (first,) = await submit(1)
    process = await start(worker)
    await process.runs(first)
    await make_due()
    await process.looked()

    (second,) = await submit(1)
    await process.runs(first, second)
    await process.run_to_end(first)
    await process.looked()
    assert process.running.keys() == {second}
    await process.run_to_end(second)
    await process.run_to_end(suspect)

    assert process.beside[suspect] == set()
    assert await database.fetchval("SELECT count(*) FROM darkroom.workers WHERE id = $1", turn) == 1


async def test_two_idle_processes_each_run_a_suspect_of_their_own(start, make_suspects):
    first, second = await make_suspects(2)
    one, other = await start(), await start()

    async def both_run():
        return one.running.keys() | other.running.keys() == {first, second}

    await eventually(both_run, "both suspects")
    assert (len(one.running), len(other.running)) == (1, 1)


async def test_suspect_that_vanishes_leaves_a_busy_process_free_for_other_jobs(database, start, later, submit):
    suspect, make_due = later
    (first,) = await submit(1)
    process = await start()
    await process.runs(first)
    await make_due()
    await process.looked()
    (second,) = await submit(1)

    await database.fetch("SELECT darkroom.cancel_job($1)", suspect)

    await process.runs(first, second)


async def test_process_that_stops_releases_its_suspect_which_stays_one(database, start, make_suspects):
    (suspect,) = await make_suspects(1)
    process = await start()
    await process.runs(suspect)
    attempts = (await queue_row(database, suspect))["attempts"]

    await process.loop.stop(0)

    row = await queue_row(database, suspect)
    assert (row["status"], row["attempts"], row["suspect_of"] is None) == ("pending", attempts - 1, False)
    again = await start()
    await again.run_to_end(suspect)


async def test_drain_goes_on_until_the_suspects_are_over(database, start, make_suspects):
    suspects = await make_suspects(2)
    drain = Drain(Settings(), database, ["default"])
    assert not await drain.is_done()
    process = await start()

    for suspect in suspects:
        assert not await drain.is_done()
        await process.run_to_end(suspect)

    await eventually(drain.is_done, "the end of the drain")


async def test_suspect_whose_provider_may_not_be_called_is_left(start, make_suspects):
    suspects = await make_suspects(1)
    process = await start(is_shut=True)

    await process.looked()
    assert process.ran == []

    process.is_shut = False
    await process.run_to_end(*suspects)


async def test_job_that_waits_without_a_lane_keeps_no_suspect_waiting(database, start, submit):
    (stuck,) = await submit(1)
    process = await start()
    await process.runs(stuck)
    process.jobs[stuck].leave_lane()  # as for ever, where the database refuses its end in every form
    process.is_shut = True
    (suspect,) = await submit(1)
    await database.fetch("UPDATE darkroom.job_queue SET suspect_of = gen_random_uuid() WHERE job_id = $1", suspect)
    process.is_shut = False

    await process.runs(stuck, suspect)
