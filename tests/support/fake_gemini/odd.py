"""Answers in forms that Google's own service doesn't use, but proxies, gateways and other versions do."""

import base64
import io
import json

import numpy as np
from PIL import Image

from tests.support.fake_gemini import answers
from tests.support.fake_gemini.server import whole


def of_value(value, code=200, headers=None):
    return code, value if isinstance(value, bytes) else json.dumps(value).encode(), "application/json", headers or {}


def encoded(picture, kind="PNG", **options):
    data = io.BytesIO()
    picture.save(data, kind, **options)
    return data.getvalue()


def with_picture(picture, kind="PNG"):
    """Answer with a picture, whatever was asked for."""
    return of_value(
        {"candidates": [{"content": {"parts": [answers.inline_part(picture, kind)]}, "finishReason": "STOP"}]}
    )


def asked_size(request):
    image = request["generationConfig"]["imageConfig"]
    side_px = answers.SIDES_PX[image.get("imageSize")]
    return answers.made([], image["aspectRatio"], side_px).size


def noisy(request):
    """Answer with a picture that PNG can't shrink."""
    width, height = asked_size(request)
    pixels = np.random.default_rng(1).integers(0, 255, (height, width, 3), np.uint8)
    text = base64.b64encode(encoded(Image.fromarray(pixels), compress_level=0)).decode()
    return of_value({"candidates": [{"content": {"parts": [{"inlineData": {"data": text}}]}}]})


_WHOLE = {}


def _whole(request):
    """Return the body of a complete answer; it is made once for equal requests."""
    asked = json.dumps(request["generationConfig"], sort_keys=True)
    if asked not in _WHOLE:
        _WHOLE[asked] = whole(request)[1]
    return _WHOLE[asked]


def changed(change):
    """Make an answer that is the complete one with changed values."""

    def answer(request):
        value = json.loads(_whole(request))
        return of_value(change(value) or value)

    return answer


def _data(value, form):
    inline = value["candidates"][0]["content"]["parts"][-1]["inlineData"]
    inline["data"] = form(inline["data"])


def _lines(text, end):
    return end.join(text[at : at + 76] for at in range(0, len(text), 76))


def _candidate(value):
    return value["candidates"][0]


def _parts(value):
    return _candidate(value)["content"]["parts"]


