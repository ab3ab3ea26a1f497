"""Which models may be asked of whom: what workers go by, and what `db upgrade` records for producers in SQL."""

from collections.abc import Mapping
from typing import Final

from config.settings import Settings

FREE_PROVIDERS: Final = frozenset({"local"})
"""Providers that buy nothing; a test compares them with `is_paid`."""

ANALYZERS: Final = ("gemini", "local")
"""Providers that can look at a picture; a test compares them with the providers' own refusal."""

LOCAL_MODELS: Final = ("local", "realesrgan-x4plus")
"""What the local engine answers to by name; a test compares them with its networks."""

PREFIXES: Final = {"gemini-": "gemini", "gpt-image-": "openai", "dall-e-": "openai", "chatgpt-image-": "openai"}
"""How the makers name their models, as of 2026-11-20: whose a model is that no setting names."""


SIZES_PX: Final = {"1K": 1024, "2K": 2048, "4K": 4096}
"""Names of picture sizes in the table of prices and in Gemini's `imageSize`, and their long sides."""

OPENAI_MOST_PX: Final = 1536
"""The longest side that gpt-image-1 makes, by `size`."""


def model_terms(settings: Settings) -> dict[str, object]:
    """Return the terms that `pipelines.providers.catalogue` and `darkroom.model_fault` read, as JSON has them.

    `names` and `prefixes` say whose a model is, the names of configured models first. `generate` and `analyze` are the
    models with a price for it and those that a setting names, `unpriced` the latter without one; `unknown_usd` is what
    a call without a price counts, or None where a model that only a pipeline names is refused. `drawn` are the models
    of pictures that are asked unless one is named, and `sizes` the longest sides that models make, by provider; that of
    a model that isn't there stands under the empty name. `over_size` is the setting.
    """
    configured = {
        "gemini": (settings.gemini_image_model, settings.gemini_analysis_model),
        "openai": (settings.openai_image_model,),
        "local": LOCAL_MODELS,
    }
    names: dict[str, str] = {}
    for provider in settings.providers:
        for model in configured.get(provider, ()):
            names.setdefault(model, provider)
    prices: dict[str, set[str]] = {}
    for name in settings.model_prices:
        model, _, what = name.rpartition("/")
        prices.setdefault(model, set()).add(what)
    drawing = {model for model, priced in prices.items() if priced & SIZES_PX.keys()}
    looking = {model for model, priced in prices.items() if priced >= {"in", "out"}}
    drawn_by = {"gemini": settings.gemini_image_model, "openai": settings.openai_image_model}
    return {
        "providers": list(settings.providers),
        "paid": [name for name in settings.providers if name not in FREE_PROVIDERS],
        "analyzers": list(ANALYZERS),
        "names": dict.fromkeys(LOCAL_MODELS, "local") | names,
        "prefixes": dict(PREFIXES),
        "generate": sorted(drawing | set(drawn_by.values())),
        "analyze": sorted(looking | {settings.gemini_analysis_model}),
        "unpriced": {
            "generate": sorted(set(drawn_by.values()) - drawing),
            "analyze": sorted({settings.gemini_analysis_model} - looking),
        },
        "unknown_usd": settings.unknown_model_usd,
        "over_size": settings.over_size,
        "drawn": drawn_by,
        "sizes": {"gemini": _longest_sides(prices), "openai": {"": OPENAI_MOST_PX}},
    }


def _longest_sides(prices: Mapping[str, set[str]]) -> dict[str, int]:
    """Return the longest side of each model with a price for a picture; what makes any size makes the largest."""
    made = {model: [SIZES_PX[what] for what in priced if what in SIZES_PX] for model, priced in prices.items()}
    return {"": max(SIZES_PX.values())} | {model: max(sizes) for model, sizes in sorted(made.items()) if sizes}
