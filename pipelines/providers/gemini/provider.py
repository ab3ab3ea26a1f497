"""The provider Gemini: analyses with a response schema, pictures from pictures and from words."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from http import HTTPStatus
from typing import Any

from pipelines.analysis import Analysis
from pipelines.errors import (
    BrokenAnswerError,
    MissedRequestError,
    NoSuchModelError,
    ProviderNotConfiguredError,
    ProviderUnavailableError,
    RequestTooLargeError,
    StageError,
    ThrottledError,
    UnknownModelError,
)
from pipelines.imaging.answers import Outgoing
from pipelines.imaging.geometry import nearest_ratio
from pipelines.imaging.header import DecodeLimits, read_header
from pipelines.imaging.pool import PixelPool
from pipelines.job import Prompt
from pipelines.limits import answer_limits
from pipelines.options import AnalysisOptions
from pipelines.pixel_functions import outgoing
from pipelines.providers.asked import Asked
from pipelines.providers.calls import Answer, Came, LookAgain, PreparedCall, Usage, forget
from pipelines.providers.catalogue import ModelCatalogue, shortfall
from pipelines.providers.gemini.answers import NAME, analysis_of, picture_of, read_answer
from pipelines.providers.gemini.description import GEMINI, GeminiSettings
from pipelines.providers.gemini.errors import change_after, recited_again, refusal
from pipelines.providers.gemini.requests import (
    FIRST,
    MAX_ANALYSIS_UNITS,
    SMALLER,
    Change,
    analysis_request,
    generation_request,
    ratios_of,
)
from pipelines.providers.gemini.wire import GenerateContentResponse, UsageMetadata
from pipelines.providers.prices import SIZES_PX, PriceTable
from pipelines.providers.provider import EncodedImage, Quote
from pipelines.providers.remote import MAX_PICTURES, RemoteCaller
from pipelines.providers.seen import seen
from pipelines.providers.terms import model_terms
from pipelines.settings import Settings

MAX_REQUEST_BYTES = 20_000_000
"""Largest request, pictures included, in bytes; Google's documentation, read 2026-11."""

ANALYSIS_TEMPERATURE = 0.1
GENERATION_TEMPERATURE = 1.0
"""The service's own default for image models; it is sent, so that the row can name it."""

_PROMPT_UNITS = 1_500
"""Assumed units of a picture and our prompt, to estimate the price of an analysis before it is made."""


