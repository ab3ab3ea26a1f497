"""Parsing of Gemini's answers, which are untrusted: choosing the right picture, and checking an analysis's schema."""

import json
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from pipelines.analysis import Analysis
from pipelines.errors import BrokenAnswerError, StageError
from pipelines.providers.gemini.description import GEMINI
from pipelines.providers.gemini.errors import POLICY_REASONS, no_picture, policy_refusal, refusal
from pipelines.providers.gemini.wire import Candidate, GenerateContentResponse, Part, response_of
from pipelines.providers.reading import Reader, documents_of, error_in, picture_bytes, what_came
from pipelines.providers.remote import Reply

NAME = GEMINI.name

MAX_ANALYSIS_CHARS = 100_000
"""Longest text that is parsed as an analysis; a correct one has a few hundred characters."""


def read_answer(reply: Reply, model: str = "") -> GenerateContentResponse:
    """Parse an answer whose status says success. If its body contains an error, raise that error.

    Raises:
        StageError: as `refusal` translates an error in the body; nothing is paid for it.
        BrokenAnswerError: the answer is incomplete, or isn't one of Gemini's.
    """
    documents = documents_of(reply.body)
    reader = Reader()
    response = response_of(documents, reader)
    if not any(part.picture or part.text for part in response.parts) and (error := error_in(documents)) is not None:
        raise refusal(reply, model, error=error)
    if not documents:
        raise BrokenAnswerError(f"gemini answered with {what_came(reply.body)}", evidence=reply.evidence)
    reader.report(NAME)
    return response


def picture_of(response: GenerateContentResponse) -> bytes:
    """Return the picture of an answer: the last one that isn't marked as a thought; if all are, the last one.

    Every candidate is searched, except those that ended by policy. A picture whose base64 can't be decoded is skipped.

    Raises:
        PolicyRefusedError: there is no picture, because of the provider's policy.
        BrokenAnswerError: there is no picture, or none is base64.
        RequestRejectedError: the model doesn't accept this prompt.
    """
    if response.block_reason in POLICY_REASONS and (refused := policy_refusal(response)):
        raise refused
    broken: ValueError | None = None
    for part in _pictures(response):
        try:
            return picture_bytes(part.picture or "")
        except ValueError as error:
            broken = broken or error
    if refused := policy_refusal(response):
        raise refused
    if broken is not None:
        raise BrokenAnswerError("gemini answered with a picture that isn't base64") from broken
    raise no_picture(response)


def _pictures(response: GenerateContentResponse) -> Iterator[Part]:
    """Yield the pictures, best first: the last one of each candidate that isn't a thought, then all others."""
    for is_thought in (False, True):
        for candidate in _allowed(response):
            yield from (part for part in reversed(candidate.parts) if part.picture and part.is_thought is is_thought)


def analysis_of(response: GenerateContentResponse, model: str) -> Analysis:
    """Return the analysis of an answer, from the first candidate that has one.

    Raises:
        PolicyRefusedError: there is no analysis, because of the provider's policy.
        BrokenAnswerError: there is no analysis that fits the schema.
    """
    if response.block_reason in POLICY_REASONS and (refused := policy_refusal(response)):
        raise refused
    texts = [
        "".join(part.text for part in one.parts if part.text and not part.is_thought) for one in _allowed(response)
    ]
    failure: StageError | None = None
    for text in [text.strip() for text in texts if text.strip()]:
        try:
            return _analysis(text, model)
        except BrokenAnswerError as error:
            failure = failure or error
    raise failure or policy_refusal(response) or _no_analysis("no words", "")


def _allowed(response: GenerateContentResponse) -> list[Candidate]:
    """Return the candidates that didn't end by policy."""
    return [one for one in response.candidates if one.finish_reason not in POLICY_REASONS]


def _analysis(text: str, model: str) -> Analysis:
    if len(text) > MAX_ANALYSIS_CHARS:
        raise _no_analysis(f"{len(text):,} characters of it", text)
    try:
        value = json.loads(_unfenced(text), object_pairs_hook=_distinct, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise _no_analysis("no JSON", text) from error
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, dict):
        raise _no_analysis("JSON that is no object", text)
    reader = Reader()
    try:
        analysis = Analysis.of_result(_with_readable_words(value, reader), source=model)
    except (ValidationError, RecursionError, TypeError) as error:
        raise _no_analysis("JSON that breaks the schema", text) from error
    reader.report(NAME)
    return analysis


_WORDS = ("mainSubject", "imageStyle", "lightingCondition")
_WORDS_INSIDE = {"defects": "colorCastType", "cropping": "cropReason"}


def _with_readable_words(value: dict[str, Any], reader: Reader) -> dict[str, Any]:
    """Remove from an analysis the texts that aren't strings.

    These texts are only for people, and the rest of the analysis is usable without them.
    """
    readable = {
        name: one
        for name, one in value.items()
        if name not in _WORDS or (one is not None and reader.text(one, name) is not None)
    }
    for name, word in _WORDS_INSIDE.items():
        inside = readable.get(name)
        if isinstance(inside, dict) and word in inside:
            readable[name] = {**inside, word: reader.text(inside[word], f"{name}.{word}")}
    return readable


def _no_analysis(what: str, text: str) -> StageError:
    return BrokenAnswerError(f"gemini answered with no analysis: {what}", evidence=text[:500])


def _unfenced(text: str) -> str:
    """Remove the code fence that models without a schema put around JSON."""
    if text.startswith("```") and text.endswith("```"):
        return text[3:-3].removeprefix("json").strip()
    return text


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key stands twice")
    return value


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number")
