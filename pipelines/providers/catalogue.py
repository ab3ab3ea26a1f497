"""The catalogue of models: which provider a model belongs to, and whether calls may use the model.

If calls can't use a model, no other model is used in its place.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from config.job_terms import LEAST_SIZE_FRACTION, MODEL_NAME
from pipelines.errors import ProviderNotConfiguredError, UnknownModelError
from pipelines.options import PipelineOptions
from pipelines.providers.description import ModelUse

_WHAT: Final = {"analyze": "an analysis", "generate": "a picture"}


@dataclass(frozen=True, slots=True)
class ModelCatalogue:
    """The models that calls may use, as `pipelines.providers.terms` describes them.

    The SQL functions `darkroom.model_fault` and `darkroom.size_fault` implement the same rules.
    """

    terms: Mapping[str, Any]

    def fault(self, use: ModelUse, model: str) -> str | None:  # noqa: PLR0911 - a table, one verdict each
        """Return the reason why calls can't use a model that a pipeline names.

        The result is None if they can, or if only the local engine is configured.
        """
        paid = self.terms["paid"]
        if not paid:  # the local engine accepts a pipeline with any model, and its results name the local engine
            return None
        owner = self._owner(model)
        if owner is not None and owner not in self.terms["providers"]:
            named = ",".join(self.terms["providers"])
            return f"{model} is a model of {owner}, which isn't configured (PROVIDER={named})"
        if owner is not None and owner not in paid:
            return None
        buyers = paid if owner is None else [owner]
        if use == "analyze" and not set(buyers) & set(self.terms["analyzers"]):
            return f"{model} can't analyze: {', '.join(buyers)} makes pictures only"
        if model in self.terms[use]:
            return None
        if not MODEL_NAME.fullmatch(model):
            return f"{model} is no model's name"
        if self.terms["unknown_usd"] is not None:
            return None
        return (
            f"model {model} has no price for {_WHAT[use]}; name one in DARKROOM_MODEL_PRICES or set "
            "DARKROOM_UNKNOWN_MODEL_USD, then run `darkroom db upgrade`"
        )

    def require_known(self, options: PipelineOptions, *, analyzes: bool = True, path: str = "generationConfig") -> None:
        """Check, before anything is paid, that a configured provider has every model that a pipeline names.

        Args:
            options: the pipeline's.
            analyzes: whether an analysis is still to be made.
            path: the JSON path, without its last part, of the model that makes the picture.

        Raises:
            UnknownModelError: no provider has a model, or it has no price; the message has the JSON path.
        """
        if analyzes and options.analysis.is_enabled and options.analysis.model is not None:
            self._require("analysisConfig.model: ", "analyze", options.analysis.model)
        if options.generation.model is not None:
            self._require(f"{path}.model: ", "generate", options.generation.model)

    def chosen(self, provider: str, use: ModelUse, named: str | None, configured: str) -> str:
        """Return the model that a call to a provider will use: the one that is named, else the configured one.

        Args:
            provider: the provider to which the call will go.
            use: what the call is for.
            named: the model that a pipeline or an operator names; None leaves it to the provider.
            configured: the provider's model by its setting.

        Raises:
            ProviderNotConfiguredError: the model is another provider's.
            UnknownModelError: no configured provider has the model, or it has no price.
        """
        if named is None:
            return configured
        if (buyer := self.buyer(use, named) or provider) != provider:
            raise ProviderNotConfiguredError(f"{provider} is not configured to ask {named}, a model of {buyer}")
        self._require("", use, named)
        return named

    def require_price(self, use: ModelUse, variable: str, configured: str) -> None:
        """Check that a configured model has a price. Without one its calls wouldn't be counted in budgets.

        Raises:
            ProviderNotConfiguredError: it has none; the message names the setting.
        """
        if configured in self.terms["unpriced"][use] and self.terms["unknown_usd"] is None:
            raise ProviderNotConfiguredError(
                f"{variable}={configured} has no price for {_WHAT[use]}, so its calls count 0 USD; name one in "
                "DARKROOM_MODEL_PRICES or set DARKROOM_UNKNOWN_MODEL_USD"
            )

    def size_refusal(self, wished: str | None, long_side_px: int, *, is_of_words: bool) -> str | None:
        """Return the reason why the pictures of every configured provider would have to be enlarged for a tier.

        The result is None if there is a provider whose pictures needn't be. This check is for the submission of a job;
        a worker checks the same before it buys anything.

        Args:
            wished: the model that a pipeline names.
            long_side_px: the tier's long side.
            is_of_words: whether the picture is made or changed by words, which the local engine can't do.
        """
        drawn, sizes, reasons = self.terms["drawn"], self.terms["sizes"], []
        buyer = self.buyer("generate", wished) if wished else None
        for name in self.terms["providers"]:
            if name not in drawn:
                if is_of_words:
                    continue
                return None
            if buyer not in {None, name}:  # a provider isn't asked for another provider's model
                continue
            model = wished or drawn[name]
            reason = shortfall(model, sizes[name].get(model, sizes[name].get("")), long_side_px)
            if reason is None:
                return None
            reasons.append(reason)
        return "; ".join(reasons) or None

    def buyer(self, use: ModelUse, model: str) -> str | None:
        """Return the provider to which calls with a model go; None if no paid provider is configured for this use."""
        able = (one for one in self.terms["paid"] if use == "generate" or one in self.terms["analyzers"])
        return self._owner(model) or next(able, None)

    def _require(self, where: str, use: ModelUse, model: str) -> None:
        if (fault := self.fault(use, model)) is not None:
            raise UnknownModelError(where + fault)

    def _owner(self, model: str) -> str | None:
        if (owner := self.terms["names"].get(model)) is not None:
            return str(owner)
        return next((owner for prefix, owner in self.terms["prefixes"].items() if model.startswith(prefix)), None)


def shortfall(model: str, made_px: int, long_side_px: int) -> str | None:
    """Return the reason why a model's largest picture must be enlarged for a tier; None if it needn't be."""
    if made_px >= LEAST_SIZE_FRACTION * long_side_px:
        return None
    return (
        f"{model} makes pictures of at most {made_px} pixels, and the tier has {long_side_px}; choose a smaller tier "
        "or another model, or set DARKROOM_OVER_SIZE=enlarge"
    )
