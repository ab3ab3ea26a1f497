"""The openai provider against a real HTTP server: requests, answers, and the meaning of each refusal."""

import io
import logging
from dataclasses import replace
from decimal import Decimal

import pytest
from PIL import Image

from pipelines.corrections import ALL_CORRECTIONS
from pipelines.errors import (
    BadImageError,
    BrokenAnswerError,
    PolicyRefusedError,
    ProviderNotConfiguredError,
    ProviderTimedOutError,
    ProviderUnavailableError,
    QuotaSpentError,
    RequestRejectedError,
    ThrottledError,
)
from pipelines.imaging.header import DecodeLimits
from pipelines.job import Prompt
from pipelines.options import AnalysisOptions
from pipelines.prompts import Purpose
from pipelines.providers.openai.provider import OpenAIProvider
from pipelines.providers.provider import EncodedImage
from pipelines.settings import Settings
from tests.support.fake_openai import FakeOpenAI, failure
from tests.support.imaging_pictures import CANARY, encoded, photo, telling_jpeg
from tests.support.ungated import Ungated

LIMITS = DecodeLimits()
KEY = "sk-a-key-that-appears-nowhere"
PROMPT = Prompt("Make it better.", ALL_CORRECTIONS)
PICTURE = EncodedImage(encoded(photo(300, 200), "JPEG"))


@pytest.fixture
def server():
    with FakeOpenAI() as server:
        yield server


@pytest.fixture
async def openai(server, pixels):
    provider = OpenAIProvider(Settings(openai_api_key=KEY, openai_base_url=server.url), pixels, LIMITS)
    yield Ungated(provider)
    await provider.aclose()


@pytest.mark.parametrize(
    ("aspect", "size"), [(1.0, "1024x1024"), (16 / 9, "1536x1024"), (0.5, "1024x1536"), (None, "1024x1024")]
)
async def test_words_alone_ask_for_generations_of_the_nearest_size(openai, server, aspect, size):
    answer = await openai.generate(Prompt("A cat.", ALL_CORRECTIONS, Purpose.GENERATE), [], 1024, aspect)

    (call,) = server.calls
    assert call.path == "/v1/images/generations"
    assert call.fields == {"model": "gpt-image-1", "prompt": "A cat.", "n": 1, "size": size}
    assert call.headers["authorization"] == f"Bearer {KEY}"
    with Image.open(io.BytesIO(answer.value.data)) as picture:
        assert f"{picture.width}x{picture.height}" == size
    assert (answer.model, answer.usage.images) == ("gpt-image-1", 1)
    assert (answer.usage.prompt_units, answer.usage.output_units) == (400, 1000)
    assert answer.usage.cost_usd > Decimal("0.03")


@pytest.mark.parametrize(("size_px", "size"), [((300, 200), "1536x1024"), ((200, 300), "1024x1536")])
async def test_pictures_ask_for_edits_with_margins_and_without_metadata(openai, server, size_px, size):
    source = EncodedImage(telling_jpeg())
    await openai.generate(PROMPT, [EncodedImage(encoded(photo(*size_px), "JPEG")), source], 1024, 1.5)

    (call,) = server.calls
    assert call.path == "/v1/images/edits"
    assert call.fields == {"model": "gpt-image-1", "prompt": PROMPT.text, "n": "1", "size": size}
    assert len(call.pictures) == 2
    assert CANARY not in b"".join(call.pictures)
    width, height = map(int, size.split("x"))
    with Image.open(io.BytesIO(call.pictures[0])) as sent:
        assert (sent.format, sent.width / sent.height) == ("JPEG", pytest.approx(width / height, rel=0.01))
        assert not sent.getexif()


async def test_picture_that_is_to_get_another_aspect_is_sent_without_margins_and_asks_for_it(openai, server):
    prompt = replace(PROMPT, purpose=Purpose.MODIFY, is_reshaped=True)
    pictures = [
        EncodedImage(encoded(photo(*size_px), "JPEG")) for size_px in ((300, 200), (90, 30), (30, 90), (64, 64))
    ]

    answer = await openai.generate(prompt, pictures, 1024, 0.5)

    (call,) = server.calls
    assert call.fields["size"] == "1024x1536"
    sent = [Image.open(io.BytesIO(one)) for one in call.pictures]
    assert [round(one.width / one.height, 2) for one in sent] == [1.5, 3, 0.33, 1]
    with Image.open(io.BytesIO(answer.value.data)) as made:
        assert made.size == (1024, 1536)


