"""The provider openai: pictures from words and from pictures, by an OpenAI-compatible images API. It can't analyze.

Source: OpenAI's API reference for /v1/images/generations and /v1/images/edits, as its public clients use it.
"""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import httpx
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_fixed

from pipelines.analysis import Analysis
from pipelines.errors import (
    AnswerTooLargeError,
    BadImageError,
    BrokenAnswerError,
    NoSuchModelError,
    ProviderNotConfiguredError,
    ProviderUnavailableError,
    RequestRejectedError,
    StageError,
    ThrottledError,
    UnknownModelError,
)
from pipelines.fetching import PictureFetcher
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
from pipelines.providers.openai.answers import NAME, Drawn, read_answer
from pipelines.providers.openai.description import MOST_SIDE_PX, OPENAI, OpenAISettings
from pipelines.providers.openai.errors import refusal
from pipelines.providers.prices import PriceTable
from pipelines.providers.provider import EncodedImage, Quote
from pipelines.providers.reading import documents_of, error_in
from pipelines.providers.remote import MAX_PICTURES, RemoteCaller, Reply
from pipelines.providers.seen import seen
from pipelines.providers.terms import model_terms
from pipelines.public_client import FetchFailedError
from pipelines.settings import Settings

RATIOS = {"1024x1024": 1.0, "1536x1024": 1.5, "1024x1536": 1 / 1.5}
"""Width / height that gpt-image-1 makes, by its parameter `size`."""

ONLY_BASE64 = "gpt-image"
"""Models with this in their name always answer in base64 and refuse a request that asks for it.

Others send a link unless the request asks for base64.
"""

LINK_COLUMN = "openai's link"
LINK_TRIES, LINK_WAIT_S = 3, 1.0


