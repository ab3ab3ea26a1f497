"""DARKROOM_REUSE_RESULTS: a user's second job with the same picture, pipeline, model and tier buys nothing."""

from pipelines.settings import Settings
from tests.support.builders import balance_of, job_row, make_image, make_job, make_user
from tests.support.fleet import eventually
from tests.support.forked import ForkedSlowWorkers
from workers.operations.retrying import RetryTerms, retry_jobs
from workers.process.compose import open_runtime


async def completed(fleet, user_id, image_id, **columns):
    """Submit a job and return the key of its result once it is completed."""
    job_id = await make_job(fleet.database, user_id=user_id, image_id=image_id, **columns)

    async def is_over():
        return (await job_row(fleet.database, job_id))["status"] == "COMPLETED"

    await eventually(is_over)
    return await fleet.database.fetchval(
        'SELECT "enhancedR2Key" FROM public.image_enhancement_jobs WHERE id = $1', job_id
    )


async def test_same_input_is_taken_from_the_users_own_earlier_job(fleet):
    user, image = await fleet.stored_picture(balance=10)
    fleet.start(1, kind=ForkedSlowWorkers, reuse_results="on")
    first = await completed(fleet, user, image)

    second = await completed(fleet, user, image)

    assert fleet.calls("generate") == 1
    assert first != second  # each job has an object of its own
    assert await fleet.storage.get(first) == await fleet.storage.get(second)
    assert await balance_of(fleet.database, user) == 10 - 2 - 2  # the user pays for each


async def test_another_tier_another_user_and_a_result_that_is_gone_are_bought(fleet):
    user, image = await fleet.stored_picture(balance=100)
    other = await make_user(fleet.database)
    key = f"users/{user}/originals/{image}.jpg"
    await fleet.database.fetch('UPDATE public.enhanced_images SET "isPublic" = true WHERE id = $1', image)
    fleet.start(1, kind=ForkedSlowWorkers, reuse_results="on")
    first = await completed(fleet, user, image)

    await completed(fleet, user, image, tier="TIER_2K")
    await completed(fleet, other, image)
    assert fleet.calls("generate") == 3
    await fleet.storage.delete(first)
    await completed(fleet, user, await make_image(fleet.database, user, key=key))

    assert fleet.calls("generate") == 4


async def test_job_that_is_redone_gets_a_new_picture(fleet):
    user, image = await fleet.stored_picture(balance=10)
    fleet.start(1, kind=ForkedSlowWorkers, reuse_results="on")
    await completed(fleet, user, image)

    async with open_runtime(Settings(), fleet.services) as runtime:
        job_id = await fleet.database.fetchval("SELECT id FROM darkroom.jobs")
        terms = RetryTerms(redoes_completed=True)
        assert [one async for one in retry_jobs(runtime, [job_id], terms, actor="somebody")]

    async def are_over():
        rows = await fleet.database.fetch("SELECT status::text FROM darkroom.jobs")
        return [row["status"] for row in rows] == ["COMPLETED"] * 2

    await eventually(are_over)
    assert fleet.calls("generate") == 2


async def test_nothing_is_reused_unless_asked_for(fleet):
    user, image = await fleet.stored_picture(balance=10)
    fleet.start(1, kind=ForkedSlowWorkers)

    assert await completed(fleet, user, image) != await completed(fleet, user, image)
    assert fleet.calls("generate") == 2
