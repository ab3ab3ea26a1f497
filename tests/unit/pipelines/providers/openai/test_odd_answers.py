"""Answers of servers that differ from OpenAI's images API."""

import base64
import io
from decimal import Decimal

import pytest
from PIL import Image

from pipelines.corrections import ALL_CORRECTIONS
from pipelines.errors import (
    BrokenAnswerError,
    OneColourError,
    PolicyRefusedError,
    ProviderNotConfiguredError,
    ProviderUnavailableError,
    QuotaSpentError,
    RequestRejectedError,
    ThrottledError,
    WrongShapeError,
    WrongSizeError,
)
from pipelines.job import Prompt
from pipelines.prompts import Purpose
from pipelines.providers.openai.provider import OpenAIProvider
from pipelines.settings import Settings
from tests.support.fake_openai import USAGE, FakeOpenAI, drawn, failure
from tests.support.ungated import Ungated, let_through
from tests.unit.pipelines.providers.openai.test_openai import KEY, LIMITS, PICTURE, PROMPT

WORDS = Prompt("A cat.", ALL_CORRECTIONS, Purpose.GENERATE)
SIZE = "1024x1024"
TEXT = drawn(SIZE)[1]["data"][0]["b64_json"]
FULL_COST = Decimal("0.044")


@pytest.fixture
def server():
    with FakeOpenAI() as server:
        yield server


@pytest.fixture
async def open_openai(server, pixels):
    opened = []

    def open_openai(**settings):
        settings = Settings(openai_api_key=KEY, openai_base_url=server.url, **settings)
        opened.append(OpenAIProvider(settings, pixels, LIMITS))
        return Ungated(opened[-1])

    yield open_openai
    for provider in opened:
        await provider.aclose()


@pytest.fixture
def openai(open_openai):
    return open_openai()


def whole(**changes):
    return {"data": [{"b64_json": TEXT}], "usage": USAGE} | changes


ODD = {
    "usage null": (whole(usage=None), None),
    "usage of nulls": (whole(usage={"input_tokens": None, "output_tokens": None, "total_tokens": 0}), None),
    "usage in fractions": (whole(usage={"input_tokens": 11.5, "output_tokens": 4096.25}), None),
    "usage by other names": (whole(usage={"prompt_tokens": 0, "completion_tokens": 0}), None),
    "usage of nothing": (whole(usage={"input_tokens": 0, "output_tokens": 0}), None),
    "usage that can't be": (whole(usage={"input_tokens": 1, "output_tokens": 10**15}), None),
    "usage is a text": (whole(usage="much"), None),
    "data is one object": (whole(data={"b64_json": TEXT}), FULL_COST),
    "null entries": (whole(data=[None, 7, {"b64_json": None}, {"b64_json": TEXT}]), FULL_COST),
    "a list around": ([whole()], FULL_COST),
    "an object around": ({"result": whole()}, None),
    "error that is null": (whole(error=None), FULL_COST),
    "created is a text": (whole(created="now"), FULL_COST),
    "data URI": (whole(data=[{"b64_json": f"data:image/png;base64,{TEXT}"}]), FULL_COST),
    "data URI as a link": (whole(data=[{"url": f"data:image/png;base64,{TEXT}"}]), FULL_COST),
    "line breaks": (whole(data=[{"b64_json": f"{TEXT[:76]}\n{TEXT[76:]}\n"}]), FULL_COST),
    "URL alphabet": (whole(data=[{"b64_json": TEXT.replace("+", "-").replace("/", "_").rstrip("=")}]), FULL_COST),
}


async def test_good_picture_survives_whatever_stands_beside_it(openai, server):
    for name, (answer, cost) in ODD.items():
        server.script((200, answer, {}))
        made = await openai.generate(WORDS, [], 1024, 1.0)

        with Image.open(io.BytesIO(made.value.data)) as picture:
            assert picture.size == (1024, 1024), name
        assert (made.usage.images, made.usage.cost_usd) == (1, cost), name


async def test_other_success_is_a_success(openai, server):
    server.script((201, whole(), {}))

    assert (await openai.generate(WORDS, [], 1024, 1.0)).value.data


async def test_link_to_the_server_that_was_asked_is_followed(openai, server):
    server.files["/made/1.png"] = base64.b64decode(TEXT)
    for link in (f"{server.url}/made/1.png", "/made/1.png"):
        server.script((200, {"data": [{"url": link}]}, {}))
        assert (await openai.generate(WORDS, [], 1024, 1.0)).value.data == base64.b64decode(TEXT)


@pytest.mark.parametrize(
    "link",
    ["http://127.0.0.1:1/a.png", "http://169.254.169.254/a.png", "file:///etc/passwd", "/nothing.png", "http://["],
)
async def test_link_elsewhere_inside_or_to_nothing_is_a_broken_answer(openai, server, link):
    server.script((200, {"data": [{"url": link}]}, {}))
    with pytest.raises(BrokenAnswerError, match="openai answered with a link that gives no picture") as caught:
        await openai.generate(WORDS, [], 1024, 1.0)

    assert caught.value.is_paid


