"""Answers with odd parts: the picture is found, and an error in a 200 is treated as that error."""

import io
from decimal import Decimal

import pytest
import structlog
from PIL import Image

from pipelines.corrections import ALL_CORRECTIONS
from pipelines.errors import (
    BrokenAnswerError,
    PolicyRefusedError,
    ProviderNotConfiguredError,
    ProviderUnavailableError,
    QuotaSpentError,
    RequestRejectedError,
    ThrottledError,
)
from pipelines.job import Prompt
from pipelines.options import AnalysisOptions
from pipelines.prompts import Purpose
from pipelines.providers.gemini.provider import GeminiProvider
from pipelines.settings import Settings
from tests.support.fake_gemini import answers, odd
from tests.support.fake_gemini.server import FakeGemini, whole
from tests.support.ungated import Ungated
from tests.unit.pipelines.providers.gemini.test_client import KEY, LIMITS, PICTURE, PROMPT

BY_TABLE = None
FULL_COST = Decimal("0.034032")
WORDS = Prompt("A cat.", ALL_CORRECTIONS, Purpose.GENERATE)
"""Without a picture no pixel child has to be started."""


@pytest.fixture(scope="module")
def server():
    with FakeGemini() as server:
        yield server


@pytest.fixture
async def gemini(server, pixels):
    provider = GeminiProvider(Settings(gemini_api_key=KEY, gemini_base_url=server.url), pixels, LIMITS)
    yield Ungated(provider)
    await provider.aclose()


async def test_good_picture_survives_whatever_stands_beside_it(gemini, server):
    for name, answer in odd.ODD.items():
        server.answer = answer
        made = await gemini.generate(PROMPT, [PICTURE], 1024, 1.5)

        with Image.open(io.BytesIO(made.value.data)) as picture:
            assert picture.size == (1024, 683), name
        is_unreadable = name.startswith("usage") or name == "not a number"
        assert made.usage.cost_usd == (BY_TABLE if is_unreadable else FULL_COST), name
        assert made.usage.images == 1, name


async def test_what_cant_be_read_is_noted_by_its_name(gemini, server):
    server.answer = odd.ODD["reason is an object"]
    with structlog.testing.capture_logs() as logs:
        await gemini.generate(PROMPT, [PICTURE], 1024, 1.5)

    (noted,) = [line for line in logs if line["event"] == "answer_fields_ignored"]
    assert noted["fields"] == ["finishReason", "finishMessage"]


BESIDE_AN_ANALYSIS = ("usage of nulls", "reason is a number", "a list around", "content is a list", "second candidate")


async def test_analysis_survives_whatever_stands_beside_it(gemini, server):
    for name in BESIDE_AN_ANALYSIS:
        server.answer = odd.ODD[name]
        assert (await gemini.analyze(PICTURE, AnalysisOptions())).value.defects.is_dark, name


@pytest.mark.parametrize(
    "words",
    [
        {"mainSubject": None},
        {"mainSubject": ["a", "cat"], "imageStyle": 7, "lightingCondition": {}},
        {"defects": answers.ANALYSIS["defects"] | {"colorCastType": 3}},
        {"cropping": answers.ANALYSIS["cropping"] | {"cropReason": {"text": "bars"}}},
    ],
)
async def test_findings_survive_words_that_are_none(gemini, server, words):
    server.answer = odd.changed(lambda value: _with_text(value, answers.ANALYSIS | words))

    assert (await gemini.analyze(PICTURE, AnalysisOptions())).value.defects.is_dark


def _with_text(value, analysis):
    value["candidates"][0]["content"]["parts"][0]["text"] = odd.json.dumps(analysis)


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (odd.told(429, "RESOURCE_EXHAUSTED"), ThrottledError, "gemini 429 RESOURCE_EXHAUSTED (in a 200)"),
        (odd.told("429", ""), ThrottledError, "gemini 429 (in a 200)"),
        (odd.told(8, "RESOURCE_EXHAUSTED"), ThrottledError, "gemini 429 RESOURCE_EXHAUSTED (in a 200)"),
        (odd.told(503, "UNAVAILABLE"), ProviderUnavailableError, "gemini 503 UNAVAILABLE (in a 200)"),
        (odd.told(400, "INVALID_ARGUMENT"), RequestRejectedError, "gemini 400 INVALID_ARGUMENT (in a 200)"),
        (odd.told(403, "PERMISSION_DENIED"), ProviderNotConfiguredError, "gemini 403 PERMISSION_DENIED (in a 200)"),
        (odd.told(402, ""), QuotaSpentError, "gemini 402 (in a 200)"),
        (odd.of_value([{"error": {"code": 500, "message": "x"}}]), ProviderUnavailableError, "gemini 500 (in a 200)"),
        (odd.of_value({"error": "overloaded"}), ProviderUnavailableError, "gemini 503 (in a 200)"),
        (odd.of_value({"code": 429, "message": "slow down"}), ThrottledError, "gemini 429 (in a 200)"),
        (odd.told(499, "CANCELLED", http=499), ProviderUnavailableError, "gemini 499 CANCELLED"),
        (odd.told(409, "ABORTED", http=409), ProviderUnavailableError, "gemini 409 ABORTED"),
    ],
)
async def test_error_is_read_as_the_error_it_is_and_nothing_is_paid(gemini, server, answer, error, words):
    server.answer = lambda _: answer
    with pytest.raises(error) as caught:
        await gemini.generate(WORDS, [], 1024, 1.5)

    assert str(caught.value).startswith(words)
    assert not getattr(caught.value, "is_paid", False)


