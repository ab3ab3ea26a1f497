"""The SQL functions for producers: submit and cancel, and their SQLSTATEs."""

import asyncio

import asyncpg
import pytest

from tests.support.builders import (
    balance_of,
    job_row,
    make_api_key,
    make_claim,
    make_generation,
    make_image,
    make_job,
    make_pipeline,
    make_user,
    queue_row,
    set_status,
    waiting_for_locks,
)

ENHANCE = "SELECT darkroom.submit_enhancement(user_id => $1, image_id => $2, tier => $3)"
ENHANCE_KEY = "SELECT darkroom.submit_enhancement($1, $2, 'TIER_1K', idempotency_key => $3)"
GENERATE = "SELECT darkroom.submit_generation($1, $2, 'TIER_1K', 'a cat', input_url => 'https://example.test/a.png')"
GENERATE_KEY = "SELECT darkroom.submit_generation($1, 'GENERATE', 'TIER_1K', 'a cat', idempotency_key => $2)"
CANCEL = "SELECT darkroom.cancel_job($1)"


async def submit_with(foreign, user, image, **options):
    names = ", ".join(f"{name} => ${number}" for number, name in enumerate(options, 3))
    sql = f"SELECT darkroom.submit_enhancement($1, $2, 'TIER_1K', {names})"
    return await foreign.fetchval(sql, user, image, *options.values())


async def refused(awaitable):
    with pytest.raises(asyncpg.PostgresError) as caught:
        await awaitable
    return caught.value.sqlstate


async def test_submitted_enhancement_is_queued_and_charged(database, foreign):
    user = await make_user(database, balance=10)
    image = await make_image(database, user)

    job = await foreign.fetchval(ENHANCE, user, image, "TIER_2K")

    row = await job_row(database, job)
    assert (row["type"], row["status"], row["tokensCost"], row["imageId"]) == ("enhance", "PENDING", 5, image)
    assert (len(job), job[0]) == (25, "c")
    assert await queue_row(database, job)
    assert await balance_of(database, user) == 5


async def test_submitted_blend_has_its_source(database, foreign):
    user = await make_user(database)
    image, source = await make_image(database, user), await make_image(database, user)

    row = await job_row(database, await submit_with(foreign, user, image, source_image_id=source))

    assert (row["type"], row["sourceImageId"]) == ("blend", source)


@pytest.mark.parametrize("kind", ["GENERATE", "MODIFY"])
async def test_submitted_generation_is_queued_and_charged(database, foreign, kind):
    user = await make_user(database, balance=2)

    job = await foreign.fetchval(GENERATE, user, kind)

    assert (await queue_row(database, job))["job_type"] == kind.lower()
    assert await balance_of(database, user) == 0


async def test_submission_dates_are_utc_whatever_the_session(database, foreign):
    user = await make_user(database)
    await foreign.execute("SET TimeZone = 'Asia/Tokyo'")

    await foreign.fetchval(GENERATE, user, "GENERATE")

    assert await database.fetchval(
        """SELECT abs(extract(epoch FROM "createdAt" - (now() AT TIME ZONE 'utc'))) < 60 FROM darkroom.jobs"""
    )


@pytest.mark.parametrize("count", [20])
async def test_same_key_at_once_gives_one_job_and_one_charge(database, connect, count):
    user = await make_user(database, balance=100)
    image = await make_image(database, user)
    programs = [await connect() for _ in range(count)]

    jobs = await asyncio.gather(*(one.fetchval(ENHANCE_KEY, user, image, "key") for one in programs))

    assert len(set(jobs)) == 1
    assert await database.fetchval("SELECT count(*) FROM darkroom.jobs") == 1
    assert await balance_of(database, user) == 98


async def test_same_key_for_generations_gives_the_same_job(database, foreign):
    user = await make_user(database)

    jobs = {await foreign.fetchval(GENERATE_KEY, user, "key") for _ in range(3)}

    assert len(jobs) == 1
    assert await balance_of(database, user) == 98


