"""Which keys and pipelines a job may use, checked again when it runs, before anything is bought."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from config.tiers import PRICES_TOKENS
from models.queue.claims import ClaimLostError
from models.queue.inputs import record_pipeline
from models.schema.migrate import upgrade
from pipelines.errors import ProviderUnavailableError
from tests.support.builders import (
    balance_of,
    claim_jobs,
    job_row,
    load_inputs,
    make_api_key,
    make_generation,
    make_image,
    make_job,
    make_pipeline,
    make_user,
    new_id,
    set_status,
)
from tests.support.patience import HANGS_AFTER_S
from tests.support.running import make_runner
from tests.support.scripted_provider import ScriptedProvider
from tests.support.ungated import Ungated
from workers.running.job import RunningJob

LINK = "SELECT darkroom.submit_enhancement($1, $2, $3, $4, pipeline_token => $5)"


@pytest.fixture
def provider():
    """Can be asked and never answers: a job that gets as far as this was allowed to."""
    return ScriptedProvider(ProviderUnavailableError("down"))


@pytest.fixture
def run(database, provider, tmp_path: Path):
    """Claim the next job and run one attempt of it; return the claim."""

    async def run_next():
        (held,) = await claim_jobs(database)
        runner = make_runner(database, tmp_path, Ungated(provider))
        await asyncio.wait_for(runner.run_job(RunningJob(held)), HANGS_AFTER_S)
        return held

    return run_next


async def error_of(database, job):
    return (await job_row(database, job))["errorMessage"]


@pytest.mark.parametrize("whose", ["another's", "inactive"])
async def test_inserted_job_with_a_key_that_cannot_be_used_is_refunded_before_anything_is_bought(
    database, run, provider, whose
):
    user = await make_user(database, balance=2)
    owner = user if whose == "inactive" else await make_user(database)
    key = await make_api_key(database, owner, is_active=whose != "inactive")
    job = await make_generation(database, user_id=user, api_key_id=key)

    await run()

    row = await job_row(database, job)
    assert (row["status"], row["errorMessage"]) == (
        "REFUNDED",
        f"API key {key} is not active" if whose == "inactive" else f"API key {key} is not yours",
    )
    assert (await balance_of(database, user), provider.sent) == (2, 0)


async def test_key_that_is_switched_off_while_its_job_waits_buys_nothing(database, run, provider):
    user = await make_user(database, balance=2)
    key = await make_api_key(database, user)
    job = await make_generation(database, user_id=user, api_key_id=key)
    await database.fetch('UPDATE public.api_keys SET "isActive" = false')

    await run()

    assert ((await job_row(database, job))["status"], provider.sent) == ("REFUNDED", 0)


async def test_ones_own_active_key_and_a_table_without_keys_are_no_hindrance(database, run, provider):
    user = await make_user(database)
    await make_generation(database, user_id=user, api_key_id=await make_api_key(database, user))
    await run()
    await database.fetch("DROP TABLE public.api_keys CASCADE")
    await make_generation(database, user_id=user, api_key_id="of another tool")
    await run()

    assert provider.sent == 2


async def test_only_the_job_whose_key_may_be_another_users_is_refused_of_those_that_are_prepared_together(
    database, provider, tmp_path: Path
):
    other, user = await make_user(database), await make_user(database)
    await database.fetch("UPDATE public.users SET id = $1 || '/private' WHERE id = $2", user, other)
    shared, own = [await make_generation(database, user_id=user, kind="MODIFY") for _ in range(2)]
    for job, folder in ((shared, "private"), (own, "originals")):
        key = f"users/{user}/{folder}/x.jpg"
        await database.fetch('UPDATE public.mcp_generation_jobs SET "inputImageR2Key" = $2 WHERE id = $1', job, key)
    runner = make_runner(database, tmp_path, Ungated(provider))

    held = await claim_jobs(database, most=2)
    await asyncio.wait_for(asyncio.gather(*(runner.run_job(RunningJob(one)) for one in held)), HANGS_AFTER_S)

    assert f"may be user {user}/private's and not yours" in await error_of(database, shared)
    assert await error_of(database, own) == f"object users/{user}/originals/x.jpg is not in storage"


async def share(database, pipeline, token):
    await database.fetch(
        """UPDATE public.enhancement_pipelines SET visibility = 'LINK', "shareToken" = $2 WHERE id = $1""",
        pipeline,
        token,
    )


async def shared_pipeline(database, token="t-1"):
    pipeline = await make_pipeline(database, await make_user(database), visibility="LINK")
    await share(database, pipeline, token)
    return pipeline


@pytest.mark.parametrize(
    ("token", "shown"), [("t-1", None), ("t-1", ""), ("t-1", "t-2"), (None, None), (None, "t-1"), ("", "")]
)
async def test_pipeline_shared_by_link_is_refused_without_its_token(database, foreign, token, shown):
    user = await make_user(database, balance=10)
    image, pipeline = await make_image(database, user), await shared_pipeline(database, token)

    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="shared by link and not yours"):
        await foreign.fetchval(LINK, user, image, "TIER_1K", pipeline, shown)

    assert await balance_of(database, user) == 10


async def test_pipeline_shared_by_link_is_used_with_its_token(database, foreign, run):
    user = await make_user(database)
    image, pipeline = await make_image(database, user), await shared_pipeline(database)

    job = await foreign.fetchval(LINK, user, image, "TIER_1K", pipeline, "t-1")
    await run()

    assert (await job_row(database, job))["pipelineId"] == pipeline
    assert "object" in await error_of(database, job)  # it got as far as its picture, which isn't stored


async def test_owner_of_a_shared_pipeline_shows_no_token(database, foreign):
    user = await make_user(database)
    pipeline = await make_pipeline(database, user, visibility="LINK")
    await share(database, pipeline, "t-1")

    assert await foreign.fetchval(LINK, user, await make_image(database, user), "TIER_1K", pipeline, None)


@pytest.mark.parametrize("policy", ["owner", "trust"])
async def test_inserted_job_may_use_a_shared_pipeline_where_the_application_is_trusted(database, run, policy):
    await database.fetch(
        "INSERT INTO darkroom.settings (key, value) VALUES ('link_pipelines', to_jsonb($1::text)) "
        "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        policy,
    )
    user = await make_user(database, balance=2)
    job = await make_job(database, user_id=user, pipelineId=await shared_pipeline(database))

    await run()

    row = await job_row(database, job)
    assert row["status"] == "REFUNDED"
    assert ("not yours" in row["errorMessage"]) == (policy == "owner")
    assert await balance_of(database, user) == 2


async def test_token_shown_for_one_job_is_not_shown_for_the_next(database, foreign, run):
    user = await make_user(database)
    image, pipeline = await make_image(database, user), await shared_pipeline(database)
    first = await foreign.fetchval(LINK, user, image, "TIER_1K", pipeline, "t-1")
    await set_status(database, first, "CANCELLED")
    job = await make_job(database, user_id=user, image_id=image, pipelineId=pipeline)

    await run()

    assert "not yours" in await error_of(database, job)


async def test_token_shown_survives_the_loss_of_the_queue(database, foreign, run):
    user = await make_user(database)
    job = await foreign.fetchval(
        LINK, user, await make_image(database, user), "TIER_1K", await shared_pipeline(database), "t-1"
    )
    await database.fetch("TRUNCATE darkroom.job_queue")
    await database.fetch("SELECT darkroom.adopt()")

    await run()

    assert "not yours" not in await error_of(database, job)


@pytest.mark.parametrize(("given", "recorded"), [(None, "owner"), ("trust", "trust"), ("owner", "owner")])
async def test_upgrade_records_who_is_trusted_with_links(database, database_url, given, recorded):
    await upgrade(database_url, prices=PRICES_TOKENS, link_pipelines=given)

    assert await database.fetchval("SELECT darkroom.link_pipelines()") == recorded


async def add_to_album(database, user, image, pipeline, *, tier="TIER_1K", minute=0):
    album = new_id("a")
    await database.fetch(
        """INSERT INTO public.albums (id, "userId", name, "pipelineId", "defaultTier", "updatedAt")
           VALUES ($1, $2, $1, $3, $4::text::public."EnhancementTier", darkroom.utc_now())""",
        album,
        user,
        pipeline,
        tier,
    )
    await database.fetch(
        """INSERT INTO public.album_images (id, "albumId", "imageId", "addedAt")
           VALUES ($1, $1, $2, darkroom.utc_now() + make_interval(mins => $3))""",
        album,
        image,
        minute,
    )


async def test_albums_pipeline_that_treated_a_job_stands_in_its_row(database, run):
    user = await make_user(database)
    image, pipeline = await make_image(database, user), await make_pipeline(database, user)
    await add_to_album(database, user, image, pipeline)
    job = await make_job(database, user_id=user, image_id=image)

    await run()

    assert (await job_row(database, job))["pipelineId"] == pipeline


@pytest.mark.parametrize("visibility", ["own", "PUBLIC"])
@pytest.mark.parametrize("way", ["insert", "submit"])
async def test_albums_pipeline_stands_in_the_row_from_the_beginning(database, foreign, way, visibility):
    user = await make_user(database)
    owner, kind = (user, "PRIVATE") if visibility == "own" else (await make_user(database), "PUBLIC")
    image, pipeline = await make_image(database, user), await make_pipeline(database, owner, visibility=kind)
    await add_to_album(database, user, image, pipeline, tier="TIER_2K")

    if way == "insert":
        job = await make_job(database, user_id=user, image_id=image)
    else:
        job = await foreign.fetchval("SELECT darkroom.submit_enhancement($1, $2, NULL)", user, image)
    await database.fetch("DELETE FROM public.albums")

    row = await job_row(database, job)
    assert row["pipelineId"] == pipeline
    assert way == "insert" or row["tier"] == "TIER_2K"  # an album's tier is its own, beside its pipeline's


@pytest.mark.parametrize("policy", ["trust", "owner"])
async def test_albums_shared_pipeline_stands_in_an_inserted_row_only_where_links_are_trusted(database, policy):
    user = await make_user(database)
    image, pipeline = await make_image(database, user), await shared_pipeline(database)
    await add_to_album(database, user, image, pipeline)
    await database.fetch("UPDATE darkroom.settings SET value = to_jsonb($1::text) WHERE key = 'link_pipelines'", policy)

    job = await make_job(database, user_id=user, image_id=image)

    assert (await job_row(database, job))["pipelineId"] == (pipeline if policy == "trust" else None)


async def test_history_and_serializable_inserts_look_for_no_album(database, foreign):
    user = await make_user(database)
    image, pipeline = await make_image(database, user), await make_pipeline(database, user)
    await add_to_album(database, user, image, pipeline)

    history = await make_job(database, user_id=user, image_id=image, status="COMPLETED")
    async with foreign.transaction(isolation="serializable"):
        await foreign.execute(
            """INSERT INTO public.image_enhancement_jobs
                   (id, "imageId", "userId", tier, "tokensCost", status, "updatedAt")
               VALUES ('s', $1, $2, 'TIER_1K', 2, 'PENDING', darkroom.utc_now())""",
            image,
            user,
        )

    assert (await job_row(database, history))["pipelineId"] is None
    assert (await job_row(database, "s"))["pipelineId"] is None  # until its worker writes it


async def test_jobs_own_pipeline_and_none_at_all_stay_what_they_were(database, run):
    user = await make_user(database)
    image, own = await make_image(database, user), await make_pipeline(database, user)
    await add_to_album(database, user, image, await make_pipeline(database, user))
    with_own = await make_job(database, user_id=user, image_id=image, pipelineId=own)
    with_none = await make_job(database, user_id=user)

    await run()
    await run()

    assert (await job_row(database, with_own))["pipelineId"] == own
    assert (await job_row(database, with_none))["pipelineId"] is None


async def test_albums_pipeline_is_written_only_by_who_holds_the_job(database):
    user = await make_user(database)
    image, pipeline = await make_image(database, user), await make_pipeline(database, user)
    job = await make_job(database, user_id=user, image_id=image)
    await add_to_album(database, user, image, pipeline)
    (claim,) = await claim_jobs(database)
    assert (await load_inputs(database, claim)).pipeline.is_albums
    await set_status(database, job, "CANCELLED")

    with pytest.raises(ClaimLostError):
        await database.run(lambda connection: record_pipeline(connection, claim, pipeline))

    assert (await job_row(database, job))["pipelineId"] is None


async def test_jobs_own_pipeline_counts_as_a_whole_before_its_albums(database):
    user = await make_user(database)
    image = await make_image(database, user)
    own = await make_pipeline(database, user, analysisConfig={"enabled": True})
    albums = await make_pipeline(database, user, generationConfig={"retryAttempts": 7})
    await add_to_album(database, user, image, albums)
    await make_job(database, user_id=user, image_id=image, pipelineId=own)
    (claim,) = await claim_jobs(database)

    pipeline = (await load_inputs(database, claim)).pipeline

    assert (pipeline.id, pipeline.is_albums) == (own, False)
    assert pipeline.config["generationConfig"] is None


async def test_anothers_private_pipeline_of_an_album_is_not_written(database, run):
    user, other = await make_user(database), await make_user(database)
    image, pipeline = await make_image(database, user), await make_pipeline(database, other)
    await add_to_album(database, user, image, pipeline)
    job = await make_job(database, user_id=user, image_id=image)

    await run()

    row = await job_row(database, job)
    assert (row["pipelineId"], "not yours" in row["errorMessage"]) == (None, True)


@pytest.mark.parametrize("fault", ["private", "invalid", "shared by link"])
async def test_submission_that_its_albums_pipeline_would_fail_is_refused(database, foreign, fault):
    user, other = await make_user(database, balance=10), await make_user(database)
    image = await make_image(database, user)
    pipeline = await {
        "private": lambda: make_pipeline(database, other),
        "invalid": lambda: make_pipeline(database, user, generationConfig={"temperature": 9}),
        "shared by link": lambda: shared_pipeline(database),
    }[fault]()
    await add_to_album(database, user, image, pipeline)

    with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.InvalidParameterValueError)):
        await foreign.fetchval(LINK, user, image, "TIER_1K", None, None)

    assert await balance_of(database, user) == 10
    if fault == "shared by link":
        assert await foreign.fetchval(LINK, user, image, "TIER_1K", None, "t-1")


@pytest.mark.parametrize(
    ("asked", "pipelines", "albums", "expected"),
    [
        ("TIER_2K", "TIER_4K", ["FREE"], "TIER_2K"),
        (None, "TIER_4K", ["FREE"], "TIER_4K"),
        (None, None, ["FREE"], "FREE"),
        (None, None, ["FREE", "TIER_2K"], "TIER_2K"),
        (None, None, [], "TIER_1K"),
    ],
)
async def test_tier_is_the_jobs_then_the_pipelines_then_the_albums(
    database, foreign, asked, pipelines, albums, expected
):
    user = await make_user(database)
    image, pipeline = await make_image(database, user), None
    for minute, tier in enumerate(albums):
        await add_to_album(database, user, image, None, tier=tier, minute=minute)
    if pipelines is not None:
        pipeline = await make_pipeline(database, user)
        await database.fetch(
            'UPDATE public.enhancement_pipelines SET tier = $1::text::public."EnhancementTier"', pipelines
        )

    job = await foreign.fetchval(LINK, user, image, asked, pipeline, None)

    row = await job_row(database, job)
    assert (row["tier"], row["tokensCost"]) == (expected, PRICES_TOKENS[expected])
