"""Jobs whose pipelines name models: the named model is asked, or the job is refunded before anything is paid."""

import os

import pytest

from pipelines.settings import Settings
from tests.support.builders import balance_of, job_row, make_job, make_pipeline, money_violations
from tests.support.fake_gemini.server import FakeGemini
from tests.support.fake_openai import FakeOpenAI
from tests.support.fleet import eventually
from tests.support.forked import ForkedWorkers
from tests.support.patience import HANGS_AFTER_S


@pytest.fixture
def gemini():
    with FakeGemini() as server:
        yield server


@pytest.fixture
def openai():
    with FakeOpenAI() as server:
        yield server


@pytest.fixture
def start(fleet, gemini, openai, tmp_path):
    """Start a worker for both fake services."""
    started = []

    def start(provider, **environment):
        os.environ |= {"GEMINI_API_KEY": "gemini-key", "GEMINI_BASE_URL": gemini.url, "LOG_LEVEL": "warning"}
        os.environ |= {"OPENAI_API_KEY": "openai-key", "OPENAI_BASE_URL": openai.url}
        os.environ |= {f"DARKROOM_{name.upper()}": value for name, value in environment.items()}
        settings = Settings(home=tmp_path, provider=provider, gemini_api_key="gemini-key")
        workers = ForkedWorkers(settings, fleet.services, processes=1, lanes=4)
        workers.start()
        started.append(workers)
        assert workers.wait_ready(HANGS_AFTER_S), "the worker didn't start"

    yield start
    for workers in started:
        workers.stop(timeout_s=10)


async def ended(fleet, job):
    async def is_over():
        row = await job_row(fleet.database, job)
        return None if row["status"] in {"PENDING", "PROCESSING"} else row

    return await eventually(is_over, "the end of the job")


async def submitted(fleet, *, by_album=False, **configs):
    """Insert a job as a foreign producer does: with a pipeline of its own, or one of its picture's album."""
    user, image = await fleet.stored_picture(size=(120, 90), balance=1000)
    pipeline = await make_pipeline(fleet.database, user, **configs)
    if not by_album:
        return user, await make_job(fleet.database, user_id=user, image_id=image, pipelineId=pipeline)
    await fleet.database.fetch(
        """INSERT INTO public.albums (id, "userId", name, "pipelineId", "updatedAt")
           VALUES ('al', $1, 'a', $2, darkroom.utc_now())""",
        *(user, pipeline),
    )
    await fleet.database.fetch(
        "INSERT INTO public.album_images (id, \"albumId\", \"imageId\") VALUES ('ai', 'al', $1)", image
    )
    return user, await make_job(fleet.database, user_id=user, image_id=image)


@pytest.mark.parametrize(
    ("provider", "configs", "by_album", "words"),
    [
        (
            *(("gemini",), {"generationConfig": {"model": "gemini-2.5-flash-image"}}, False),
            "generationConfig.model: model gemini-2.5-flash-image has no price for a picture",
        ),
        (
            *(("gemini", "local"), {"generationConfig": {"model": "dreamer-9"}}, True),
            "generationConfig.model: model dreamer-9 has no price for a picture",
        ),
        (
            *(("gemini", "local"), {"analysisConfig": {"model": "gemini-1.5-flash"}}, False),
            "analysisConfig.model: model gemini-1.5-flash has no price for an analysis",
        ),
        (  # known, but for words only: a picture of it would have counted 0 USD
            *(("gemini",), {"generationConfig": {"model": "gemini-3.8-flash"}}, False),
            "generationConfig.model: model gemini-3.8-flash has no price for a picture",
        ),
        (
            *(("openai", "local"), {"generationConfig": {"model": "gemini-3-pro-image"}}, False),
            "gemini-3-pro-image is a model of gemini, which isn't configured (PROVIDER=openai,local)",
        ),
        (
            *(("gemini",), {"generationConfig": {"model": "models/gemini-3-pro-image"}}, False),
            "models/gemini-3-pro-image is no model's name",
        ),
    ],
    ids=["picture", "fallback and album", "analysis", "words only", "another provider's", "no name"],
)
async def test_model_that_cant_be_asked_ends_its_job_before_anything_is_paid(
    fleet, gemini, openai, start, provider, configs, by_album, words
):
    user, job = await submitted(fleet, by_album=by_album, **configs)
    start(provider)

    row = await ended(fleet, job)

    assert row["status"] == "REFUNDED"
    assert words in row["errorMessage"]
    assert (gemini.calls, openai.calls) == ([], [])
    assert await balance_of(fleet.database, user) == 1000
    assert await money_violations(fleet.database) == []


async def test_model_of_the_second_provider_is_bought_there_and_nowhere_else(fleet, gemini, openai, start):
    _, job = await submitted(fleet, analysisConfig={"enabled": False}, generationConfig={"model": "gpt-image-1"})
    start(("gemini", "openai"))

    row = await ended(fleet, job)

    assert (row["status"], row["geminiModel"]) == ("COMPLETED", "gpt-image-1")
    assert gemini.calls == []
    assert openai.calls[0].fields["model"] == "gpt-image-1"


async def test_unknown_model_is_asked_by_its_name_at_the_configured_price(fleet, gemini, start):
    _, job = await submitted(
        fleet, analysisConfig={"model": "gemini-9-looks"}, generationConfig={"model": "gemini-9-draws"}
    )
    start(("gemini",), unknown_model_usd="0.5")

    row = await ended(fleet, job)
    calls = await fleet.database.fetch(
        "SELECT model, quoted_usd::float8, cost_usd::float8 FROM darkroom.provider_calls ORDER BY id"
    )

    assert (row["status"], row["geminiModel"]) == ("COMPLETED", "gemini-9-draws")
    assert [call.model for call in gemini.calls] == ["gemini-9-looks", "gemini-9-draws"]
    assert [tuple(call) for call in calls] == [("gemini-9-looks", 0.5, 0.5), ("gemini-9-draws", 0.5, 0.5)]


async def test_named_model_that_is_gone_ends_its_job_and_stops_nobody_elses(fleet, gemini, start):
    gemini.script("404")
    _, job = await submitted(fleet, analysisConfig={"enabled": False}, generationConfig={"model": "gemini-3-pro-image"})
    start(("gemini", "local"))
    gone = await ended(fleet, job)
    _, other = await submitted(fleet, analysisConfig={"enabled": False})

    row = await ended(fleet, other)

    assert (gone["status"], "no model gemini-3-pro-image" in gone["errorMessage"]) == ("REFUNDED", True)
    assert (row["status"], row["geminiModel"]) == ("COMPLETED", "gemini-nano-banana-2.1")


async def test_local_engine_takes_every_pipeline_and_says_that_it_was_it(fleet, start):
    _, job = await submitted(fleet, analysisConfig={"model": "dreamer-8"}, generationConfig={"model": "dreamer-9"})
    start(("local",))

    row = await ended(fleet, job)
    looked = await fleet.database.fetchval('SELECT "analysisSource" FROM public.image_enhancement_jobs')

    assert (row["status"], row["geminiModel"], looked) == ("COMPLETED", "local", "local")