async def test_same_key_of_another_user_gives_another_job(database, foreign):
    users = [await make_user(database), await make_user(database)]

    jobs = {await foreign.fetchval(GENERATE_KEY, user, "key") for user in users}

    assert len(jobs) == 2


async def test_same_key_after_the_job_is_over_gives_the_job_that_is_over(database, foreign):
    user = await make_user(database)
    job = await foreign.fetchval(GENERATE_KEY, user, "key")
    await set_status(database, job, "CANCELLED")

    assert await foreign.fetchval(GENERATE_KEY, user, "key") == job


async def test_same_key_after_a_refused_submission_is_free_again(database, foreign):
    user = await make_user(database, balance=0)
    assert await refused(foreign.fetchval(GENERATE_KEY, user, "key")) == "P0001"
    await database.fetch("UPDATE public.user_token_balances SET balance = 2")
    await database.fetch("UPDATE darkroom.opening_balances SET balance = 2")

    assert await queue_row(database, await foreign.fetchval(GENERATE_KEY, user, "key"))


async def test_same_key_waits_for_a_first_submission_that_is_rolled_back(database, connect, eventually):
    user = await make_user(database)
    first, second = await connect(), await connect()
    transaction = first.transaction()
    await transaction.start()
    lost = await first.fetchval(GENERATE_KEY, user, "key")
    waiting = asyncio.create_task(second.fetchval(GENERATE_KEY, user, "key"))
    await eventually(lambda: waiting_for_locks(database))

    await transaction.rollback()

    assert await waiting != lost
    assert await database.fetchval("SELECT count(*) FROM darkroom.jobs") == 1


async def test_unknown_things_are_not_found(database, foreign):
    user = await make_user(database)
    image = await make_image(database, user)

    assert await refused(foreign.fetchval(ENHANCE, "nobody", image, "FREE")) == "P0002"
    assert await refused(foreign.fetchval(ENHANCE, None, image, "FREE")) == "P0002"
    assert await refused(foreign.fetchval(ENHANCE, user, "nothing", "FREE")) == "P0002"
    assert await refused(foreign.fetchval(ENHANCE, user, None, "FREE")) == "P0002"
    assert await refused(submit_with(foreign, user, image, source_image_id="nothing")) == "P0002"
    assert await refused(submit_with(foreign, user, image, pipeline_id="nothing")) == "P0002"
    assert await refused(foreign.fetchval(GENERATE, "nobody", "GENERATE")) == "P0002"
    assert await refused(foreign.fetchval(CANCEL, "nothing")) == "P0002"
    assert await refused(foreign.fetchval(CANCEL, None)) == "P0002"
    assert await database.fetchval("SELECT count(*) FROM darkroom.jobs") == 0


async def test_others_things_are_not_yours(database, foreign):
    user, other = await make_user(database), await make_user(database)
    image, theirs = await make_image(database, user), await make_image(database, other)
    pipeline = await make_pipeline(database, other)
    key = await make_api_key(database, other)

    assert await refused(foreign.fetchval(ENHANCE, user, theirs, "FREE")) == "42501"
    assert await refused(submit_with(foreign, user, image, source_image_id=theirs)) == "42501"
    assert await refused(submit_with(foreign, user, image, pipeline_id=pipeline)) == "42501"
    by_key = "SELECT darkroom.submit_generation($1, 'GENERATE', 'FREE', 'x', api_key_id => $2)"
    assert await refused(foreign.fetchval(by_key, user, key)) == "42501"
    assert await queue_row(database, await foreign.fetchval(by_key, other, key))


async def test_public_things_of_others_may_be_used(database, foreign):
    user, other = await make_user(database), await make_user(database)
    theirs = await make_image(database, other, is_public=True)
    for visibility, owner in (("PUBLIC", other), ("LINK", None), ("PRIVATE", None)):
        pipeline = await make_pipeline(database, owner, visibility=visibility)

        assert await submit_with(foreign, user, theirs, pipeline_id=pipeline)


