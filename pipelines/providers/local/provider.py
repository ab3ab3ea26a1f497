"""The local engine as a provider, which works offline and free of charge, and refuses what it can't do."""

from collections.abc import Sequence
from decimal import Decimal

from pipelines.analysis import Analysis
from pipelines.errors import ProviderNotConfiguredError
from pipelines.imaging.header import BYTES_PER_PIXEL, DecodeLimits, read_header
from pipelines.imaging.pool import CPU_S, WALL_S, PixelPool
from pipelines.job import Prompt
from pipelines.job_types import GENERATE
from pipelines.options import AnalysisOptions
from pipelines.pixel_functions import work
from pipelines.prompts import Purpose
from pipelines.providers.calls import Answer, Came, LookAgain, PreparedCall, Usage, forget
from pipelines.providers.local.description import LOCAL, LocalSettings
from pipelines.providers.local.findings import Enhanced
from pipelines.providers.local.kept import KeptResults
from pipelines.providers.local.networks import FAITHFUL, INVENTING, OVERRUN, Effort, missing
from pipelines.providers.local.reading import analysis_of
from pipelines.providers.provider import EncodedImage, Quote
from pipelines.settings import Settings

NAME = LOCAL.name

CHILD_IMPORTS = ("pipelines.providers.local.work", "numpy.ma")
"""A pixel child imports these at its start, so that no picture waits for them; the first percentile needs
`numpy.ma`."""

NETWORK_FRACTION = 0.5
"""Networks must have ended after this fraction of the stage's deadline, counted from the time at which a child begins
with the picture. Otherwise it is enlarged by Lanczos."""

INVENTING_FRACTION = 0.3
"""Where a pipeline names INVENTING, it may take this fraction of the stage's deadline as CPU."""

_FROM_WORDS = frozenset({Purpose.GENERATE, Purpose.MODIFY})
_FREE = Usage(images=1, cost_usd=Decimal(0))


def open_local(settings: Settings, pixels: PixelPool, limits: DecodeLimits) -> "LocalProvider":
    """Return the local engine with the limits in settings; the caller owns the pool."""
    return LocalProvider(
        pixels,
        limits,
        learned_cpu_s=settings.of(LocalSettings).learned_cpu_s,
        deadline_s=GENERATE.deadline_of(settings.stage_deadlines),
    )


