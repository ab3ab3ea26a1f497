"""The provider that a running job calls: it passes each call to the first provider that can do it and may be called."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar

from config.logger import EventLogger
from pipelines.analysis import Analysis
from pipelines.deadline import Deadline
from pipelines.errors import (
    BrokenAnswerError,
    ProviderNotConfiguredError,
    ProviderTimedOutError,
    ProviderUnavailableError,
    ThrottledError,
)
from pipelines.job import Prompt
from pipelines.options import AnalysisOptions
from pipelines.providers.calls import Answer, PreparedCall
from pipelines.providers.provider import EncodedImage, Provider, Quote, hash_of_call
from workers.gate.admission import Admission, Asked
from workers.gate.order import first_answer

T = TypeVar("T")

log = EventLogger(__name__)

ANALYSIS_S: Final = 60.0
"""Seconds for two tries at an analysis, each of which takes seconds.

The rest of the deadline is for the local engine.
"""

MOST_PAUSE_S: Final = 1.0
"""Longest random pause, in seconds, before the second try."""


class GatedProvider:
    """One job's provider, a `pipelines.providers.provider.StageProvider`."""

    def __init__(self, providers: Sequence[Provider], measuring: Provider, admission: Admission) -> None:
        """Store which providers to ask.

        Args:
            providers: in the order in which they are asked; not empty.
            measuring: the provider that analyzes when none of them gives a usable analysis.
            admission: admits the job's calls.
        """
        self._providers = providers
        self._measuring = measuring
        self._admission = admission

    @property
    def is_paid(self) -> bool:
        """Whether any of the providers charges for calls."""
        return any(provider.is_paid for provider in self._providers)

    async def analyze(self, image: EncodedImage, options: AnalysisOptions) -> Answer[Analysis]:
        """Return the analysis of a picture. If no provider gives one, the local engine measures the picture.

        So no provider's failure to analyze uses an attempt of the job.
        """
        asked = Asked("analyze", hash_of_call([image], options))

        async def ask(providers: Sequence[Provider], picture: EncodedImage) -> Answer[Analysis]:
            return await self._ask(
                asked,
                providers,
                lambda one: one.quote_analysis(options),
                lambda one: one.prepare_analysis(picture, options),
            )

        with contextlib.suppress(ProviderNotConfiguredError, TimeoutError), Deadline(ANALYSIS_S):
            for _ in range(2):
                try:
                    return await ask(self._providers, image)
                except (BrokenAnswerError, ProviderUnavailableError, ProviderTimedOutError) as error:
                    log.warning("analysis_unusable", error=str(error))
                    if isinstance(error, BrokenAnswerError):  # this provider was asked twice already
                        break
                    await asyncio.sleep(random.uniform(0, MOST_PAUSE_S))  # noqa: S311 - jitter, not a secret
        only_measured = replace(image, result_side_px=None)  # another provider will make the result
        try:
            return await ask([self._measuring], only_measured)
        except ThrottledError:  # a pause of the local engine stops it from making pictures, not from measuring
            send = await self._measuring.prepare_analysis(only_measured, options)
            return await send(lambda: asyncio.sleep(0))

    async def generate(
        self, prompt: Prompt, images: Sequence[EncodedImage], long_side_px: int, aspect: float | None
    ) -> Answer[EncodedImage]:
        """Return a picture made by the first provider that can make it and may be called."""
        treated = [sorted(defects) for defects in (prompt.corrections.allowed, prompt.corrections.forced)]
        number = (prompt.number,) if prompt.number > 1 else ()
        words = (prompt.purpose, prompt.text, prompt.model, prompt.temperature, *treated, *number)
        return await self._ask(
            Asked("generate", hash_of_call(images, *words, long_side_px, aspect)),
            self._providers,
            lambda one: one.quote_generation(prompt, long_side_px),
            lambda one: one.prepare_generation(prompt, images, long_side_px, aspect),
        )

    async def _ask(
        self,
        asked: Asked,
        providers: Sequence[Provider],
        quote_of: Callable[[Provider], Quote],
        prepare: Callable[[Provider], Awaitable[PreparedCall[T]]],
    ) -> Answer[T]:
        async def ask(one: Provider) -> Answer[T]:
            return await self._admission.call(one, asked, quote_of(one), partial(prepare, one))

        return await first_answer(providers, asked.purpose, ask)