class GeminiProvider:
    """Provider that calls the Gemini REST API. One per process: it owns the HTTP connections."""

    def __init__(self, settings: Settings, pixels: PixelPool, limits: DecodeLimits) -> None:
        """Store what calls need. Without an API key every quote raises an error. The caller closes `pixels`."""
        self._settings = own = settings.of(GeminiSettings)
        self._pixels = pixels
        self._limits = limits
        self._prices = PriceTable(settings.model_prices, settings.unknown_model_usd)
        self._models = ModelCatalogue(model_terms(settings))
        self._caller: RemoteCaller | None = None
        if own.gemini_api_key is not None:
            self._caller = RemoteCaller(
                NAME,
                own.gemini_base_url,
                {"x-goog-api-key": own.gemini_api_key.get_secret_value()},
                max_picture_bytes=settings.max_answer_bytes,
            )

    @property
    def name(self) -> str:
        """Return "gemini"."""
        return NAME

    @property
    def is_paid(self) -> bool:
        """Return True."""
        return GEMINI.is_paid

    @property
    def identity(self) -> str:
        """Return the name of the model that makes pictures unless a pipeline names another one."""
        return self._settings.gemini_image_model

    def quote_analysis(self, options: AnalysisOptions) -> Quote:
        """Return model and price of an analysis.

        Raises:
            ProviderNotConfiguredError: there is no key, or the model is another provider's.
            UnknownModelError: calls can't use the model that the pipeline names.
        """
        self._require_key()
        model = self._models.chosen(NAME, "analyze", options.model, self._settings.gemini_analysis_model)
        return Quote(model, self._prices.analysis_usd(model, prompt=_PROMPT_UNITS, output=MAX_ANALYSIS_UNITS))

    def quote_generation(self, prompt: Prompt, long_side_px: int) -> Quote:
        """Return model and price of a picture.

        Raises:
            ProviderNotConfiguredError: there is no key, the model is another provider's, or its pictures are too
                small for the tier and a setting forbids to enlarge them.
            UnknownModelError: calls can't use the model that the pipeline names.
        """
        self._require_key()
        model = self._models.chosen(NAME, "generate", prompt.model, self._settings.gemini_image_model)
        made_px = SIZES_PX[self._prices.size_for(model, long_side_px)]
        if self._settings.over_size == "refuse" and (reason := shortfall(model, made_px, long_side_px)):
            raise ProviderNotConfiguredError(f"gemini is not configured for this tier: {reason}")
        return Quote(model, self._prices.image_usd(model, long_side_px), images=1)

    async def prepare_analysis(self, image: EncodedImage, options: AnalysisOptions) -> PreparedCall[Analysis]:
        """Return the call that asks what is in a picture and what is wrong with it, ready to be sent.

        Raises:
            StageError: see `pipelines.providers.gemini.errors`.
        """
        return await self._analysis(image, options, None)

    async def prepare_generation(
        self, prompt: Prompt, images: Sequence[EncodedImage], long_side_px: int, aspect: float | None
    ) -> PreparedCall[EncodedImage]:
        """Return the call that makes a picture from pictures, ready to be sent.

        The main picture comes first. Pictures get margins up to the nearest ratio that the model makes.

        Raises:
            StageError: see `pipelines.providers.gemini.errors`.
        """
        prepare = partial(self._generation, prompt, images, long_side_px, aspect)
        try:
            return await prepare(None)
        except RequestTooLargeError:
            return await prepare(SMALLER)

    async def _analysis(
        self, image: EncodedImage, options: AnalysisOptions, change: Change | None
    ) -> PreparedCall[Analysis]:
        """Return the call for an analysis.

        `change` is None for the first call; a changed call is never changed again.
        """
        model = self.quote_analysis(options).model
        picture = await self._outgoing(image, change or FIRST)
        temperature = ANALYSIS_TEMPERATURE if options.temperature is None else options.temperature
        body = _encoded(analysis_request(picture.data, temperature, change or FIRST))

        async def send(look_again: LookAgain, _came: Came = forget) -> Answer[Analysis]:
            try:
                response = await self._ask(model, body, look_again)
            except RequestTooLargeError as error:
                error.again = None if change else partial(self._analysis, image, options, SMALLER)
                raise
            except BrokenAnswerError as error:  # such as a proxy's page, or half an answer
                error.again = None if change else partial(self._analysis, image, options, FIRST)
                raise
            usage = self._usage(model, response.usage, images=0)
            try:
                return Answer(analysis_of(response, model), model, usage, temperature)
            except StageError as error:
                error.usage = usage
                if change is None and isinstance(error, BrokenAnswerError):
                    error.again = partial(self._analysis, image, options, change_after(response))
                raise

        return send

    async def _generation(
        self,
        prompt: Prompt,
        images: Sequence[EncodedImage],
        long_side_px: int,
        aspect: float | None,
        change: Change | None,
    ) -> PreparedCall[EncodedImage]:
        """Return the call for a picture. `change` is None for the first call; a changed call is never changed again."""
        model = self.quote_generation(prompt, long_side_px).model
        ratios, sizes = ratios_of(model), self._prices.sizes(model)
        pictures = [
            await self._outgoing(image, change or FIRST, None if number or prompt.is_reshaped else ratios)
            for number, image in enumerate(images[:MAX_PICTURES])
        ]
        ratio = (pictures[0].ratio if pictures else None) or nearest_ratio(aspect or 1.0, ratios)
        size = self._prices.size_for(model, long_side_px)
        asked = Asked.of(model, SIZES_PX[size], ratios[ratio], prompt, pictures[0] if pictures else None)
        temperature = GENERATION_TEMPERATURE if prompt.temperature is None else prompt.temperature
        request = generation_request(
            prompt.text,
            [picture.data for picture in pictures],
            ratio=ratio,
            size=size if len(sizes) > 1 else None,  # a model with only one size refuses a request that names it
            temperature=temperature,
            change=change or FIRST,
        )
        body, prepare = _encoded(request), partial(self._generation, prompt, images, long_side_px, aspect)

        async def send(look_again: LookAgain, came: Came = forget) -> Answer[EncodedImage]:
            try:
                response = await self._ask(model, body, look_again)
            except RequestTooLargeError as error:
                error.again = None if change else partial(prepare, SMALLER)
                raise
            usage = self._usage(model, response.usage, images=1)
            try:
                answer = Answer(EncodedImage(picture_of(response)), model, usage, temperature, unseen=asdict(asked))
                came(answer)
                return await seen(answer, long_side_px, self._pixels, answer_limits(self._settings))
            except MissedRequestError as error:
                error.usage = usage
                raise
            except StageError as error:
                error.usage = usage
                if change is None and isinstance(error, BrokenAnswerError):
                    error.again = partial(prepare, change_after(response))
                elif change and (refused := recited_again(response)):
                    refused.usage = usage
                    raise refused from error
                raise

        return send

    async def check(self) -> None:
        """Request the description of each configured model, which costs nothing.

        Raises:
            ProviderNotConfiguredError: a model doesn't exist (any more) or has no price, or the key isn't accepted.
        """
        caller = self._require_key()
        for model in dict.fromkeys((self._settings.gemini_image_model, self._settings.gemini_analysis_model)):
            reply = await caller.get(f"/{self._settings.gemini_api_version}/models/{model}")
            if reply.status != HTTPStatus.OK:
                raise refusal(reply, model)
        drawing, looking = self._settings.gemini_image_model, self._settings.gemini_analysis_model
        self._models.require_price("generate", "DARKROOM_GEMINI_IMAGE_MODEL", drawing)
        self._models.require_price("analyze", "DARKROOM_GEMINI_ANALYSIS_MODEL", looking)

    async def aclose(self) -> None:
        """Close every connection. Idempotent."""
        if self._caller is not None:
            await self._caller.aclose()

    def _require_key(self) -> RemoteCaller:
        if self._caller is None:
            raise ProviderNotConfiguredError("gemini is not configured: set GEMINI_API_KEY")
        return self._caller

    async def _outgoing(self, image: EncodedImage, change: Change, ratios: dict[str, float] | None = None) -> Outgoing:
        header = read_header(image.data, self._limits)
        return await self._pixels.run(
            outgoing.outgoing,
            image.data,
            self._limits,
            image.box,
            ratios,
            change.max_side_px,
            task_bytes=header.decoded_bytes,
        )

    async def _ask(self, model: str, body: bytes, look_again: LookAgain) -> GenerateContentResponse:
        caller = self._require_key()
        reply = await caller.post(
            f"/{self._settings.gemini_api_version}/models/{model}:generateContent",
            look_again,
            content=body,
            headers={"content-type": "application/json"},
        )
        configured = (self._settings.gemini_image_model, self._settings.gemini_analysis_model)
        try:
            if not reply.is_success:
                raise refusal(reply, model)
            return read_answer(reply, model)
        except NoSuchModelError as error:
            if model in configured:
                raise
            raise UnknownModelError(f"gemini has no model {model} (any more)", evidence=error.evidence) from error
        except ThrottledError as error:
            caller.leave_alone(error.retry_after)
            raise
        except ProviderUnavailableError as error:
            if error.retry_after is not None:
                caller.leave_alone(error.retry_after)
            raise

    def _usage(self, model: str, used: UsageMetadata | None, *, images: int) -> Usage:
        """Return what a call used.

        If the answer doesn't give all of it, the cost is computed from the table of prices.
        """
        if used is None or (images and not used.candidates):
            return Usage(images=images or None)
        drawn = used.candidates if images else 0  # an image model that reports one sum counts its pictures in it
        if used.drawn is not None:
            drawn = min(used.candidates, used.drawn)
        if images and not drawn:
            return Usage(images=images)
        cost = self._prices.units_usd(
            model, prompt=used.prompt, output=used.candidates - drawn + used.thoughts, image=drawn
        )
        return Usage(used.prompt, used.candidates + used.thoughts, images or None, cost)


def _encoded(request: dict[str, Any]) -> bytes:
    body = json.dumps(request, ensure_ascii=False).encode()
    if len(body) > MAX_REQUEST_BYTES:
        raise RequestTooLargeError(f"the request would have {len(body):,} bytes; gemini takes {MAX_REQUEST_BYTES:,}")
    return body