GOOD = {
    "usage null": lambda v: v.update(usageMetadata=None),
    "usage of nulls": lambda v: v.update(usageMetadata={"promptTokenCount": None, "candidatesTokensDetails": None}),
    "usage in fractions": lambda v: v.update(usageMetadata={"promptTokenCount": 300.5, "candidatesTokenCount": 1120}),
    "usage that can't be": lambda v: v.update(usageMetadata={"promptTokenCount": 1, "candidatesTokenCount": 10**18}),
    "usage below zero": lambda v: v.update(usageMetadata={"promptTokenCount": -3, "candidatesTokenCount": 1120}),
    "usage is a list": lambda v: v.update(usageMetadata=[1, 2]),
    "usage without pictures": lambda v: v.update(usageMetadata={"promptTokenCount": 3, "candidatesTokenCount": 0}),
    "usage details odd": lambda v: v["usageMetadata"].update(candidatesTokensDetails=[None, {"modality": 3}]),
    "reason is a number": lambda v: _candidate(v).update(finishReason=1),
    "reason is an object": lambda v: _candidate(v).update(finishReason={"name": "STOP"}, finishMessage=7),
    "block reason is a number": lambda v: v.update(promptFeedback={"blockReason": 0}),
    "block reason says nothing": lambda v: v.update(promptFeedback={"blockReason": "BLOCK_REASON_UNSPECIFIED"}),
    "feedback is a text": lambda v: v.update(promptFeedback="none"),
    "null parts": lambda v: _parts(v).__setitem__(slice(0, 0), [None, {"text": None}, 7, "words"]),
    "text is an object": lambda v: _parts(v).insert(0, {"text": {"value": "Here"}}),
    "content is a list": lambda v: _candidate(v).update(content=[_candidate(v)["content"]]),
    "content is a list of parts": lambda v: _candidate(v).update(content=_parts(v)),
    "parts are one object": lambda v: _candidate(v)["content"].update(parts=_parts(v)[-1]),
    "candidates are one object": lambda v: v.update(candidates=_candidate(v)),
    "second candidate": lambda v: v["candidates"].insert(0, {"finishReason": "NO_IMAGE", "index": 0}),
    "second after a refused one": lambda v: v["candidates"].insert(0, {"finishReason": "IMAGE_SAFETY"}),
    "parts in a list of their own": lambda v: _candidate(v)["content"].update(parts=[_parts(v)]),
    "pictures beside the content": lambda v: _candidate(v).update(
        content={"parts": [{"text": "Here"}]}, images=[_parts(v)[-1]]
    ),
    "no candidates at all": lambda v: {"output": _parts(v)[-1], "usageMetadata": v["usageMetadata"]},
    "null candidate": lambda v: v["candidates"].insert(0, None),
    "a list around": lambda v: [v],
    "an object around": lambda v: {"response": v},
    "in chunks": lambda v: [{"candidates": []}, v, {"usageMetadata": v.pop("usageMetadata")}],
    "error that is null": lambda v: v.update(error=None),
    "data URI": lambda v: _data(v, "data:image/jpeg;base64,{}".format),
    "line breaks": lambda v: _data(v, lambda text: _lines(text, "\r\n")),
    "URL alphabet": lambda v: _data(v, lambda text: text.replace("+", "-").replace("/", "_").rstrip("=")),
    "no padding": lambda v: _data(v, lambda text: text.rstrip("=")),
    "too much padding": lambda v: _data(v, lambda text: text + "=="),
    "odd type": lambda v: _parts(v)[-1]["inlineData"].update(mimeType=17),
    "snake case": lambda v: _parts(v)[-1].update(inline_data=_parts(v)[-1].pop("inlineData")),
    "a broken picture behind": lambda v: _parts(v).append({"inlineData": {"data": "*"}}),
    "thought is a word": lambda v: _parts(v)[-1].update(thought="no"),
    "model version is a number": lambda v: v.update(modelVersion=2.1, responseId=None),
}
"""A good picture beside something odd, by name -> how a whole answer is changed."""

RAW = {
    "raw line breaks": lambda body, data: body.replace(data, _lines(data, "\n")),
    "BOM": lambda body, _: "\ufeff" + body,
    "not a number": lambda body, _: body.replace('"promptTokenCount": 288', '"promptTokenCount": NaN'),
    "trailing words": lambda body, _: body + "\r\n0\r\n",
    "server-sent events": lambda body, _: f"data: {body}\r\n\r\n",
}
"""The same, by how its text is changed; `data` is the picture's base64."""


def raw(change):
    def answer(request):
        body = _whole(request).decode()
        data = json.loads(body)["candidates"][0]["content"]["parts"][-1]["inlineData"]["data"]
        return of_value(change(body, data).encode())

    return answer


def not_utf8(request):
    """Answer with words in Latin-1 beside the picture."""
    return of_value(_whole(request).replace(b"Here it is.", "Voilà, né.".encode("latin-1")))


ODD = {name: changed(change) for name, change in GOOD.items()} | {name: raw(change) for name, change in RAW.items()}
ODD["not UTF-8"] = not_utf8


def retry_info(delay):
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}


def told(code=429, status="RESOURCE_EXHAUSTED", message="Too many", *details, http=200, headers=None):
    error = {"code": code, "status": status, "message": message, "details": list(details)}
    return of_value({"error": error}, http, headers)


def decoded(part):
    return Image.open(io.BytesIO(base64.b64decode(part["inlineData"]["data"])))
