"""One idempotency key makes one job: the same arguments return it, other arguments are refused by name."""

from pathlib import Path

import asyncpg
import pytest

from models.queue.submission import Generation
from pipelines.settings import Settings
from tests.support.builders import balance_of, make_image, make_pipeline, make_user, queue_row, set_status
from workers.operations.errors import InvalidInputError
from workers.process.compose import open_runtime
from workers.services.services import Services
from workers.submission import submit_generation

ENHANCE = """
SELECT darkroom.submit_enhancement($1, $2, $3, pipeline_id => $4, source_image_id => $5, idempotency_key => 'key')
"""
GENERATE = """
SELECT darkroom.submit_generation($1, $2, $3, $4, input_key => $5, input_url => $6, idempotency_key => 'key')
"""


async def differing(awaitable):
    with pytest.raises(asyncpg.InvalidParameterValueError) as caught:
        await awaitable
    return str(caught.value).partition("with another ")[2]


@pytest.fixture
async def user(database):
    return await make_user(database)


async def enhancement(database, user):
    image, other = await make_image(database, user), await make_image(database, user)
    return [image, "TIER_1K", await make_pipeline(database, user), other], other


@pytest.mark.parametrize(("place", "name"), list(enumerate(["image_id", "tier", "pipeline_id", "source_image_id"])))
@pytest.mark.parametrize("is_old", [False, True], ids=["kept", "from before arguments were kept"])
async def test_key_with_another_argument_of_an_enhancement_is_refused(database, foreign, user, place, name, is_old):
    first, other = await enhancement(database, user)
    job = await foreign.fetchval(ENHANCE, user, *first)
    second = list(first)
    second[place] = {"image_id": other, "tier": "TIER_2K", "pipeline_id": await make_pipeline(database, user),
                     "source_image_id": first[0]}[name]  # fmt: skip
    if is_old:
        await database.fetch("UPDATE darkroom.submissions SET arguments = NULL")

    assert await differing(foreign.fetchval(ENHANCE, user, *second)) == name

    assert await foreign.fetchval(ENHANCE, user, *first) == job
    assert await balance_of(database, user) == 98


@pytest.mark.parametrize(("place", "name"), [(1, "tier"), (2, "pipeline_id"), (3, "source_image_id")])
async def test_key_with_an_argument_left_out_is_refused(database, foreign, user, place, name):
    first, _ = await enhancement(database, user)
    await foreign.fetchval(ENHANCE, user, *first)
    second = list(first)
    second[place] = None

    assert await differing(foreign.fetchval(ENHANCE, user, *second)) == name


@pytest.mark.parametrize("is_old", [False, True], ids=["kept", "from before arguments were kept"])
async def test_key_with_other_arguments_of_a_generation_is_refused_and_tells_no_prompt(database, foreign, user, is_old):
    key = f"mcp-input/{user}/a.png"
    first = ("MODIFY", "TIER_1K", "paint the secret door", key, "https://example.test/a?signature=1")
    job = await foreign.fetchval(GENERATE, user, *first)
    if is_old:
        await database.fetch("UPDATE darkroom.submissions SET arguments = NULL")
    others = ("GENERATE", "TIER_2K", "another", f"mcp-input/{user}/b.png", "https://example.test/b")

    for place, name in enumerate(["type", "tier", "prompt", "input_key", "input_url"]):
        second = list(first)
        second[place] = others[place]
        assert await differing(foreign.fetchval(GENERATE, user, *second)) == name
    assert await differing(foreign.fetchval(GENERATE, user, *others)) == "input_key, input_url, prompt, tier, type"

    assert await foreign.fetchval(GENERATE, user, *first) == job
    kept = await database.fetchval("SELECT arguments::text FROM darkroom.submissions")
    assert is_old or not {"secret", "signature"} & set(kept.replace("?", " ").split())


async def test_key_of_an_enhancement_for_a_generation_is_refused(database, foreign, user):
    image = await make_image(database, user)
    await foreign.fetchval(ENHANCE, user, image, "TIER_1K", None, None)

    with pytest.raises(asyncpg.InvalidParameterValueError, match=r"another .*type"):
        await foreign.fetchval(GENERATE, user, "GENERATE", "TIER_1K", "a cat", None, None)


@pytest.mark.parametrize("run_at", ["NULL", "now() + interval '1 hour'"])
async def test_key_of_before_a_time_to_begin_could_be_given_returns_its_job(database, foreign, user, run_at):
    image = await make_image(database, user)
    arguments = [image, "TIER_1K", None, None]
    job = await foreign.fetchval(ENHANCE, user, *arguments)
    await database.fetch("UPDATE darkroom.submissions SET arguments = arguments - 'run_at'")

    again = ENHANCE.replace("'key')", f"'key', run_at => {run_at})")
    assert await foreign.fetchval(again, user, *arguments) == job
    arguments[1] = "TIER_2K"
    assert await differing(foreign.fetchval(again, user, *arguments)) == "tier"


async def test_key_of_before_whose_job_is_gone_is_accepted(database, foreign, user):
    image = await make_image(database, user)
    job = await foreign.fetchval(ENHANCE, user, image, "TIER_1K", None, None)
    await set_status(database, job, "CANCELLED")
    await database.fetch("UPDATE darkroom.submissions SET arguments = NULL")
    await database.fetch("DELETE FROM public.image_enhancement_jobs")

    assert await foreign.fetchval(ENHANCE, user, image, "TIER_4K", None, None) == job


async def test_key_whose_job_took_its_default_tier_gives_it_again(database, foreign, user):
    image = await make_image(database, user)

    jobs = {await foreign.fetchval(ENHANCE, user, image, None, None, None) for _ in range(2)}

    assert len(jobs) == 1


@pytest.mark.parametrize(("first", "second"), [("16:9", "1:1"), ("16:9", None), (None, "16:9")])
async def test_key_with_another_aspect_is_refused_and_the_job_keeps_its_own(
    database, database_url, redis_url, tmp_path: Path, user, first, second
):
    services = Services(
        database_url=database_url,
        database_direct_url=database_url,
        redis_url=redis_url,
        broker_url=redis_url,
        storage_url=tmp_path.as_uri(),
        is_embedded=False,
    )
    async with open_runtime(Settings(home=tmp_path), services) as runtime:

        async def submit(aspect):
            job = Generation(user, "GENERATE", "FREE", "a cat", idempotency_key="key", aspect=aspect)
            return await submit_generation(runtime, job)

        job = await submit(first)
        with pytest.raises(InvalidInputError, match="another aspect"):
            await submit(second)

        assert await submit(first) == job
    assert (await queue_row(database, job))["payload"].get("aspect") == first
