"""Bodies that proxies and gateways have changed: the picture is found, and an error is found as that error."""

import base64
import json

import pytest

from pipelines.errors import ProviderUnavailableError, StageError, ThrottledError
from pipelines.providers.gemini.answers import picture_of
from pipelines.providers.gemini.answers import read_answer as read_gemini
from pipelines.providers.openai.answers import read_answer as read_openai
from pipelines.providers.reading import error_in
from pipelines.providers.remote import Reply
from workers.gate.call_outcomes import call_outcome

PICTURE = b"\x89PNG and more, which nobody decodes here\xff\xfe\xfb"
TEXT = base64.b64encode(PICTURE).decode()


def gemini_body(inline):
    return json.dumps({"candidates": [{"content": {"parts": [inline]}, "finishReason": "STOP"}]}).encode()


PLAIN = gemini_body({"inlineData": {"mimeType": "image/png", "data": TEXT}})


@pytest.mark.parametrize(
    "body",
    [
        b": keep-alive\n\ndata: " + PLAIN + b"\n\ndata: [DONE]\n\n",
        b"id: 1\r\nretry: 3000\r\nevent: message\r\ndata: " + PLAIN + b"\r\n\r\n",
        b")]}'\n" + PLAIN,
        b"[[" + PLAIN + b"]]",
        PLAIN[:-1] + b', "usageMetadata": {"promptTokenCount": ' + b"9" * 5_000 + b"}}",
        gemini_body({"inlineData": [{"mimeType": "image/png", "data": TEXT}]}),
        gemini_body({"inlineData": None, "inline_data": {"data": TEXT}}),
        gemini_body({"inlineData": {"data": TEXT[:8] + "\v\u00a0\u200b" + TEXT[8:]}}),
        gemini_body({"inlineData": {"data": TEXT[:8] + "\\r\\n" + TEXT[8:]}}),
        gemini_body({"inlineData": {"data": "data:image/png;base64," + TEXT.replace("/", "%2F").replace("+", "%2B")}}),
    ],
)
def test_picture_of_gemini_is_found_however_its_body_is_wrapped(body):
    assert picture_of(read_gemini(Reply(200, body))) == PICTURE


@pytest.mark.parametrize("answer", [{"data": [TEXT]}, {"data": TEXT}, {"images": [f"data:image/png;base64,{TEXT}"]}])
def test_picture_of_openai_is_found_where_its_text_stands_bare(answer):
    assert read_openai(Reply(200, json.dumps(answer).encode())).data == PICTURE


def test_link_of_openai_is_found_where_it_stands_bare():
    assert read_openai(Reply(200, b'{"data": ["https://pictures.test/1.png"]}')).link == "https://pictures.test/1.png"


@pytest.mark.parametrize("read", [read_gemini, read_openai])
@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"code": 429, "message": "slow down", "data": None}, ThrottledError),
        ({"response": {"error": {"code": 429, "message": "slow down"}}}, ThrottledError),
        ({"result": [{"error": {"type": "overloaded_error"}}]}, ProviderUnavailableError),
        ({"code": 503, "message": "no capacity", "candidates": []}, ProviderUnavailableError),
    ],
)
def test_error_in_an_envelope_is_read_as_the_error_it_is_and_isnt_paid(read, body, error):
    with pytest.raises(StageError) as caught:
        read(Reply(200, json.dumps(body).encode()))

    assert type(caught.value) is error
    assert not call_outcome(caught.value, is_paid=True).may_be_paid


@pytest.mark.parametrize("code", ["0429" + "0" * 5_000, "04291", "4291", "42"])
def test_number_that_is_no_status_of_http_is_none(code):
    assert error_in([{"error": {"code": code, "message": "no"}}]).http_status is None
