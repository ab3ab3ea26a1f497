"""Gemini's answers as far as we read them. Everything is optional, nothing is believed, and the rest is dropped.

Source: Google's own client (google-genai 3.4.0) recorded on loopback, and public reports, read 2026-11-20.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

_FORM = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


class InlineData(BaseModel):
    """A picture in base64 of either alphabet; its declared type is a hint at most."""

    model_config = _FORM

    mime_type: str | None = None
    data: str = Field(default="", repr=False)


class Part(BaseModel):
    """One part of an answer; `thought` marks what the model drew or wrote on its way."""

    model_config = _FORM

    text: str | None = None
    thought: bool | None = None
    inline_data: InlineData | None = None


class Content(BaseModel):
    """The parts of a candidate; a blocked one has none."""

    model_config = _FORM

    parts: list[Part] | None = None


class Candidate(BaseModel):
    """One answer, and why it ended there."""

    model_config = _FORM

    content: Content | None = None
    finish_reason: str | None = None
    finish_message: str | None = None
    continuation_token: str | None = Field(default=None, repr=False)


class PromptFeedback(BaseModel):
    """Why the question itself was refused."""

    model_config = _FORM

    block_reason: str | None = None


class TokenDetails(BaseModel):
    """Units of one modality."""

    model_config = _FORM

    modality: str | None = None
    token_count: int | None = None


class UsageMetadata(BaseModel):
    """What a call used, in Google's tokens."""

    model_config = _FORM

    prompt_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None
    candidates_tokens_details: list[TokenDetails] | None = None


class GenerateContentResponse(BaseModel):
    """A whole answer with status 200."""

    model_config = _FORM

    candidates: list[Candidate] | None = None
    prompt_feedback: PromptFeedback | None = None
    usage_metadata: UsageMetadata | None = None

    @property
    def candidate(self) -> Candidate:
        """The first candidate; an empty one if there is none."""
        return self.candidates[0] if self.candidates else Candidate()

    @property
    def parts(self) -> list[Part]:
        """The first candidate's parts."""
        content = self.candidate.content
        return (content.parts or []) if content else []


class Error(BaseModel):
    """google.rpc.Status, as JSON."""

    model_config = _FORM

    code: int | None = None
    message: str = ""
    status: str = ""
    details: list[dict[str, Any]] = []

    def detail(self, kind: str) -> dict[str, Any]:
        """Return the detail of a type such as `RetryInfo`; empty if there is none."""
        for detail in self.details:
            if str(detail.get("@type", "")).endswith(f"google.rpc.{kind}"):
                return detail
        return {}


class _ErrorBody(BaseModel):
    model_config = _FORM

    error: Error


class _ErrorList(BaseModel):
    model_config = _FORM

    errors: list[_ErrorBody] = Field(min_length=1)


def read_error(body: bytes) -> Error:
    """Read a refusal's body; an empty error if it is none, such as a proxy's HTML."""
    try:
        if body.lstrip().startswith(b"["):  # seen now and then: the body wrapped in a list
            return _ErrorList.model_validate_json(b'{"errors":' + body + b"}").errors[0].error
        return _ErrorBody.model_validate_json(body).error
    except ValidationError:
        return Error()
