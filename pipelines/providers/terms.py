"""The terms of models: the facts that decide which models calls may use.

Workers read them here, and `db upgrade` records them for the SQL functions.
"""

from collections.abc import Mapping

from pipelines.providers.prices import SIZES_PX
from pipelines.providers.registry import PROVIDERS
from pipelines.settings import Settings


def model_terms(settings: Settings) -> dict[str, object]:
    """Return the terms that `pipelines.providers.catalogue` and `darkroom.model_fault` read, in the form of JSON.

    `names` and `prefixes` say which provider a model belongs to, configured models first. `generate` and `analyze`
    are the models that have a price for that use, and those that a setting names; `unpriced` are the models that a
    setting names and that have no price. `unknown_usd` is counted for a call without a price; if it is None, a model
    without a price that only a pipeline names is refused. `drawn` has, by provider, the model that makes pictures if no
    other is named; `sizes` has, by provider, the longest side that each model makes, and under the empty name the one
    for models that aren't listed. `over_size` is the setting DARKROOM_OVER_SIZE.
    """
    named = {
        one.name: {use: str(getattr(settings, field)) for use, field in one.model_settings.items()}
        for one in PROVIDERS.values()
    }
    names = {model: one.name for one in PROVIDERS.values() for model in one.models}
    for provider in reversed(settings.providers):  # a name in several settings belongs to the provider asked first
        names |= dict.fromkeys((*PROVIDERS[provider].models, *named[provider].values()), provider)
    prices: dict[str, set[str]] = {}
    for name in settings.model_prices:
        model, _, what = name.rpartition("/")
        prices.setdefault(model, set()).add(what)
    priced = {
        "generate": {model for model, whats in prices.items() if whats & SIZES_PX.keys()},
        "analyze": {model for model, whats in prices.items() if whats >= {"in", "out"}},
    }
    configured = {use: {models[use] for models in named.values() if use in models} for use in priced}
    longest = _longest_sides(prices)
    return {
        "providers": list(settings.providers),
        "paid": [name for name in settings.providers if PROVIDERS[name].is_paid],
        "analyzers": [one.name for one in PROVIDERS.values() if one.analyzes],
        "names": names,
        "prefixes": {prefix: one.name for one in PROVIDERS.values() for prefix in one.prefixes},
        **{use: sorted(priced[use] | configured[use]) for use in priced},
        "unpriced": {use: sorted(configured[use] - priced[use]) for use in priced},
        "unknown_usd": settings.unknown_model_usd,
        "over_size": settings.over_size,
        "drawn": {name: models["generate"] for name, models in named.items() if "generate" in models},
        "sizes": {
            one.name: longest if one.most_side_px is None else {"": one.most_side_px}
            for one in PROVIDERS.values()
            if "generate" in one.model_settings
        },
    }


def _longest_sides(prices: Mapping[str, set[str]]) -> dict[str, int]:
    """Return the longest side of each model with a price for a picture; a price for any size means the largest."""
    made = {model: [SIZES_PX[what] for what in priced if what in SIZES_PX] for model, priced in prices.items()}
    return {"": max(SIZES_PX.values())} | {model: max(sizes) for model, sizes in sorted(made.items()) if sizes}