class LocalProvider:
    """Measures and treats pictures in pixel children."""

    def __init__(
        self,
        pixels: PixelPool,
        limits: DecodeLimits,
        *,
        learned_cpu_s: float = 0.0,
        deadline_s: float = 420.0,
    ) -> None:
        """Store the pool, which the caller owns, and the limits of pictures.

        Args:
            pixels: the pool whose children do the work.
            limits: the limits of pictures that are decoded.
            learned_cpu_s: CPU seconds that networks may take for one picture, by their published speed; 0 uses none.
            deadline_s: seconds that the stage GENERATING may take.
        """
        self._pixels = pixels
        self._limits = limits
        self._learned_cpu_s = learned_cpu_s
        self._deadline_s = deadline_s
        self._kept = KeptResults()

    @property
    def name(self) -> str:
        """Return "local"."""
        return NAME

    @property
    def is_paid(self) -> bool:
        """Return False, since it costs CPU only."""
        return LOCAL.is_paid

    @property
    def identity(self) -> str:
        """Return the name of the method by which pictures are enlarged unless a pipeline names a network."""
        return FAITHFUL.name if self._learned_cpu_s > 0 and missing(FAITHFUL) is None else "Lanczos"

    def quote_analysis(self, options: AnalysisOptions) -> Quote:  # noqa: ARG002 - figures need none
        """Return a quote with a price of 0."""
        return Quote(NAME)

    def quote_generation(self, prompt: Prompt, long_side_px: int) -> Quote:  # noqa: ARG002 - every size is free
        """Return a quote with a price of 0.

        Raises:
            ProviderNotConfiguredError: the job asks for a picture from text, or for a change in words, or the
                pipeline names a network that isn't installed.
        """
        if prompt.purpose in _FROM_WORDS:
            raise ProviderNotConfiguredError(
                "making pictures from words is not configured: the local engine can't; set PROVIDER and the key of a "
                "model that can"
            )
        model = _network_named(prompt)
        if model is not None and (lacking := missing(INVENTING)) is not None:
            raise ProviderNotConfiguredError(
                f"{model} is not configured: {lacking}; docs/quality.md says how to install it, or take the model "
                "out of the pipeline's generationConfig"
            )
        return Quote(model or NAME, images=1)

    async def prepare_analysis(self, image: EncodedImage, options: AnalysisOptions) -> PreparedCall[Analysis]:
        """Prepare nothing, because the local engine sends no request."""

        async def measure(_look_again: LookAgain, _came: Came = forget) -> Answer[Analysis]:
            return await self.analyze(image, options)

        return measure

    async def prepare_generation(
        self, prompt: Prompt, images: Sequence[EncodedImage], long_side_px: int, aspect: float | None
    ) -> PreparedCall[EncodedImage]:
        """Prepare nothing, because the local engine sends no request."""

        async def treat(_look_again: LookAgain, _came: Came = forget) -> Answer[EncodedImage]:
            return await self.generate(prompt, images, long_side_px, aspect)

        return treat

    async def analyze(self, image: EncodedImage, options: AnalysisOptions) -> Answer[Analysis]:  # noqa: ARG002 - figures need none
        """Measure a picture in a pixel child.

        The result of a sound one is made at once where `image` allows it, and kept for `generate`.

        Raises:
            BadImageError: the picture can't be decoded.
        """
        header, side_px = read_header(image.data, self._limits), image.result_side_px
        result_bytes = 0 if side_px is None else BYTES_PER_PIXEL * side_px * side_px
        findings = await self._pixels.run(
            work.findings_of, image.data, self._limits, side_px, task_bytes=header.decoded_bytes + result_bytes
        )
        if side_px is not None and findings.plain is not None:
            self._kept.keep(image, side_px, findings.plain)
        return Answer(analysis_of(findings), NAME, Usage(cost_usd=Decimal(0)))

    async def generate(
        self,
        prompt: Prompt,
        images: Sequence[EncodedImage],
        long_side_px: int,
        aspect: float | None,  # noqa: ARG002 - follows from the picture
    ) -> Answer[EncodedImage]:
        """Treat a picture in a pixel child; in a blend it gets the palette and light of the second picture.

        Raises:
            ProviderNotConfiguredError: see `quote_generation`.
            BadImageError: the picture can't be decoded.
        """
        model = self.quote_generation(prompt, long_side_px).model
        if not images:
            raise ProviderNotConfiguredError("the local engine is not configured to make pictures of nothing")
        source = images[1].data if prompt.purpose is Purpose.BLEND else None
        header = read_header(images[0].data, self._limits)
        if _is_plain(prompt, images[0]) and (kept := self._kept.take(images[0], long_side_px)) is not None:
            return _answer(kept, model)
        if source is not None:
            read_header(source, self._limits)
        effort = Effort(self._learned_cpu_s, NETWORK_FRACTION * self._deadline_s)
        if model == INVENTING.name and self._learned_cpu_s > 0:
            effort.left_s = max(effort.left_s, INVENTING_FRACTION * self._deadline_s)
        result = await self._pixels.run(
            work.enhanced,
            images[0].data,
            images[0].box,
            source,
            long_side_px,
            prompt.corrections,
            self._limits,
            effort,
            model,
            cpu_s=CPU_S + OVERRUN * effort.left_s,
            wall_s=WALL_S + NETWORK_FRACTION * self._deadline_s,
            task_bytes=header.decoded_bytes + 24 * long_side_px * long_side_px,
        )
        return _answer(result, model)

    async def check(self) -> None:
        """Do nothing, since the local engine needs no key and no network."""

    async def aclose(self) -> None:
        """Drop the results that nobody asked for; the caller owns the pool."""
        self._kept.clear()


def _is_plain(prompt: Prompt, image: EncodedImage) -> bool:
    """Return whether a picture is only to be resized."""
    wanted = prompt.corrections.allowed | prompt.corrections.forced
    return prompt.purpose is Purpose.ENHANCE and image.box is None and not wanted


def _answer(result: Enhanced, model: str) -> Answer[EncodedImage]:
    return Answer(EncodedImage(result.data, is_finished=True), model, _FREE, notes=result.treatments)


def _network_named(prompt: Prompt) -> str | None:
    """Return the network that a pipeline names; None if it names no model, or another provider's."""
    return prompt.model if prompt.model == INVENTING.name else None