async def test_models_that_answer_with_links_are_asked_for_base64(open_openai, server):
    await open_openai().generate(WORDS, [], 1024, 1.0)
    await open_openai(openai_image_model="dall-e-3").generate(WORDS, [], 1024, 1.0)
    await open_openai(openai_image_model="sdxl").generate(PROMPT, [PICTURE], 1024, 1.0)

    assert [call.fields.get("response_format") for call in server.calls] == [None, "b64_json", "b64_json"]


@pytest.mark.parametrize("named", [{"param": "response_format"}, {"message": "Unknown parameter: 'response_format'."}])
async def test_server_that_refuses_to_be_asked_for_base64_is_asked_without(open_openai, server, named):
    error = {"error": {"message": "no", "code": "unknown_parameter"} | named}
    server.script((400, error, {}))
    send = await open_openai(openai_image_model="sdxl").provider.prepare_generation(WORDS, [], 1024, 1.0)
    with pytest.raises(RequestRejectedError) as caught:
        await send(let_through)
    answer = await (await caught.value.again())(let_through)

    assert answer.value.data
    assert "response_format" not in server.calls[1].fields


def pictured(picture, **more):
    data = io.BytesIO()
    picture.save(data, "PNG")
    return (200, {"data": [{"b64_json": base64.b64encode(data.getvalue()).decode()}], **more}, {})


async def test_picture_that_misses_what_was_asked_is_wrong(openai, server):
    gradient = Image.linear_gradient("L").convert("RGB")
    for size, error in (((512, 512), WrongSizeError), ((1536, 1024), WrongShapeError)):
        server.script(pictured(gradient.resize(size)))
        with pytest.raises(error):
            await openai.generate(WORDS, [], 1024, 1.0)
    server.script(pictured(Image.new("RGB", (1024, 1024), "white")))
    with pytest.raises(OneColourError):
        await openai.generate(WORDS, [], 1024, 1.0)


async def test_model_that_cant_make_the_tiers_size_says_so_or_is_refused_by_setting(open_openai, server):
    made = await open_openai().generate(WORDS, [], 4096, 1.5)
    with pytest.raises(ProviderNotConfiguredError, match="at most 1536 pixels, and the tier has 4096"):
        await open_openai(over_size="refuse").generate(WORDS, [], 4096, 1.5)

    assert made.notes == ("enlarged from 1536 x 1024: gpt-image-1 makes no larger picture",)
    assert len(server.calls) == 1


SAFETY = {"code": None, "type": "image_generation_user_error", "message": "rejected by the safety system"}


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((400, {"error": SAFETY}, {}), PolicyRefusedError),
        ((200, {"error": SAFETY}, {}), PolicyRefusedError),
        ((200, {"error": {"code": "moderation_blocked"}}, {}), PolicyRefusedError),
        ((200, {"error": {"code": "insufficient_quota"}}, {}), QuotaSpentError),
        ((200, {"error": {"code": "rate_limit_exceeded"}}, {}), ThrottledError),
        ((200, {"error": {"code": "429", "message": "x"}}, {}), ThrottledError),
        ((200, {"error": {"type": "server_error"}}, {}), ProviderUnavailableError),
        ((200, {"error": "busy"}, {}), ProviderUnavailableError),
        ((200, {"error": {"type": "invalid_request_error"}}, {}), RequestRejectedError),
        ((200, {"error": {"code": "invalid_api_key"}}, {}), ProviderNotConfiguredError),
    ],
)
async def test_error_is_read_as_the_error_it_is_and_nothing_is_paid(openai, server, answer, error):
    server.script(answer)
    with pytest.raises(error) as caught:
        await openai.generate(WORDS, [], 1024, 1.0)

    assert not getattr(caught.value, "is_paid", False)


@pytest.mark.parametrize(
    ("answer", "wait_s"),
    [
        (failure(429, message="Please try again in 6ms", headers={"retry-after-ms": "3000"}), 3),
        (failure(429, message="Rate limit reached. Please try again in 6.5s."), 6.5),
        (failure(429, headers={"x-ratelimit-reset-requests": "1m30s", "x-ratelimit-remaining-requests": "0"}), 90),
        ((200, {"error": {"code": "rate_limit_exceeded", "message": "try again in 12s"}}, {}), 12),
        ((429, b"Too Many Requests, retry in 8 seconds", {}), 8),
    ],
)
async def test_wait_is_kept_wherever_it_is_told(openai, server, answer, wait_s):
    server.script(answer)
    with pytest.raises(ThrottledError) as caught:
        await openai.generate(WORDS, [], 1024, 1.0)

    assert caught.value.retry_after.total_seconds() == wait_s
