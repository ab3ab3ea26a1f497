"""The project's client, and Google's own, against the fake Gemini."""

import asyncio
import io
import json
from decimal import Decimal

import pytest
from PIL import Image

from config.pipeline_rules import Defect
from pipelines.corrections import ALL_CORRECTIONS
from pipelines.errors import (
    BadImageError,
    BrokenAnswerError,
    PolicyRefusedError,
    ProviderNotConfiguredError,
    ProviderTimedOutError,
    ProviderUnavailableError,
    RequestRejectedError,
    ThrottledError,
)
from pipelines.imaging.geometry import PixelBox
from pipelines.imaging.header import DecodeLimits
from pipelines.job import Prompt
from pipelines.options import AnalysisOptions
from pipelines.prompts import Purpose
from pipelines.providers.gemini.provider import GeminiProvider
from pipelines.providers.provider import EncodedImage
from pipelines.settings import Settings
from tests.support.fake_gemini import answers
from tests.support.fake_gemini.server import answered
from tests.support.imaging_pictures import encoded, photo
from tests.support.patience import within
from tests.support.ungated import Ungated

LIMITS = DecodeLimits(max_bytes=25_000_000, max_pixels=64_000_000)
KEY = "a-key-that-appears-nowhere"
PROMPT = Prompt("Make it better.", ALL_CORRECTIONS)
PICTURE = EncodedImage(encoded(photo(300, 200), "JPEG"))


@pytest.fixture
async def gemini(server, pixels):
    provider = GeminiProvider(Settings(gemini_api_key=KEY, gemini_base_url=server.url), pixels, LIMITS)
    yield Ungated(provider)
    await provider.aclose()


async def test_analysis_is_read_with_its_cost(gemini, server):
    answer = await gemini.analyze(PICTURE, AnalysisOptions())

    assert (answer.model, answer.value.source) == ("gemini-3.5-flash", "gemini-3.5-flash")
    assert answer.value.defects.found() == {Defect.IS_DARK}
    assert (answer.usage.prompt_units, answer.usage.output_units) == (288, 180)
    assert answer.usage.cost_usd == Decimal("0.002052")
    assert server.calls[0].headers["x-goog-api-key"] == KEY


async def test_picture_keeps_its_margins_of_the_nearest_ratio(gemini, server):
    wide = EncodedImage(encoded(photo(1000, 200), "JPEG"), PixelBox(0, 0, 700, 200))
    answer = await gemini.generate(PROMPT, [wide], 2048, 3.5)

    (call,) = server.calls
    image = call.request["generationConfig"]["imageConfig"]
    assert image == {"aspectRatio": "4:1", "imageSize": "2K"}
    sent = answers.pictures_in(call.request)[0]
    assert sent.width / sent.height == pytest.approx(4, rel=0.01)
    with Image.open(io.BytesIO(answer.value.data)) as picture:
        assert picture.size == (2048, 512)
    assert answer.usage.cost_usd == Decimal("0.034032")


async def test_picture_that_is_to_get_another_aspect_is_sent_without_margins_and_asks_for_it(gemini, server):
    prompt = Prompt("A shirt on a model.", ALL_CORRECTIONS, Purpose.MODIFY, is_reshaped=True)
    pictures = [
        EncodedImage(encoded(photo(*size_px), "JPEG")) for size_px in ((300, 210), (90, 30), (30, 90), (64, 64))
    ]

    answer = await gemini.generate(prompt, pictures, 1024, 9 / 16)

    (call,) = server.calls
    assert call.request["generationConfig"]["imageConfig"]["aspectRatio"] == "9:16"
    assert [one.size for one in answers.pictures_in(call.request)] == [(300, 210), (90, 30), (30, 90), (64, 64)]
    with Image.open(io.BytesIO(answer.value.data)) as made:
        assert made.width / made.height == pytest.approx(9 / 16, rel=0.01)


async def test_pictures_leave_without_metadata_upright_and_small(gemini, server):
    picture = photo(4000, 3000)
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "canary-in-exif"
    data = io.BytesIO()
    picture.save(data, "JPEG", exif=exif, comment=b"canary-in-comment")

    await gemini.generate(PROMPT, [EncodedImage(data.getvalue()), PICTURE], 1024, 0.75)

    request = server.calls[0].request
    first, second = answers.pictures_in(request)
    assert first.size == (2304, 3072)
    assert second.size == (300, 200)
    assert not first.getexif()


async def test_words_alone_make_a_picture_of_the_aspect_asked_for(gemini, server):
    prompt = Prompt("A cat.", ALL_CORRECTIONS, Purpose.GENERATE, model="gemini-3-pro-image", temperature=0.3)
    answer = await gemini.generate(prompt, [], 4096, 16 / 9)

    config = server.calls[0].request["generationConfig"]
    assert (answer.model, answer.temperature, config["temperature"]) == ("gemini-3-pro-image", 0.3, 0.3)
    assert config["imageConfig"] == {"aspectRatio": "16:9", "imageSize": "4K"}


async def test_last_picture_that_is_no_thought_is_taken(gemini, server):
    server.script("thoughts")
    answer = await gemini.generate(PROMPT, [PICTURE], 1024, 1.5)

    with Image.open(io.BytesIO(answer.value.data)) as picture:
        assert picture.format == "JPEG"


