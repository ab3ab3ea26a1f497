"""The fields of Gemini's answers that Darkroom reads. Each may be missing or wrong; all other fields are ignored.

Source: Google's own client (google-genai 3.4.0) recorded on loopback, and public reports, read 2026-11-20.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipelines.providers.reading import Reader, mappings_in


@dataclass(frozen=True, slots=True)
class Part:
    """One part of an answer; `is_thought` marks an intermediate picture or text of the model.

    `picture` is base64 as it came, and its declared type is ignored; `link` names a file that we can't read.
    """

    text: str | None = None
    is_thought: bool = False
    picture: str | None = field(default=None, repr=False)
    link: str | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """One candidate of an answer, and its finish reason; a candidate that policy blocked has no parts."""

    parts: Sequence[Part] = ()
    finish_reason: str | None = None
    finish_message: str | None = None
    continuation_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class UsageMetadata:
    """What a call used, in Google's tokens.

    `drawn` are the tokens of pictures; None if the answer doesn't count them separately.
    """

    prompt: int
    candidates: int
    thoughts: int
    drawn: int | None


@dataclass(frozen=True, slots=True)
class GenerateContentResponse:
    """A complete answer with status 200."""

    candidates: Sequence[Candidate] = ()
    block_reason: str | None = None
    usage: UsageMetadata | None = None

    @property
    def candidate(self) -> Candidate:
        """The first candidate with a finish reason; else the first candidate, or an empty one if there is none."""
        said = (one for one in self.candidates if one.finish_reason)
        return next(said, self.candidates[0] if self.candidates else Candidate())

    @property
    def parts(self) -> list[Part]:
        """The parts of all candidates."""
        return [part for candidate in self.candidates for part in candidate.parts]


def response_of(documents: Sequence[Mapping[str, Any]], reader: Reader) -> GenerateContentResponse:
    """Read an answer from the JSON objects of its body: one, or several if a proxy streams them."""
    candidates: list[Candidate] = []
    searched: set[int] = set()
    block_reason, usage = None, None
    for document in (one for one in mappings_in(list(documents)) if _NAMES & one.keys()):  # also in an outer object
        inside = reader.mappings(document.get("candidates"), "candidates")
        candidates += [_candidate(one, reader, searched) for one in inside]
        feedback = reader.mapping(_either(document, "promptFeedback"), "promptFeedback")
        block_reason = reader.text(_either(feedback, "blockReason"), "promptFeedback.blockReason") or block_reason
        usage = _usage(reader.mapping(_either(document, "usageMetadata"), "usageMetadata"), reader) or usage
    if not candidates and (found := _pictures_in(mappings_in(list(documents)), "candidates", reader)):
        candidates.append(Candidate(found))
    return GenerateContentResponse(candidates, block_reason, usage)


_NAMES = frozenset(
    {"candidates", "promptFeedback", "prompt_feedback", "usageMetadata", "usage_metadata"},
)


def _candidate(value: Mapping[str, Any], reader: Reader, searched: set[int]) -> Candidate:
    """Return a candidate. One that is inside another was `searched` with it, and isn't once more: they may be many."""
    parts = [_part(one, reader) for one in _parts(value.get("content"), reader)]
    if not any(part.picture for part in parts) and id(value) not in searched:
        every = list(mappings_in(value))
        searched.update(map(id, every))
        parts += _pictures_in(every, "content", reader)
    return Candidate(
        parts=parts,
        finish_reason=reader.text(_either(value, "finishReason"), "finishReason"),
        finish_message=reader.text(_either(value, "finishMessage"), "finishMessage"),
        continuation_token=reader.text(_either(value, "continuationToken"), "continuationToken"),
    )


def _pictures_in(values: Iterable[Mapping[str, Any]], name: str, reader: Reader) -> list[Part]:
    """Return the parts with a picture of all objects, however they are nested: not every form is documented."""
    found = [_part(one, reader) for one in values if _either(one, "inlineData")]
    pictures = [part for part in found if part.picture]
    if pictures:
        reader.note(name)
    return pictures


def _parts(content: Any, reader: Reader) -> Iterator[Mapping[str, Any]]:
    """Yield the parts of a content, which has them in a list or directly."""
    if isinstance(content, list):
        reader.note("content")
    for one in content if isinstance(content, list) else [content]:
        inside = reader.mapping(one, "content")
        if "parts" in inside:
            yield from reader.mappings(inside["parts"], "parts")
        elif inside:
            yield inside


def _part(value: Mapping[str, Any], reader: Reader) -> Part:
    inline = _either(value, "inlineData")
    if isinstance(inline, str):  # a data URI in place of the object
        reader.note("inlineData")
        inline = {"data": inline}
    elif isinstance(inline, list):
        inline = next(iter(reader.mappings(inline, "inlineData")), None)
        reader.note("inlineData")
    file = reader.mapping(_either(value, "fileData"), "fileData")
    return Part(
        text=reader.text(value.get("text"), "text"),
        is_thought=value.get("thought") is True,
        picture=reader.text(reader.mapping(inline, "inlineData").get("data"), "inlineData.data"),
        link=reader.text(_either(file, "fileUri"), "fileUri"),
    )


def _usage(value: Mapping[str, Any], reader: Reader) -> UsageMetadata | None:
    """Return what was used if all of it can be read, else None.

    If a part is missing, the price by the table is closer to the truth than the sum of the other parts.
    """
    names = ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount")
    counts = [_either(value, name) for name in names]
    units = [reader.units(count, f"usageMetadata.{name}") for count, name in zip(counts, names, strict=True)]
    if units[0] is None or any(one is None and count is not None for one, count in zip(units, counts, strict=True)):
        return None
    details = _either(value, "candidatesTokensDetails")
    drawn = None
    if details is not None:
        drawn = 0
        for detail in reader.mappings(details, "candidatesTokensDetails"):
            if detail.get("modality") == "IMAGE":
                drawn += reader.units(_either(detail, "tokenCount"), "candidatesTokensDetails.tokenCount") or 0
    return UsageMetadata(units[0], units[1] or 0, units[2] or 0, drawn)


def _either(value: Mapping[str, Any], name: str) -> Any:
    """Return a field by its name in camelCase or in snake_case: proto JSON accepts both, and servers use both."""
    if value.get(name) is not None:
        return value[name]
    return value.get("".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name))