async def test_words_of_an_error_are_its_evidence(gemini, server):
    server.answer = lambda _: odd.told(503, "UNAVAILABLE", "The upstream is on fire")
    with pytest.raises(ProviderUnavailableError) as caught:
        await gemini.generate(WORDS, [], 1024, 1.5)

    assert caught.value.evidence == "The upstream is on fire"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (odd.of_value({"candidates": [{"finishReason": "NO_IMAGE"}]}), "no picture (finish reason NO_IMAGE)"),
        (odd.of_value({"candidates": [{"content": {"parts": [{"text": "![x](data:,)"}]}}]}), "text and no picture"),
        (
            odd.of_value({"candidates": [{"content": {"parts": [{"fileData": {"fileUri": "https://x.test/a"}}]}}]}),
            "a link to a file and no picture",
        ),
        (odd.of_value(b""), "an empty body"),
        (odd.of_value(b"<!doctype html><html>"), "a page (HTML)"),
        (odd.of_value(b'{"candidates": [{"cont'), "something that is no answer of its own"),
        (odd.of_value({"candidates": None}), "no picture"),
    ],
)
async def test_answer_without_a_picture_says_what_came(gemini, server, answer, words):
    server.answer = lambda _: answer
    with pytest.raises(BrokenAnswerError) as caught:
        await gemini.generate(WORDS, [], 1024, 1.5)

    assert f"gemini answered with {words}" in str(caught.value)
    assert caught.value.is_paid


async def test_picture_that_was_sent_and_comes_back_beside_no_answer_is_none(gemini, server):
    server.answer = lambda request: odd.of_value({"request": request, "candidates": [{"finishReason": "NO_IMAGE"}]})
    with pytest.raises(BrokenAnswerError, match="no picture"):
        await gemini.generate(PROMPT, [PICTURE], 1024, 1.5)


async def test_picture_that_ended_by_policy_is_refused(gemini, server):
    server.answer = odd.changed(lambda value: value["candidates"][0].update(finishReason="IMAGE_SAFETY"))
    with pytest.raises(PolicyRefusedError):
        await gemini.generate(WORDS, [], 1024, 1.5)


@pytest.mark.parametrize(
    ("answer", "error", "wait_s"),
    [
        (odd.told(http=429, headers={"Retry-After": "7"}), ThrottledError, 7),
        (odd.told(429, "", "Please retry in 6.9s.", http=429), ThrottledError, 6.9),
        (odd.told(429, "", "Please try again in 1m30s", http=429), ThrottledError, 90),
        (odd.told(429, "", "no", odd.retry_info("30s")), ThrottledError, 30),
        (odd.told(429, "", "no", odd.retry_info({"seconds": 12}), http=429), ThrottledError, 12),
        (odd.told(429, "", "no", odd.retry_info("0s"), http=429), ThrottledError, 1),
        (odd.of_value(b"Too Many Requests", 429), ThrottledError, 20),
        (odd.told(503, "UNAVAILABLE", http=503, headers={"Retry-After": "9"}), ProviderUnavailableError, 9),
    ],
)
async def test_wait_is_kept_wherever_it_is_told(gemini, server, answer, error, wait_s):
    server.answer = lambda _: answer
    with pytest.raises(error) as caught:
        await gemini.generate(WORDS, [], 1024, 1.5)

    assert caught.value.retry_after.total_seconds() == pytest.approx(wait_s, abs=0.1)


async def test_nobody_of_this_process_asks_while_an_outage_asks_to_be_left_alone(gemini, server):
    server.answer = lambda _: odd.told(503, "UNAVAILABLE", http=503, headers={"Retry-After": "30"})
    with pytest.raises(ProviderUnavailableError):
        await gemini.generate(WORDS, [], 1024, 1.5)
    server.answer, before = whole, len(server.calls)
    with pytest.raises(ThrottledError) as held:
        await gemini.generate(WORDS, [], 1024, 1.5)

    assert not held.value.was_sent
    assert len(server.calls) == before
