"""DARKROOM_REUSE_RESULTS: the same user's same picture, pipeline, model and tier is bought once."""

from tests.acceptance.conftest import eventually
from tests.builders import balance_of, job_row, make_image, make_job, make_user


async def completed(fleet, user_id, image_id, **columns):
    """Submit a job and return the key of its result once it is completed."""
    job_id = await make_job(fleet.database, user_id=user_id, image_id=image_id, **columns)

    async def is_over():
        return (await job_row(fleet.database, job_id))["status"] == "COMPLETED"

    await eventually(is_over, 20)
    return await fleet.database.fetchval(
        'SELECT "enhancedR2Key" FROM public.image_enhancement_jobs WHERE id = $1', job_id
    )


async def test_same_input_is_taken_from_the_users_own_earlier_job(fleet):
    user, image = await fleet.stored_picture(balance=10)
    fleet.start(1, reuse_results="on")
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
    fleet.start(1, reuse_results="on")
    first = await completed(fleet, user, image)

    await completed(fleet, user, image, tier="TIER_2K")
    await completed(fleet, other, image)
    assert fleet.calls("generate") == 3
    await fleet.storage.delete(first)
    await completed(fleet, user, await make_image(fleet.database, user, key=key))

    assert fleet.calls("generate") == 4


async def test_nothing_is_reused_unless_asked_for(fleet):
    user, image = await fleet.stored_picture(balance=10)
    fleet.start(1)

    assert await completed(fleet, user, image) != await completed(fleet, user, image)
    assert fleet.calls("generate") == 2
