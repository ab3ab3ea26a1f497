"""Answers of many megabytes: whatever they contain, reading them leaves the event loop free, and pictures are found."""

import asyncio
import base64
import json
import os
import time

import pytest

from pipelines.errors import BrokenAnswerError, StageError
from pipelines.imaging.header import DecodeLimits
from pipelines.providers.asked import Asked
from pipelines.providers.gemini.answers import picture_of
from pipelines.providers.gemini.answers import read_answer as read_gemini
from pipelines.providers.openai.answers import read_answer as read_openai
from pipelines.providers.openai.errors import refusal
from pipelines.providers.remote import Reply

MOST_CPU_S = 0.3
"""How much CPU this process may use between two turns of the event loop: a step takes 50 ms, and a busy machine lets
the loop wait though it could run."""

SIZE = 8_000_000
PICTURE = os.urandom(1_500_000)
TEXT = base64.b64encode(PICTURE).decode()


def body(data, *, before=b""):
    """Return an answer of Gemini's with a picture whose JSON text is `data`."""
    return b'{"candidates":[{"content":{"parts":[' + before + b'{"inlineData":{"data":"' + data + b'"}}]}}]}'


def repeated(unit, size=SIZE):
    return unit * (size // len(unit))


HOSTILE = {
    "percent signs": body(repeated(b"%")),
    "escaped quotes": body(repeated(b'\\"')),
    "quotes between letters": body(repeated(b'A\\"')),
    "backslashes": body(repeated(b"\\\\")),
    "percent-encoded letters": body(repeated(b"%41")),
    "percent-encoded plus": body(repeated(b"%2B")),
    "spaces": body(repeated(b" ")),
    "zero width spaces": body(repeated("\u200b".encode())),
    "escaped letters": body(repeated(b"\\u0041")),
    "padding": body(repeated(b"=")),
    "invalid escapes": body(repeated(b"\\x")),
    "empty objects": b"[" + repeated(b"{},") + b"{}]",
    "many empty objects, just few enough": b"[" + repeated(b'{"":[]},', 290_000) + b"{}]",
    "short texts": b"[" + repeated(b'"",') + b"{}]",
    "many texts that are nearly long": b"[" + repeated(b'"' + b"a" * 16_000 + b'",') + b"{}]",
    "candidates in candidates": b'{"candidates":[' * 250 + repeated(b"{},", 280_000) + b"{}" + b"]}" * 250,
    "commas": repeated(b","),
    "a comment": repeated(b":\n"),
    "a text that never ends": b'{"candidates":"' + repeated(b"A"),
    "a number": b'{"a":' + repeated(b"1") + b"}",
    "UTF-16": body(b"A%" * 100_000).decode().encode("utf-16"),
    "an error with a long message": b'{"error":{"message":"' + repeated(b"\\u0041") + b'"}}',
    "broken pictures": body(b"%" * 20_000, before=(b'{"inlineData":{"data":"' + b"%" * 20_000 + b'"}},') * 800),
}


async def largest_gap_s(reading):
    """Return how many seconds of this process's CPU went by at most between two turns of the event loop."""
    task = asyncio.ensure_future(reading)
    largest, last = 0.0, time.process_time()
    while not task.done():
        await asyncio.sleep(0.001)
        now = time.process_time()
        largest, last = max(largest, now - last), now
    assert task.exception() is None
    return largest


async def read(reply, *steps):
    """Read an answer as a provider does."""
    try:
        result = await reply.read(steps[0], reply)
        for step in steps[1:]:
            result = await reply.read(step, result)
    except StageError as error:
        return error
    return result


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
async def test_event_loop_goes_on_while_an_answer_of_any_content_is_read(content):
    async def every_reading():
        await read(Reply(200, content), read_gemini, picture_of)
        await read(Reply(200, content), read_openai)
        await read(Reply(429, content), refusal)

    assert await largest_gap_s(every_reading()) < MOST_CPU_S


@pytest.mark.parametrize("unit", [b"\xff", b"\xff\x00", b"\xff\xd0", b"a"])
async def test_event_loop_goes_on_while_the_header_of_any_picture_is_looked_at(unit, pixels):
    asked = Asked("m", 64, 1.0, "", has_picture=False, spread_levels=None, mean_colour=None)
    data = b"\xff\xd8\xff\xe0\x00\x02" + repeated(unit, 60_000_000)

    async def look():
        with pytest.raises(BrokenAnswerError, match="ends in its header"):
            await asked.require_picture(data, pixels, DecodeLimits(max_bytes=100_000_000))

    assert await largest_gap_s(look()) < MOST_CPU_S


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
        "%0D%0A".join(TEXT[at : at + 76] for at in range(0, len(TEXT), 76)),
    ],
)
@pytest.mark.parametrize("escape", [lambda text: text, lambda text: text.replace("/", "\\/").replace("=", "\\u003d")])
def test_large_picture_is_found_in_every_form(written, escape):
    text = escape(json.dumps(written)[1:-1]).encode()

    assert picture_of(read_gemini(Reply(200, body(text)))) == PICTURE


def test_large_picture_in_utf_16_and_beside_long_signatures_is_found():
    signature = b'{"text":"a","thoughtSignature":"' + b"A" * 300_000 + b'"},'
    content = body(TEXT.encode(), before=signature * 10)

    assert picture_of(read_gemini(Reply(200, content))) == PICTURE
    assert picture_of(read_gemini(Reply(200, content.decode().encode("utf-16")))) == PICTURE


@pytest.mark.parametrize("name", ["b64_json", "url"])
def test_large_picture_of_openai_is_found(name):
    uri = f"data:image/png;base64,{TEXT}"
    answer = {"data": [{name: TEXT if name == "b64_json" else uri}]}

    assert read_openai(Reply(200, json.dumps(answer).encode())).data == PICTURE
    assert read_openai(Reply(200, json.dumps({"images": [uri]}).encode())).data == PICTURE


@pytest.mark.parametrize("cut", range(262_144 - 60, 262_144))
def test_escape_at_the_end_of_a_piece_is_read_whole(cut):
    meant = {"\\\\n": "", "%2B": "+", "\u200b": "", "\\/": "/", "\\u002b": "+", "\\u200b": ""}
    text = plain = "A" * cut + "".join(meant) + "A" * (100_000 - cut % 4)
    for written, one in meant.items():
        plain = plain.replace(written, one)
    plain += "=" * (-len(plain) % 4)

    assert picture_of(read_gemini(Reply(200, body(text.encode())))) == base64.b64decode(plain)


def test_long_text_of_an_analysis_is_whole_up_to_its_limit():
    words = "x" * 60_000
    content = json.dumps({"candidates": [{"content": {"parts": [{"text": words}]}}]}).encode()

    assert [part.text for part in read_gemini(Reply(200, content)).parts] == [words]
