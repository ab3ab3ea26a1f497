"""The providers: a name and how to open it. One line each; a test finds one on disk that isn't here."""

from collections.abc import Callable

from config.model_terms import model_terms
from config.settings import Settings
from pipelines.errors import ProviderNotConfiguredError
from pipelines.imaging.header import DecodeLimits
from pipelines.imaging.pool import PixelPool
from pipelines.providers.asked import shortfall
from pipelines.providers.catalogue import ModelCatalogue
from pipelines.providers.gemini.provider import GeminiProvider
from pipelines.providers.local.learned import FAITHFUL, missing
from pipelines.providers.local.provider import LocalProvider
from pipelines.providers.openai.provider import MOST_SIDE_PX, OpenAIProvider
from pipelines.providers.prices import SIZES_PX, PriceTable
from pipelines.providers.provider import Provider
from pipelines.stages.generate import GENERATE

PROVIDERS: dict[str, Callable[[Settings, PixelPool, DecodeLimits], Provider]] = {
    "gemini": GeminiProvider,
    "local": lambda settings, pixels, limits: LocalProvider(
        pixels,
        limits,
        learned_cpu_s=settings.learned_cpu_s,
        deadline_s=GENERATE.deadline_of(settings.stage_deadlines),
    ),
    "openai": OpenAIProvider,
}
"""Name, as in PROVIDER -> how to open it."""


def open_providers(settings: Settings, pixels: PixelPool, limits: DecodeLimits) -> list[Provider]:
    """Open the providers that are configured, in the order in which they are asked; the caller closes them.

    Raises:
        ProviderNotConfiguredError: there is no provider of a name.
    """
    for name in settings.providers:
        if name not in PROVIDERS:
            raise ProviderNotConfiguredError(
                f"PROVIDER={name}: there is none of this name; known: {', '.join(PROVIDERS)}"
            )
    return [PROVIDERS[name](settings, pixels, limits) for name in settings.providers]


def enlarger(settings: Settings) -> str:
    """Name what the local engine enlarges with: a result is reused only for the same."""
    return FAITHFUL.name if settings.learned_cpu_s > 0 and missing(FAITHFUL) is None else "Lanczos"


def size_refusal(settings: Settings, wished: str | None, long_side_px: int, *, is_of_words: bool) -> str | None:
    """Return why no configured provider makes pictures of a tier's size without enlarging them; None if one does.

    What a worker finds out before it buys anything, for whoever submits a job.

    Args:
        settings: providers, models and prices.
        wished: the model that a pipeline names.
        long_side_px: the tier's.
        is_of_words: the picture is made or changed by words, which the local engine can't.
    """
    prices, reasons = PriceTable(settings.model_prices), []
    buyer = ModelCatalogue(model_terms(settings)).buyer("generate", wished) if wished else None
    for name in settings.providers:
        if name in {"gemini", "openai"} and buyer not in {None, name}:  # it passes over what isn't its own
            continue
        if name == "gemini":
            model = wished or settings.gemini_image_model
            reason = shortfall(model, SIZES_PX[prices.size_for(model, long_side_px)], long_side_px)
        elif name == "openai":
            reason = shortfall(wished or settings.openai_image_model, MOST_SIDE_PX, long_side_px)
        elif is_of_words:
            continue
        else:
            return None
        if reason is None:
            return None
        reasons.append(reason)
    return "; ".join(reasons) or None
