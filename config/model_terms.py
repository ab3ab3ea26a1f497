"""Which models may be asked of whom: what workers go by, and what `db upgrade` records for producers in SQL."""

from typing import Final

from config.settings import Settings

FREE_PROVIDERS: Final = frozenset({"local"})
"""Providers that buy nothing; a test compares them with `is_paid`."""

ANALYZERS: Final = ("gemini", "local")
"""Providers that can look at a picture; a test compares them with the providers' own refusal."""

PREFIXES: Final = {"gemini-": "gemini", "gpt-image-": "openai", "dall-e-": "openai", "chatgpt-image-": "openai"}
"""How the makers name their models, as of 2026-11-20: whose a model is that no setting names."""


def model_terms(settings: Settings) -> dict[str, object]:
    """Return the terms that `pipelines.providers.catalogue` and `darkroom.model_fault` read, as JSON has them.

    `names` and `prefixes` say whose a model is, the names of configured models first. `generate` and `analyze` are the
    models with a price for it and those that a setting names, `unpriced` the latter without one; `unknown_usd` is what
    a call without a price counts, or None where a model that only a pipeline names is refused.
    """
    configured = {
        "gemini": (settings.gemini_image_model, settings.gemini_analysis_model),
        "openai": (settings.openai_image_model,),
        "local": ("local",),
    }
    names: dict[str, str] = {}
    for provider in settings.providers:
        for model in configured.get(provider, ()):
            names.setdefault(model, provider)
    prices: dict[str, set[str]] = {}
    for name in settings.model_prices:
        model, _, what = name.rpartition("/")
        prices.setdefault(model, set()).add(what)
    drawing = {model for model, priced in prices.items() if priced & {"1K", "2K", "4K"}}
    looking = {model for model, priced in prices.items() if priced >= {"in", "out"}}
    drawn_by = {"gemini": settings.gemini_image_model, "openai": settings.openai_image_model}
    return {
        "providers": list(settings.providers),
        "paid": [name for name in settings.providers if name not in FREE_PROVIDERS],
        "analyzers": list(ANALYZERS),
        "names": {"local": "local"} | names,
        "prefixes": dict(PREFIXES),
        "generate": sorted(drawing | set(drawn_by.values())),
        "analyze": sorted(looking | {settings.gemini_analysis_model}),
        "unpriced": {
            "generate": sorted(set(drawn_by.values()) - drawing),
            "analyze": sorted({settings.gemini_analysis_model} - looking),
        },
        "unknown_usd": settings.unknown_model_usd,
    }