async def test_invalid_pipeline_is_refused_with_its_path(database, foreign):
    user = await make_user(database)
    image = await make_image(database, user)
    pipeline = await make_pipeline(database, user, generationConfig={"temperature": 3})

    with pytest.raises(asyncpg.InvalidParameterValueError, match=r"generationConfig\.temperature"):
        await submit_with(foreign, user, image, pipeline_id=pipeline)


async def test_too_few_tokens_are_told(database, foreign):
    user = await make_user(database, balance=1)
    image = await make_image(database, user)

    with pytest.raises(asyncpg.RaiseError) as caught:
        await foreign.fetchval(ENHANCE, user, image, "TIER_4K")

    assert caught.value.detail == "needed 10, available 1"


@pytest.mark.parametrize("tier", ["TIER_9K", "free", ""])
async def test_unknown_tier_is_refused(database, foreign, tier):
    user = await make_user(database)
    image = await make_image(database, user)

    assert await refused(foreign.fetchval(ENHANCE, user, image, tier)) == "22023"


@pytest.mark.parametrize("make", [make_job, make_generation])
async def test_cancel_ends_a_waiting_job(database, foreign, make):
    user = await make_user(database, balance=2)
    job = await make(database, user_id=user)

    assert await foreign.fetchval(CANCEL, job) == "CANCELLED"

    assert await balance_of(database, user) == 2


@pytest.mark.parametrize("table", ["enhancements", "generations"])
async def test_cancel_of_a_finished_job_tells_how_it_ended(database, foreign, table):
    claim = await make_claim(database, table)
    await set_status(database, claim.job_id, "COMPLETED")

    assert await foreign.fetchval(CANCEL, claim.job_id) == "COMPLETED"


async def test_hundred_cancels_by_function_refund_once(database, connect):
    user = await make_user(database, balance=2)
    job = await make_generation(database, user_id=user)
    programs = [await connect() for _ in range(50)]

    answers = await asyncio.gather(*(one.fetchval(CANCEL, job) for one in programs for _ in range(1)))

    assert set(answers) == {"CANCELLED"}
    assert await balance_of(database, user) == 2


async def test_repeatable_read_producers_of_one_key_never_make_two_jobs(database, connect):
    user = await make_user(database)
    first, second = await connect(), await connect()
    transaction = second.transaction(isolation="repeatable_read")
    await transaction.start()
    await second.fetchval("SELECT count(*) FROM public.users")
    await first.fetchval(GENERATE_KEY, user, "key")

    with pytest.raises(asyncpg.SerializationError):
        await second.fetchval(GENERATE_KEY, user, "key")

    assert await database.fetchval("SELECT count(*) FROM darkroom.jobs") == 1


@pytest.mark.parametrize("key", ["users/{other}/a.jpg", "{user}/a.jpg", "users/{user}", "users/{user}x/a.jpg"])
async def test_pipeline_with_a_reference_that_is_not_its_owners_is_refused(database, foreign, key):
    user, other = await make_user(database, balance=10), await make_user(database)
    image = await make_image(database, user)
    references = [{"url": "https://example.test/a"}, None, {"r2Key": key.format(user=user, other=other)}]
    pipeline = await make_pipeline(database, user, promptConfig={"referenceImages": references})

    with pytest.raises(asyncpg.InsufficientPrivilegeError, match=r"referenceImages\[2\]\.r2Key"):
        await submit_with(foreign, user, image, pipeline_id=pipeline)

    assert await balance_of(database, user) == 10


async def test_reference_of_the_pipelines_owner_serves_every_user_of_it(database, foreign):
    user, owner = await make_user(database), await make_user(database)
    references = [{"r2Key": f"users/{owner}/originals/a.jpg"}]
    pipeline = await make_pipeline(database, owner, visibility="PUBLIC", promptConfig={"referenceImages": references})

    assert await submit_with(foreign, user, await make_image(database, user), pipeline_id=pipeline)
