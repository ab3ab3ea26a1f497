"""Which sizes the paid models make, so that a tier which would have to be enlarged can be refused before it is paid."""

from config.job_terms import LEAST_SIZE_FRACTION
from config.model_terms import OPENAI_MOST_PX, model_terms
from config.settings import Settings
from pipelines.providers.catalogue import ModelCatalogue
from pipelines.providers.prices import SIZES_PX, PriceTable


def shortfall(model: str, made_px: int, long_side_px: int) -> str | None:
    """Return why a model's largest picture can't fill a tier without being enlarged; None if it can."""
    if made_px >= LEAST_SIZE_FRACTION * long_side_px:
        return None
    return (
        f"{model} makes pictures of at most {made_px} pixels, and the tier has {long_side_px}; choose a smaller tier "
        "or another model, or set DARKROOM_OVER_SIZE=enlarge"
    )


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
            reason = shortfall(wished or settings.openai_image_model, OPENAI_MOST_PX, long_side_px)
        elif is_of_words:
            continue
        else:
            return None
        if reason is None:
            return None
        reasons.append(reason)
    return "; ".join(reasons) or None
