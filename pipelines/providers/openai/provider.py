"""An OpenAI-compatible images API as a provider: pictures from words and from pictures, no analysis.

Source: OpenAI's API reference for /v1/images/generations and /v1/images/edits, as its public clients speak it.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from datetime import timedelta
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from config.settings import Settings
from pipelines.analysis import Analysis
from pipelines.errors import (
    BrokenAnswerError,
    PolicyRefusedError,
    ProviderNotConfiguredError,
    ProviderTimedOutError,
    ProviderUnavailableError,
    RequestRejectedError,
    StageError,
    ThrottledError,
)
from pipelines.imaging.header import DecodeLimits, read_header
from pipelines.imaging.outgoing import Outgoing, nearest_ratio, outgoing
from pipelines.imaging.pool import PixelPool
from pipelines.job import Prompt
from pipelines.options import AnalysisOptions
from pipelines.providers.prices import PriceTable
from pipelines.providers.provider import Answer, EncodedImage, LookAgain, PreparedCall, Quote, Usage
from pipelines.providers.remote import MAX_EVIDENCE_CHARS, RemoteCaller, Reply

NAME = "openai"

RATIOS = {"1024x1024": 1.0, "1536x1024": 1.5, "1024x1536": 1 / 1.5}
"""What gpt-image-1 makes, by `size`."""

MAX_PICTURES = 6
MAX_PICTURE_CHARS = 72_000_000

DEFAULT_RETRY_AFTER = timedelta(seconds=20)

_SECONDS = re.compile(r"\d{1,6}(?:\.\d{1,6})?")
_POLICY_CODES = frozenset({"moderation_blocked", "content_policy_violation"})
_UNPAID_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})


class _Picture(BaseModel):
    b64_json: str | None = Field(default=None, repr=False)


class _Usage(BaseModel):
    input_tokens: int = Field(default=0, ge=0)
    output_tokens: int = Field(default=0, ge=0)


class _Answer(BaseModel):
    data: list[_Picture] = []
    usage: _Usage | None = None


class _Error(BaseModel):
    code: str | None = None
    message: str | None = None


class _ErrorBody(BaseModel):
    error: _Error


class OpenAIProvider:
    """Speaks an OpenAI-compatible images API. One per process: it owns the connections."""

    def __init__(self, settings: Settings, pixels: PixelPool, limits: DecodeLimits) -> None:
        """Keep what calls need; without a key every quote says so. The caller owns the pool."""
        self._model = settings.openai_image_model
        self._pixels = pixels
        self._limits = limits
        self._prices = PriceTable(settings.model_prices)
        self._caller: RemoteCaller | None = None
        if settings.openai_api_key is not None:
            key = settings.openai_api_key.get_secret_value()
            self._caller = RemoteCaller(NAME, settings.openai_base_url, {"authorization": f"Bearer {key}"})

    @property
    def name(self) -> str:
        """Return "openai"."""
        return NAME

    @property
    def is_paid(self) -> bool:
        """Return True."""
        return True

    def quote_analysis(self, options: AnalysisOptions) -> Quote:  # noqa: ARG002 - never can
        """Refuse: the images API can't look at a picture.

        Raises:
            ProviderNotConfiguredError: always.
        """
        raise ProviderNotConfiguredError("openai is not configured to analyze: its images API can't")

    def quote_generation(self, prompt: Prompt, long_side_px: int) -> Quote:  # noqa: ARG002 - a pipeline names Gemini's
        """Return model and price of a picture.

        Raises:
            ProviderNotConfiguredError: there is no key.
        """
        self._require_key()
        return Quote(self._model, self._prices.image_usd(self._model, long_side_px), images=1)

    async def prepare_analysis(
        self,
        image: EncodedImage,  # noqa: ARG002 - never can
        options: AnalysisOptions,  # noqa: ARG002 - never can
    ) -> PreparedCall[Analysis]:
        """Refuse, as `quote_analysis` does."""
        raise ProviderNotConfiguredError("openai is not configured to analyze: its images API can't")

    async def prepare_generation(
        self, prompt: Prompt, images: Sequence[EncodedImage], long_side_px: int, aspect: float | None
    ) -> PreparedCall[EncodedImage]:
        """Make ready to ask for a picture; of pictures by `edits`, of words alone by `generations`.

        Raises:
            StageError: the error of ours that the answer means.
        """
        self.quote_generation(prompt, long_side_px)
        fields: dict[str, Any] = {"model": self._model, "prompt": prompt.text, "n": 1}
        caller = self._require_key()
        if images:
            pictures = [
                await self._outgoing(image, None if number else RATIOS)
                for number, image in enumerate(images[:MAX_PICTURES])
            ]
            files = [("image[]", (f"{n}.jpg", one.data, "image/jpeg")) for n, one in enumerate(pictures)]
            texts = {name: str(value) for name, value in fields.items()}
            content: dict[str, Any] = {"files": files, "data": texts | {"size": pictures[0].ratio or ""}}
            path = "edits"
        else:
            path, content = "generations", {"json": {**fields, "size": nearest_ratio(aspect or 1.0, RATIOS)}}

        async def send(look_again: LookAgain) -> Answer[EncodedImage]:
            reply = await caller.post(f"/v1/images/{path}", look_again, **content)
            if reply.status != HTTPStatus.OK:
                error = refusal(reply)
                if isinstance(error, ThrottledError):
                    caller.leave_alone(error.retry_after)
                raise error
            return self._answer(reply)

        return send

    async def check(self) -> None:
        """Ask for the configured model by its name.

        Raises:
            ProviderNotConfiguredError: there is no such model, or the key isn't accepted.
        """
        reply = await self._require_key().get(f"/v1/models/{self._model}")
        if reply.status != HTTPStatus.OK:
            raise refusal(reply)

    async def aclose(self) -> None:
        """Close every connection. Idempotent."""
        if self._caller is not None:
            await self._caller.aclose()

    def _require_key(self) -> RemoteCaller:
        if self._caller is None:
            raise ProviderNotConfiguredError("openai is not configured: set OPENAI_API_KEY")
        return self._caller

    async def _outgoing(self, image: EncodedImage, ratios: dict[str, float] | None) -> Outgoing:
        header = read_header(image.data, self._limits)
        return await self._pixels.run(
            outgoing, image.data, self._limits, image.box, ratios, task_bytes=header.decoded_bytes
        )

    def _answer(self, reply: Reply) -> Answer[EncodedImage]:
        try:
            answer = _Answer.model_validate_json(reply.body)
        except ValidationError as error:
            raise BrokenAnswerError("openai answered with no answer of its own", evidence=reply.evidence) from error
        text = next((picture.b64_json for picture in answer.data if picture.b64_json), None)
        if text is None or len(text) > MAX_PICTURE_CHARS:
            raise BrokenAnswerError(
                "openai answered with no picture", evidence=reply.evidence if text is None else None
            )
        try:
            data = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise BrokenAnswerError("openai answered with a picture that isn't base64") from error
        usage = Usage(images=1)
        if answer.usage is not None and self._prices.knows(self._model):
            used = answer.usage
            cost = self._prices.units_usd(self._model, prompt=used.input_tokens, image=used.output_tokens)
            usage = Usage(used.input_tokens, used.output_tokens, 1, cost)
        return Answer(EncodedImage(data), self._model, usage)


def refusal(reply: Reply) -> StageError:  # noqa: PLR0911 - a table, one line each
    """Translate an answer whose status isn't 200, by its status and its error's code."""
    try:
        error = _ErrorBody.model_validate_json(reply.body).error
    except ValidationError:
        error = _Error()
    where, evidence = f"openai {reply.status}", (error.message or reply.evidence)[:MAX_EVIDENCE_CHARS]
    if error.code in _POLICY_CODES:
        return PolicyRefusedError(
            f"openai refused the request by policy: {error.code}", category=str(error.code), evidence=evidence
        )
    if error.code in _UNPAID_CODES or reply.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return ProviderNotConfiguredError(f"{where}: the key isn't accepted or not paid for", evidence=evidence)
    if reply.status == HTTPStatus.NOT_FOUND:
        return ProviderNotConfiguredError(
            f"{where}: there is no such model or address; check DARKROOM_OPENAI_IMAGE_MODEL, OPENAI_BASE_URL",
            evidence=evidence,
        )
    if reply.status == HTTPStatus.TOO_MANY_REQUESTS:
        given = _SECONDS.fullmatch(reply.headers.get("retry-after", ""))
        wait = timedelta(seconds=float(given[0])) if given else DEFAULT_RETRY_AFTER
        return ThrottledError(f"{where}: too many requests", retry_after=wait, evidence=evidence)
    if reply.status == HTTPStatus.GATEWAY_TIMEOUT:
        return ProviderTimedOutError(f"{where}: it wasn't done in its own time", evidence=evidence)
    if reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR or reply.status == HTTPStatus.REQUEST_TIMEOUT:
        return ProviderUnavailableError(f"{where}: it is out of order or overloaded", evidence=evidence)
    return RequestRejectedError(f"{where}: the request was rejected", evidence=evidence)