@pytest.mark.parametrize(
    ("answer", "error", "is_paid"),
    [
        (failure(400, "moderation_blocked"), PolicyRefusedError, False),
        (failure(400, "content_policy_violation"), PolicyRefusedError, False),
        (failure(400, "invalid_value"), RequestRejectedError, False),
        (failure(401, "invalid_api_key"), ProviderNotConfiguredError, False),
        (failure(403), ProviderNotConfiguredError, False),
        (failure(404, "model_not_found"), ProviderNotConfiguredError, False),
        (failure(408), ProviderUnavailableError, False),
        (failure(413), RequestRejectedError, False),
        (failure(429, "rate_limit_exceeded"), ThrottledError, False),
        (failure(429, "insufficient_quota"), QuotaSpentError, False),
        (failure(429, "billing_hard_limit_reached"), QuotaSpentError, False),
        (failure(402), QuotaSpentError, False),
        (failure(409), ProviderUnavailableError, False),
        (failure(499), ProviderUnavailableError, False),
        (failure(500, "server_error"), ProviderUnavailableError, False),
        (failure(503), ProviderUnavailableError, False),
        (failure(504), ProviderTimedOutError, True),
        ((502, b"<html>Bad Gateway</html>", {}), ProviderUnavailableError, False),
        ((302, b"", {"Location": "https://elsewhere.example/"}), ProviderNotConfiguredError, False),
        ((200, b"<html>", {}), BrokenAnswerError, True),
        ((200, b'{"data": [{"b64_js', {}), BrokenAnswerError, True),
        ((200, b'{"data": [{"b6', {"Content-Length": "5000", "Connection": "close"}), ProviderTimedOutError, True),
        ((200, {"data": []}, {}), BrokenAnswerError, True),
        ((200, {"data": [{"b64_json": "not base64!"}]}, {}), BrokenAnswerError, True),
        ((200, {"data": [{"url": "http://127.0.0.1/picture.png"}]}, {}), BrokenAnswerError, True),
    ],
)
async def test_every_failure_is_one_of_ours(openai, server, answer, error, is_paid):
    server.script(answer)
    with pytest.raises(error) as caught:
        await openai.generate(PROMPT, [PICTURE], 1024, 1.5)

    assert getattr(caught.value, "is_paid", False) is is_paid
    assert len(server.calls) == 1
    assert KEY not in f"{caught.value!r} {caught.value.evidence}"


@pytest.mark.parametrize(("header", "wait_s"), [("7", 7), ("0.5", 0.5), ("soon", 20), (None, 20)])
async def test_retry_after_is_what_a_throttle_says(openai, server, header, wait_s):
    server.script(failure(429, headers={} if header is None else {"Retry-After": header}))
    with pytest.raises(ThrottledError) as caught:
        await openai.generate(PROMPT, [PICTURE], 1024, 1.5)

    assert caught.value.retry_after.total_seconds() == wait_s


async def test_refused_picture_never_leaves_the_house(openai, server):
    with pytest.raises(BadImageError):
        await openai.generate(PROMPT, [EncodedImage(b"<svg/>")], 1024, 1.5)

    assert server.calls == []


async def test_it_says_that_it_cant_analyze_and_that_it_has_no_key(openai, pixels):
    with pytest.raises(ProviderNotConfiguredError, match="can't"):
        await openai.analyze(PICTURE, AnalysisOptions())
    with pytest.raises(ProviderNotConfiguredError, match="set OPENAI_API_KEY"):
        OpenAIProvider(Settings(), pixels, LIMITS).quote_generation(PROMPT, 1024)


async def test_unknown_model_is_named_before_the_first_call(openai, server, pixels):
    await openai.provider.check()
    settings = Settings(openai_api_key=KEY, openai_base_url=server.url, openai_image_model="gpt-image-0")
    retired = OpenAIProvider(settings, pixels, LIMITS)
    with pytest.raises(ProviderNotConfiguredError, match="DARKROOM_OPENAI_IMAGE_MODEL"):
        await retired.check()
    await retired.aclose()

    assert server.calls == []


async def test_key_is_in_no_log(openai, server, caplog):
    caplog.set_level(logging.DEBUG)
    server.script(failure(401, message=f"Incorrect API key provided: {KEY}"))
    with pytest.raises(ProviderNotConfiguredError) as caught:
        await openai.generate(PROMPT, [PICTURE], 1024, 1.5)

    assert KEY not in caplog.text
    assert KEY not in str(caught.value)
