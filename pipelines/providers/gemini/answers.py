"""What Gemini answered, taken for a stranger's: the right picture of several, an analysis that keeps to the schema."""

import base64
import binascii
import json
from typing import Any

from pydantic import ValidationError

from pipelines.analysis import Analysis
from pipelines.errors import BrokenAnswerError, StageError
from pipelines.providers.gemini.errors import no_picture, policy_refusal
from pipelines.providers.gemini.wire import GenerateContentResponse, InlineData
from pipelines.providers.remote import Reply

MAX_PICTURE_CHARS = 72_000_000
"""Of base64: 54 MB of picture, more than 4K as PNG."""

MAX_ANALYSIS_CHARS = 100_000
"""An honest analysis has a few hundred."""

_TO_STANDARD = str.maketrans("-_", "+/")


def read_answer(reply: Reply) -> GenerateContentResponse:
    """Read an answer with status 200.

    Raises:
        BrokenAnswerError: it isn't whole, or no answer of Gemini's at all.
    """
    try:
        return GenerateContentResponse.model_validate_json(reply.body)
    except ValidationError as error:
        raise BrokenAnswerError(
            "gemini answered with something that is no answer of its own", evidence=reply.evidence
        ) from error


def picture_of(response: GenerateContentResponse) -> bytes:
    """Return the picture of an answer: the last that isn't a thought; if all are thoughts, the last.

    Raises:
        PolicyRefusedError: there is none, by policy.
        BrokenAnswerError: there is none, or it isn't base64.
        RequestRejectedError: the model doesn't take this prompt.
    """
    if refused := policy_refusal(response):
        raise refused
    pictures = [part for part in response.parts if part.inline_data and part.inline_data.data]
    final = [part.inline_data for part in pictures if not part.thought] or [part.inline_data for part in pictures]
    if not final or final[-1] is None:
        raise no_picture(response)
    return _decoded(final[-1])


def _decoded(inline: InlineData) -> bytes:
    """Decode base64 of either alphabet, padded or not: Python's own decoder would drop what it doesn't know."""
    text = inline.data
    if len(text) > MAX_PICTURE_CHARS:
        raise BrokenAnswerError(f"gemini answered with a picture of {len(text):,} characters of base64")
    try:
        standard = text.translate(_TO_STANDARD).rstrip("=")
        return base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BrokenAnswerError("gemini answered with a picture that isn't base64") from error


def analysis_of(response: GenerateContentResponse, model: str) -> Analysis:
    """Return the analysis of an answer.

    Raises:
        PolicyRefusedError: there is none, by policy.
        BrokenAnswerError: there is none that keeps to the schema.
    """
    if refused := policy_refusal(response):
        raise refused
    text = "".join(part.text for part in response.parts if part.text and not part.thought).strip()
    if len(text) > MAX_ANALYSIS_CHARS:
        raise _no_analysis(f"{len(text):,} characters of it", text)
    try:
        value = json.loads(_unfenced(text), object_pairs_hook=_distinct, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise _no_analysis("no JSON", text) from error
    if not isinstance(value, dict):
        raise _no_analysis("JSON that is no object", text)
    try:
        return Analysis.from_json(value, source=model)
    except (ValidationError, RecursionError, TypeError) as error:
        raise _no_analysis("JSON that breaks the schema", text) from error


def _no_analysis(what: str, text: str) -> StageError:
    return BrokenAnswerError(f"gemini answered with no analysis: {what}", evidence=text[:500])


def _unfenced(text: str) -> str:
    """Take the fence off that models without a schema put around JSON."""
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
