"""Which models may be asked: SQL's rule for producers and the workers' rule give the same answers, word for word."""

from decimal import Decimal
from itertools import product

import asyncpg
import pytest

from config.tiers import Tier
from pipelines.errors import ProviderNotConfiguredError
from pipelines.imaging.header import DecodeLimits
from pipelines.imaging.pool import PixelPool
from pipelines.options import AnalysisOptions
from pipelines.providers.catalogue import ModelCatalogue
from pipelines.providers.opening import open_provider
from pipelines.providers.prices import PriceTable
from pipelines.providers.registry import PROVIDERS
from pipelines.providers.terms import model_terms
from pipelines.settings import Settings
from tests.support.builders import balance_of, make_image, make_job, make_pipeline, make_user

SETTINGS = (
    {"provider": "local"},
    {"provider": "gemini"},
    {"provider": "gemini,local"},
    {"provider": "openai"},
    {"provider": "openai,gemini"},
    {"provider": "gemini,openai,local", "unknown_model_usd": 0},
    {"provider": "openai", "openai_image_model": "gemini-3-pro-image"},  # a gateway that sells another's model
    {"provider": "gemini", "model_prices": "dreamer-9/2K=0.3,looker/in=1,looker/out=2,half/in=1"},
)
MODELS = (
    *(name.rpartition("/")[0] for name in Settings().model_prices),
    *("dreamer-9", "looker", "half", "local", "gpt-image-2", "dall-e-3", "gemini-", "", " gemini-3-pro-image"),
    *("models/gemini-3-pro-image", "x" * 101, "ü", "a\nb", "gemini-3.5-flash\n", "'; --", "%s", "provider"),
)


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: " ".join(map(str, settings.values()))[:40])
async def test_sql_and_python_find_the_same_faults_in_the_same_words(database, settings):
    terms = model_terms(Settings(**settings))
    catalogue = ModelCatalogue(terms)

    for use in ("analyze", "generate"):
        for model in dict.fromkeys(MODELS):
            found = await database.fetchval("SELECT darkroom.model_fault($1, $2, $3)", terms, use, model)
            assert found == catalogue.fault(use, model), (use, model)


OVER_SIZE = (
    *({"provider": "gemini"}, {"provider": "openai"}, {"provider": "local"}, {"provider": "openai,gemini"}),
    *({"provider": "gemini,local"}, {"provider": "openai,local", "openai_image_model": "gemini-3-pro-image"}),
    {"provider": "gemini", "gemini_image_model": "gemini-3.1-flash-lite-image"},
    {"provider": "gemini", "model_prices": "dreamer-9/1K=0.1,dreamer-9/2K=0.3", "gemini_image_model": "dreamer-9"},
)


@pytest.mark.parametrize("settings", OVER_SIZE, ids=lambda settings: " ".join(map(str, settings.values()))[:40])
async def test_sql_and_python_refuse_the_same_sizes_in_the_same_words(database, settings):
    refusing = Settings(**settings, over_size="refuse")
    cases = list(product((None, *dict.fromkeys(MODELS)), Tier, (False, True)))

    catalogue = ModelCatalogue(model_terms(refusing))
    rows = await database.fetch(
        """SELECT darkroom.size_fault($1, c.model, c.tier, c.is_of_words) AS fault
           FROM unnest($2::text[], $3::text[], $4::boolean[]) c (model, tier, is_of_words)""",
        *(model_terms(refusing), *(list(column) for column in zip(*cases, strict=True))),
    )

    for (model, tier, is_of_words), row in zip(cases, rows, strict=True):
        wanted = catalogue.size_refusal(model, tier.long_side_px, is_of_words=is_of_words)
        assert row["fault"] == wanted, (model, tier, is_of_words)
    assert (
        await database.fetchval("SELECT darkroom.size_fault($1, NULL, 'TIER_4K', true)", model_terms(Settings()))
        is None
    )


SMALL = {"provider": "gemini", "gemini_image_model": "gemini-3.1-flash-lite-image", "over_size": "refuse"}


@pytest.mark.parametrize(
    "enter",
    [
        "SELECT darkroom.submit_enhancement($1, $2, 'TIER_4K')",
        "SELECT darkroom.submit_generation($1, 'GENERATE', 'TIER_2K', 'a cat') WHERE $2 <> ''",
        """INSERT INTO public.image_enhancement_jobs (id, "imageId", "userId", tier, "tokensCost", status, "updatedAt")
           SELECT t.tier, $2, $1, t.tier::public."EnhancementTier", darkroom.price(t.tier), 'PENDING',
                  darkroom.utc_now()
           FROM (VALUES ('TIER_1K'), ('TIER_2K')) t (tier)""",
        """INSERT INTO public.mcp_generation_jobs (id, "userId", type, tier, "tokensCost", status, prompt, "updatedAt")
           SELECT 'g', $1, 'MODIFY', 'TIER_4K', 10, 'PENDING', $2, darkroom.utc_now()""",
    ],
)
async def test_tier_that_no_model_makes_is_refused_before_it_is_charged_however_it_enters(database, enter):
    await record(database, **SMALL)
    user = await make_user(database)
    image = await make_image(database, user)

    with pytest.raises(asyncpg.InvalidParameterValueError, match="makes pictures of at most 1024 pixels"):
        await database.fetch(enter, user, image)

    assert await balance_of(database, user) == 100
    await record(database, **SMALL | {"over_size": "enlarge"})
    assert await database.fetch(enter, user, image) is not None
    assert await database.fetchval("SELECT count(*) FROM darkroom.job_queue") > 0


