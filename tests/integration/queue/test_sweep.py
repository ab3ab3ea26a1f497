"""A sweep reaches every job without a queue row and every queue row without a job, whatever its pages' size."""

import pytest

from models.queue.sweep import Sweep
from models.queue.unqueued import AdoptionTerms, adopt_unqueued_jobs, end_unqueued_jobs
from tests.integration.queue.test_plans import GENERATION_ROWS, ROWS
from tests.support.builders import make_image, make_user

TERMS = AdoptionTerms(max_wait_s=3_600, silence_s=0)
JOBS = 10


@pytest.fixture
async def jobs(database):
    """Jobs of both tables, most of them of the same last write."""
    user = await make_user(database)
    await database.fetch(ROWS, await make_image(database, user), user, JOBS)
    await database.fetch(GENERATION_ROWS, user, JOBS)
    return database


async def in_queue(database):
    return {row["job_id"] for row in await database.fetch("SELECT job_id FROM darkroom.job_queue")}


async def passes(database, sweep, number):
    """Make as many passes as a scheduler would; return what they adopted, deleted and ended."""
    done = []
    for _ in range(number):
        page = await sweep.next_page(database)
        adopted, dropped = await adopt_unqueued_jobs(database, TERMS, page)
        done.append((adopted, dropped, await end_unqueued_jobs(database, TERMS, page)))
    return [sum(counts) for counts in zip(*done, strict=True)]


@pytest.mark.parametrize("page_rows", [1, 3, JOBS, 5_000])
async def test_sweep_adopts_every_job_without_a_queue_row(jobs, page_rows):
    before = await in_queue(jobs)
    await jobs.fetch("DELETE FROM darkroom.job_queue")

    adopted, dropped, ended = await passes(jobs, Sweep(page_rows), JOBS // page_rows + 1)

    assert (adopted, dropped, ended) == (2 * JOBS, 0, 0)
    assert await in_queue(jobs) == before


@pytest.mark.parametrize("page_rows", [3, 5_000])
async def test_sweep_deletes_every_queue_row_without_a_job(jobs, foreign, page_rows):
    async with foreign.transaction():
        await foreign.execute("SET LOCAL session_replication_role = replica")
        await foreign.execute("DELETE FROM public.mcp_generation_jobs")

    adopted, dropped, ended = await passes(jobs, Sweep(page_rows), 2 * JOBS // page_rows + 1)

    assert (adopted, dropped, ended) == (0, JOBS, 0)
    assert all(job.startswith("e") for job in await in_queue(jobs))


async def test_sweep_ends_jobs_that_are_too_old_to_adopt(jobs, foreign):
    async with foreign.transaction():
        await foreign.execute("SET LOCAL session_replication_role = replica")
        await foreign.execute("""UPDATE public.image_enhancement_jobs SET "createdAt" = now() - interval '2 hours'""")
        await foreign.execute("DELETE FROM darkroom.job_queue")

    adopted, _, ended = await passes(jobs, Sweep(3), JOBS // 3 + 1)

    assert (adopted, ended) == (JOBS, JOBS)


async def test_sweep_begins_again_when_it_is_over(jobs):
    sweep = Sweep(3)
    await passes(jobs, sweep, JOBS // 3 + 1)
    await jobs.fetch("DELETE FROM darkroom.job_queue WHERE job_id = 'e1'")

    assert (await passes(jobs, sweep, 2 * JOBS // 3 + 2))[0] == 1
