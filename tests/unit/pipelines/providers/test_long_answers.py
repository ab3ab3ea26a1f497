"""Answers of many megabytes: a picture is found in every form, and what would take long to read isn't read."""

import base64
import json
import os

import pytest

from pipelines.errors import BrokenAnswerError
from pipelines.providers.gemini.answers import picture_of
from pipelines.providers.gemini.answers import read_answer as read_gemini
from pipelines.providers.openai.answers import read_answer as read_openai
from pipelines.providers.reading import MOST_MARKS, documents_of
from pipelines.providers.remote import Reply

PICTURE = os.urandom(1_500_000)
TEXT = base64.b64encode(PICTURE).decode()


def body(data, *, before=b"", behind=b""):
    """Return an answer of Gemini's with a picture whose JSON text is `data`."""
    return b'{"candidates":[{"content":{"parts":[' + before + b'{"inlineData":{"data":"' + data + b'"}}]}}]}' + behind


def found_in(content):
    return picture_of(read_gemini(Reply(200, content)))


@pytest.mark.parametrize(
    "written",
    [
        TEXT,
        TEXT.replace("+", "-").replace("/", "_").rstrip("="),
        "data:image/png;base64," + TEXT,
        "\n".join(TEXT[at : at + 76] for at in range(0, len(TEXT), 76)),
        "\r\n ".join(TEXT[at : at + 7_777] for at in range(0, len(TEXT), 7_777)),
        "\\n".join(TEXT[at : at + 76] for at in range(0, len(TEXT), 76)),
        '"' + TEXT + '"',
        "\u200b\u00a0\v".join(TEXT[at : at + 997] for at in range(0, len(TEXT), 997)),
        TEXT.replace("+", "%2B").replace("/", "%2f").replace("=", "%3D"),
        TEXT.replace("A", "%41"),
        "%0D%0A".join(TEXT[at : at + 76] for at in range(0, len(TEXT), 76)),
        "%C2%A0".join(TEXT[at : at + 76] for at in range(0, len(TEXT), 76)),
    ],
)
@pytest.mark.parametrize("escape", [lambda text: text, lambda text: text.replace("/", "\\/").replace("=", "\\u003d")])
def test_large_picture_is_found_in_every_form(written, escape):
    assert found_in(body(escape(json.dumps(written)[1:-1]).encode())) == PICTURE


SIGNATURE = b'{"text":"a","thoughtSignature":"' + b"A" * 12_000 + b'"},'
EVENT = b'data: {"candidates":[{"content":{"parts":[{"text":"Considering it.","thought":true}]}}]}\r\n\r\n'
SOURCES = b",".join(b'{"web":{"uri":"https://example.org/","title":"t"}}' for _ in range(6_500))


@pytest.mark.parametrize(
    "content",
    [
        body(TEXT.encode()).decode().encode("utf-16"),
        body(TEXT.encode(), before=SIGNATURE * 30),
        EVENT * 700 + b"data: " + body(TEXT.encode()),
        b': 5" screen\n\ndata: ' + body(TEXT.encode()) + b"\n\n",
        b"\n" * 400_000 + body(TEXT.encode()),
        body(TEXT.encode(), behind=b"\n<!-- " + b"x" * 400_000),
        b"\xef\xbb\xbf" * 2 + body(TEXT.encode()),
        body(TEXT.encode(), before=b'{"grounding":[' + SOURCES + b"]},"),
        b'{"candidates":[' * 200 + body(TEXT.encode()) + b"]}" * 200,
    ],
)
def test_large_picture_is_found_whatever_is_around_it(content):
    assert found_in(content) == PICTURE


@pytest.mark.parametrize("name", ["b64_json", "url"])
def test_large_picture_of_openai_is_found(name):
    uri = f"data:image/png;base64,{TEXT}"
    answer = {"data": [{name: TEXT if name == "b64_json" else uri}]}

    assert read_openai(Reply(200, json.dumps(answer).encode())).data == PICTURE
    assert read_openai(Reply(200, json.dumps({"images": [uri]}).encode())).data == PICTURE


@pytest.mark.parametrize(
    "content",
    [
        b"[" + b"{}," * MOST_MARKS + b"{}]",
        b"[" + b'"",' * MOST_MARKS + b"{}]",
        b":\n" * MOST_MARKS + b"{}" + b":\n",
        b'{"candidates":[' * 250 + b"{}," * MOST_MARKS + b"{}" + b"]}" * 250,
        body(b"\\u0041" * 2_000_000),
        body(b'A\\"' * 2_000_000),
        b"1 " * 500_000 + body(TEXT.encode()),
        b'""' * 500_000 + body(TEXT.encode()),
        b"\xff\xfe" + b"\x00\xd8" * 20_000_000,
    ],
)
def test_what_would_hold_up_the_event_loop_is_not_read(content):
    assert documents_of(content) == []
    with pytest.raises(BrokenAnswerError):
        read_gemini(Reply(200, content))


@pytest.mark.parametrize("unit", [b"%", b"%41%", b" ", b"=", "\u200b".encode(), b"?"])
def test_text_that_is_no_picture_is_refused_however_long(unit):
    with pytest.raises(BrokenAnswerError):
        found_in(body(unit * 4_000_000))
