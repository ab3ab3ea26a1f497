"""Parsing of an OpenAI-compatible images API's answers: a picture in base64 or by a link, and what the call used."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipelines.errors import BrokenAnswerError
from pipelines.providers.openai.description import OPENAI
from pipelines.providers.openai.errors import refusal
from pipelines.providers.reading import Reader, documents_of, error_in, mappings_in, picture_bytes, what_came
from pipelines.providers.remote import Reply

NAME = OPENAI.name


@dataclass(frozen=True, slots=True)
class Drawn:
    """One answer: either `data` is its picture, or `link` is the picture's URL.

    Units are None if they can't be read.
    """

    data: bytes | None = field(default=None, repr=False)
    link: str | None = None
    input_units: int | None = None
    output_units: int | None = None


def read_answer(reply: Reply) -> Drawn:
    """Parse an answer whose status says success. If its body contains an error, raise that error.

    Raises:
        StageError: as `refusal` translates an error in the body; nothing is paid for it.
        BrokenAnswerError: it contains no picture, or none that can be decoded.
    """
    documents = documents_of(reply.body)
    texts = [one["b64_json"] for one in mappings_in(documents) if _is_text(one.get("b64_json"))]
    links = [one["url"] for one in _entries(documents) if _is_text(one.get("url"))]
    for bare in [] if texts or links else _bare_texts(documents):
        (links if _URL.match(bare) else texts).append(bare)
    inside = [link for link in links if _is_data_uri(link)]
    if not texts and not links:
        if (error := error_in(documents)) is not None:
            raise refusal(reply, error=error)
        came = "no picture" if documents else what_came(reply.body)
        raise BrokenAnswerError(f"openai answered with {came}", evidence=reply.evidence)
    reader = Reader()
    units = _used(documents, reader)
    reader.report(NAME)
    broken: ValueError | None = None
    for text in (*texts, *inside):
        try:
            return Drawn(picture_bytes(text), None, *units)
        except ValueError as error:
            broken = broken or error
    if (outside := next((link for link in links if not _is_data_uri(link)), None)) is not None:
        return Drawn(None, outside, *units)
    raise BrokenAnswerError("openai answered with a picture that isn't base64") from broken


def _entries(documents: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the objects in the list `data`, even if the list is inside other objects."""
    return [one for document in documents for one in mappings_in(document.get("data"))]


def _is_data_uri(link: str) -> bool:
    return link.lstrip()[:5].lower() == "data:"


_URL = re.compile(r"\s*(?:https?:|data:)", re.IGNORECASE)


def _bare_texts(documents: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return texts that stand directly in the list where objects with base64 or a link are expected."""
    places = [document.get(name) for document in documents for name in ("data", "images")]
    every = [one for place in places for one in (place if isinstance(place, list) else [place])]
    return [one for one in every if isinstance(one, str) and one.strip()]


def _used(documents: Sequence[Mapping[str, Any]], reader: Reader) -> tuple[int | None, int | None]:
    """Return the units of input and output; both None if one of them can't be read, or the output is zero."""
    for document in documents:
        usage = reader.mapping(document.get("usage"), "usage")
        sent = reader.units(usage.get("input_tokens"), "usage.input_tokens")
        drawn = reader.units(usage.get("output_tokens"), "usage.output_tokens")
        if sent is not None and drawn:
            return sent, drawn
        if usage:
            reader.note("usage")
    return None, None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