async def test_only_a_thought_is_taken_and_base64url_without_padding_too(gemini, server):
    part = answers.inline_part(photo(1024, 683), "PNG", thought=True)
    part["inlineData"]["data"] = part["inlineData"]["data"].replace("+", "-").replace("/", "_").rstrip("=")
    server.answer = lambda _: answered(part)
    answer = await gemini.generate(PROMPT, [PICTURE], 1024, 1.5)

    with Image.open(io.BytesIO(answer.value.data)) as picture:
        assert picture.size == (1024, 683)


@pytest.mark.parametrize(
    ("fault", "error", "is_paid"),
    [
        ("429", ThrottledError, False),
        ("429 bare", ThrottledError, False),
        ("500", ProviderUnavailableError, False),
        ("503", ProviderUnavailableError, False),
        ("504", ProviderTimedOutError, True),
        ("400", RequestRejectedError, False),
        ("401", ProviderNotConfiguredError, False),
        ("403", ProviderNotConfiguredError, False),
        ("404", ProviderNotConfiguredError, False),
        ("reset", ProviderUnavailableError, False),
        ("timeout", ProviderTimedOutError, True),
        ("half", ProviderTimedOutError, True),
        ("html", BrokenAnswerError, True),
        ("text only", BrokenAnswerError, True),
        ("no picture", BrokenAnswerError, True),
        ("recitation", BrokenAnswerError, True),
        ("new reason", BrokenAnswerError, True),
        ("image safety", PolicyRefusedError, False),
        ("blocked", PolicyRefusedError, False),
    ],
)
async def test_every_failure_is_one_of_ours(gemini, server, fault, error, is_paid):
    server.script(fault)
    with pytest.raises(error) as caught:
        await gemini.generate(PROMPT, [PICTURE], 1024, 1.5)

    assert getattr(caught.value, "is_paid", False) is is_paid
    assert caught.value.was_sent
    assert KEY not in f"{caught.value!r} {caught.value.evidence}"


async def test_retry_info_is_what_a_throttle_says(gemini, server):
    server.script("429")
    with pytest.raises(ThrottledError) as caught:
        await gemini.analyze(PICTURE, AnalysisOptions())

    assert caught.value.retry_after.total_seconds() == 2


async def test_nobody_there_means_nothing_sent(server, pixels):
    server.__exit__()
    gemini = GeminiProvider(Settings(gemini_api_key=KEY, gemini_base_url=server.url), pixels, LIMITS)
    with pytest.raises(ProviderUnavailableError) as caught:
        await Ungated(gemini).analyze(PICTURE, AnalysisOptions())

    assert not caught.value.was_sent
    await gemini.aclose()


async def test_refused_picture_never_leaves_the_house(gemini, server):
    with pytest.raises(BadImageError):
        await gemini.analyze(EncodedImage(b"<svg/>"), AnalysisOptions())

    assert server.calls == []


async def test_cancelling_ends_a_call_at_once(gemini, server):
    server.delay_s = 3
    call = asyncio.create_task(gemini.generate(PROMPT, [PICTURE], 1024, 1.5))
    while not server.calls:  # noqa: ASYNC110 - another thread's list
        await asyncio.sleep(0.01)
    call.cancel()

    with within(1):
        await asyncio.wait([call])

    assert call.cancelled()


@pytest.mark.parametrize(
    ("models", "complaint"),
    [
        ({}, None),
        ({"gemini_image_model": "gemini-2.5-flash-image"}, "no model gemini-2.5-flash-image"),
        ({"gemini_analysis_model": "typo"}, "no model typo .any more.; name another in DARKROOM_GEMINI_IMAGE_MODEL or"),
    ],
)
async def test_retired_model_is_named_before_the_first_call(server, pixels, models, complaint):
    gemini = GeminiProvider(Settings(gemini_api_key=KEY, gemini_base_url=server.url, **models), pixels, LIMITS)
    if complaint is None:
        await gemini.check()
    else:
        with pytest.raises(ProviderNotConfiguredError, match=complaint):
            await gemini.check()

    assert server.calls == []
    await gemini.aclose()


def test_googles_own_sdk_takes_it_for_gemini(server):
    from google import genai  # noqa: PLC0415 - heavy, and for this test only
    from google.genai import types  # noqa: PLC0415

    data = encoded(photo(320, 200), "JPEG")
    for version in ("v1", "v1beta"):
        client = genai.Client(api_key=KEY, http_options=types.HttpOptions(base_url=server.url, api_version=version))
        contents = [types.Part.from_bytes(data=data, mime_type="image/jpeg"), "Judge it."]
        schema = types.Schema(type=types.Type.OBJECT, properties={"isDark": types.Schema(type=types.Type.BOOLEAN)})
        analysis = client.models.generate_content(
            model="gemini-3.5-flash",
            contents=contents,
            config=types.GenerateContentConfig(response_mime_type="application/json", response_schema=schema),
        )
        edit = client.models.generate_content(
            model="gemini-nano-banana-2.1",
            contents=contents,
            config=types.GenerateContentConfig(
                response_modalities=["TEXT", "IMAGE"],
                image_config=types.ImageConfig(aspect_ratio="3:2", image_size="1K"),
            ),
        )
        assert json.loads(analysis.text)["defects"]["isDark"] is True
        picture = next(part for part in edit.candidates[0].content.parts if part.inline_data)
        with Image.open(io.BytesIO(picture.inline_data.data)) as made:
            assert made.size == (1024, 683)
        client.close()
    assert [call.version for call in server.calls] == ["v1", "v1", "v1beta", "v1beta"]