async def test_pipelines_and_albums_model_decide_which_size_is_made(database):
    await record(database, **SMALL)
    user = await make_user(database)
    image = await make_image(database, user)
    large = await make_pipeline(database, user, generationConfig={"model": "gemini-3-pro-image"})

    await make_job(database, user_id=user, image_id=image, tier="TIER_4K", pipelineId=large)
    await database.fetch(
        """INSERT INTO public.albums (id, "userId", name, "pipelineId", "updatedAt")
           VALUES ('a', $1, 'a', $2, darkroom.utc_now())""",
        user,
        large,
    )
    await database.fetch(
        """INSERT INTO public.album_images (id, "albumId", "imageId", "addedAt")
           VALUES ('a', 'a', $1, darkroom.utc_now())""",
        image,
    )
    await make_job(database, user_id=user, image_id=image, tier="TIER_4K")
    await make_job(database, user_id=user, image_id=image, tier="TIER_4K", status="COMPLETED")
    with pytest.raises(asyncpg.InvalidParameterValueError):
        await make_job(database, user_id=user, tier="TIER_4K")


async def record(database, **settings):
    await database.fetch(
        """INSERT INTO darkroom.settings (key, value) VALUES ('models', $1)
           ON CONFLICT (key) DO UPDATE SET value = excluded.value""",
        model_terms(Settings(**settings)),
    )


async def submit(database, **configs):
    user = await make_user(database)
    image, pipeline = await make_image(database, user), await make_pipeline(database, user, **configs)
    return await database.fetchval("SELECT darkroom.submit_enhancement($1, $2, 'TIER_1K', $3)", user, image, pipeline)


@pytest.mark.parametrize(
    "configs",
    [
        {"generationConfig": {"model": "gemini-2.5-flash-image"}},
        {"analysisConfig": {"model": "gemini-1.0-pro-vision"}},
        {"analysisConfig": {"enabled": True, "model": "gemini-1.0-pro-vision"}, "generationConfig": {}},
    ],
)
async def test_unknown_model_is_refused_by_name_at_submit_and_nothing_is_charged(database, configs):
    await record(database, provider="gemini")

    with pytest.raises(asyncpg.InvalidParameterValueError, match=r"Config\.model: model gemini-[-.\w]+ has no price"):
        await submit(database, **configs)

    assert await database.fetchval("SELECT count(*) FROM darkroom.job_money") == 0


@pytest.mark.parametrize(
    ("settings", "configs"),
    [
        ({"provider": "gemini"}, {"generationConfig": {"model": "gemini-3-pro-image"}}),
        ({"provider": "gemini"}, {"generationConfig": {"model": None}, "analysisConfig": None}),
        ({"provider": "gemini"}, {"analysisConfig": {"enabled": False, "model": "gemini-1.0-pro-vision"}}),
        ({"provider": "local"}, {"generationConfig": {"model": "dreamer-9"}}),
        ({"provider": "gemini", "unknown_model_usd": 0.2}, {"generationConfig": {"model": "dreamer-9"}}),
    ],
    ids=["known", "none", "not analyzed", "local", "at a price"],
)
async def test_model_that_may_be_asked_or_is_never_asked_is_taken(database, settings, configs):
    await record(database, **settings)

    assert await submit(database, **configs)


async def test_analyzers_are_the_providers_that_say_so():
    settings = Settings(gemini_api_key="k", openai_api_key="k")
    able, pixels = set(), PixelPool.__new__(PixelPool)
    for name in PROVIDERS:
        try:
            open_provider(name, settings, pixels, DecodeLimits()).quote_analysis(AnalysisOptions())
        except ProviderNotConfiguredError:
            continue
        able.add(name)

    assert able == {name for name, one in PROVIDERS.items() if one.analyzes}


async def test_configured_model_without_a_price_is_asked_and_said_to_count_nothing():
    settings = Settings(provider="openai", openai_api_key="k", openai_image_model="sdxl")
    catalogue = ModelCatalogue(model_terms(settings))

    assert catalogue.chosen("openai", "generate", None, "sdxl") == "sdxl"
    assert catalogue.chosen("openai", "generate", "sdxl", "sdxl") == "sdxl"
    with pytest.raises(ProviderNotConfiguredError, match="DARKROOM_OPENAI_IMAGE_MODEL=sdxl has no price"):
        catalogue.require_price("generate", "DARKROOM_OPENAI_IMAGE_MODEL", "sdxl")


def test_units_without_a_price_leave_the_cost_to_what_was_quoted():
    prices = PriceTable({"m/1K": 0.25, "n/1K": 0.25, "n/in": 1, "n/image_out": 30}, unknown_usd=0.5)

    assert prices.units_usd("m", prompt=10, image=1000) is None
    assert prices.units_usd("n", prompt=10, output=5, image=1000) is None
    assert prices.units_usd("n") is None
    assert prices.units_usd("n", prompt=1_000_000, image=1_000_000) == Decimal(31)
    assert (prices.image_usd("m", 1024), prices.image_usd("o", 1024)) == (Decimal("0.25"), Decimal("0.5"))