class OpenAIProvider:
    """Provider that calls an OpenAI-compatible images API. One per process: it owns the HTTP connections."""

    def __init__(self, settings: Settings, pixels: PixelPool, limits: DecodeLimits) -> None:
        """Store what calls need. Without an API key every quote raises an error. The caller closes `pixels`."""
        self._settings = own = settings.of(OpenAISettings)
        self._models = ModelCatalogue(model_terms(settings))
        self._pixels = pixels
        self._limits = limits
        self._prices = PriceTable(settings.model_prices, settings.unknown_model_usd)
        self._caller: RemoteCaller | None = None
        if own.openai_api_key is not None:
            key = own.openai_api_key.get_secret_value()
            self._caller = RemoteCaller(
                NAME,
                own.openai_base_url,
                {"authorization": f"Bearer {key}"},
                max_picture_bytes=settings.max_answer_bytes,
            )
        self._fetcher = PictureFetcher(allow_loopback=settings.fetch_allow_loopback)

    @property
    def name(self) -> str:
        """Return "openai"."""
        return NAME

    @property
    def is_paid(self) -> bool:
        """Return True."""
        return OPENAI.is_paid

    @property
    def identity(self) -> str:
        """Return the name of the model that makes pictures unless a pipeline names another one."""
        return self._settings.openai_image_model

    def quote_analysis(self, options: AnalysisOptions) -> Quote:  # noqa: ARG002 - never can
        """Raise an error, because the images API can't analyze a picture.

        Raises:
            ProviderNotConfiguredError: always.
        """
        raise ProviderNotConfiguredError("openai is not configured to analyze: its images API can't")

    def quote_generation(self, prompt: Prompt, long_side_px: int) -> Quote:
        """Return model and price of a picture.

        Raises:
            ProviderNotConfiguredError: there is no key, the model is another provider's, or its pictures are too
                small for the tier and a setting forbids to enlarge them.
            UnknownModelError: calls can't use the model that the pipeline names.
        """
        self._require_key()
        model = self._models.chosen(NAME, "generate", prompt.model, self._settings.openai_image_model)
        reason = shortfall(model, MOST_SIDE_PX, long_side_px) if self._settings.over_size == "refuse" else None
        if reason:
            raise ProviderNotConfiguredError(f"openai is not configured for this tier: {reason}")
        return Quote(model, self._prices.image_usd(model, long_side_px), images=1)

    async def prepare_analysis(
        self,
        image: EncodedImage,  # noqa: ARG002 - never can
        options: AnalysisOptions,  # noqa: ARG002 - never can
    ) -> PreparedCall[Analysis]:
        """Raise the error that `quote_analysis` raises."""
        raise ProviderNotConfiguredError("openai is not configured to analyze: its images API can't")

    async def prepare_generation(
        self, prompt: Prompt, images: Sequence[EncodedImage], long_side_px: int, aspect: float | None
    ) -> PreparedCall[EncodedImage]:
        """Return the call that asks for a picture, ready to be sent.

        If there are pictures to work on, it calls `edits`, otherwise `generations`.

        Raises:
            StageError: our translation of an error answer.
        """
        model = self.quote_generation(prompt, long_side_px).model
        return await self._generation(prompt, images, long_side_px, aspect, asks_base64=ONLY_BASE64 not in model)

    async def _generation(
        self,
        prompt: Prompt,
        images: Sequence[EncodedImage],
        long_side_px: int,
        aspect: float | None,
        *,
        asks_base64: bool,
    ) -> PreparedCall[EncodedImage]:
        """Return the call for a picture.

        If the server refuses the request because it asks for base64, the request is sent once more without asking for
        that.
        """
        model = self.quote_generation(prompt, long_side_px).model
        caller = self._require_key()
        pictures = [
            await self._outgoing(image, None if number or prompt.is_reshaped else RATIOS)
            for number, image in enumerate(images[:MAX_PICTURES])
        ]
        size = (pictures[0].ratio if pictures else None) or nearest_ratio(aspect or 1.0, RATIOS)
        fields: dict[str, Any] = {"model": model, "prompt": prompt.text, "n": 1, "size": size}
        fields |= {"response_format": "b64_json"} if asks_base64 else {}
        if pictures:
            files = [("image[]", (f"{n}.jpg", one.data, "image/jpeg")) for n, one in enumerate(pictures)]
            content: dict[str, Any] = {"files": files, "data": {name: str(value) for name, value in fields.items()}}
        else:
            content = {"json": fields}
        path = f"/v1/images/{'edits' if pictures else 'generations'}"
        asked = Asked.of(model, max(map(int, size.split("x"))), RATIOS[size], prompt, next(iter(pictures), None))

        async def send(look_again: LookAgain, came: Came = forget) -> Answer[EncodedImage]:
            reply = await caller.post(path, look_again, **content)
            try:
                drawn = self._read(caller, reply, model)
            except RequestRejectedError as error:
                if asks_base64 and _refuses_base64(reply):
                    error.again = partial(self._generation, prompt, images, long_side_px, aspect, asks_base64=False)
                raise
            usage = self._usage(drawn, model)
            try:
                answer = Answer(EncodedImage(await self._picture(caller, drawn)), model, usage, unseen=asdict(asked))
                came(answer)
                return await seen(answer, long_side_px, self._pixels, answer_limits(self._settings))
            except StageError as error:
                error.usage = usage
                raise

        return send

    async def check(self) -> None:
        """Request the description of the configured model, which costs nothing.

        Raises:
            ProviderNotConfiguredError: the model doesn't exist, it has no price, or the key isn't accepted.
        """
        configured = self._settings.openai_image_model
        reply = await self._require_key().get(f"/v1/models/{configured}")
        if not reply.is_success:
            raise refusal(reply)
        self._models.require_price("generate", "DARKROOM_OPENAI_IMAGE_MODEL", configured)

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
            outgoing.outgoing, image.data, self._limits, image.box, ratios, task_bytes=header.decoded_bytes
        )

    def _read(self, caller: RemoteCaller, reply: Reply, model: str) -> Drawn:
        """Parse an answer.

        If the answer asks callers to wait, this process sends no call to the provider during that time.

        Raises:
            StageError: our translation of an error answer.
        """
        try:
            if not reply.is_success:
                raise refusal(reply)
            return read_answer(reply)
        except NoSuchModelError as error:
            if model == self._settings.openai_image_model:
                raise
            raise UnknownModelError(f"openai has no model {model} (any more)", evidence=error.evidence) from error
        except (ThrottledError, ProviderUnavailableError) as error:
            if error.retry_after is not None:
                caller.leave_alone(error.retry_after)
            raise

    async def _picture(self, caller: RemoteCaller, drawn: Drawn) -> bytes:
        """Return the picture of an answer, fetched if the answer has a link. The call was paid for in any case.

        A link to the server that was asked is fetched from it; any other link only from public addresses.

        Raises:
            BrokenAnswerError: the link leads to no picture.
        """
        if drawn.data is not None:
            return drawn.data
        retrying = AsyncRetrying(
            retry=retry_if_exception_type((FetchFailedError, ProviderUnavailableError)),
            stop=stop_after_attempt(LINK_TRIES),
            wait=wait_fixed(LINK_WAIT_S),
            reraise=True,
        )
        try:
            data: bytes = await retrying(self._fetched, caller, drawn.link or "")
        except BadImageError as error:
            raise AnswerTooLargeError(f"openai answered with a link to too large a picture: {error}") from error
        except StageError as error:
            raise BrokenAnswerError(
                f"openai answered with a link that gives no picture: {error}", evidence=error.evidence
            ) from error
        return data

    async def _fetched(self, caller: RemoteCaller, link: str) -> bytes:
        base = httpx.URL(self._settings.openai_base_url)
        try:
            url = base.join(link)
        except (httpx.InvalidURL, ValueError) as error:
            raise BrokenAnswerError("what it says is no URL") from error
        if (url.scheme, url.host, url.port) != (base.scheme, base.host, base.port):
            return await self._fetcher.fetch(str(url), max_bytes=self._settings.max_answer_bytes, column=LINK_COLUMN)
        reply = await caller.get_link(url)
        if not reply.is_success:
            raise refusal(reply)
        return reply.body

    def _usage(self, drawn: Drawn, model: str) -> Usage:
        """Return what a call used.

        If the answer doesn't give all of it, the cost is computed from the table of prices.
        """
        if drawn.input_units is None or drawn.output_units is None:
            return Usage(images=1)
        cost = self._prices.units_usd(model, prompt=drawn.input_units, image=drawn.output_units)
        return Usage(drawn.input_units, drawn.output_units, 1, cost)


def _refuses_base64(reply: Reply) -> bool:
    """Return whether a refusal names the parameter that asks for base64; some servers name it only in the message."""
    error = error_in(documents_of(reply.body))
    return error is not None and (error.param == "response_format" or "response_format" in error.message)
