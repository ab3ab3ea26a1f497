"""Check of models that an operator names: a configured provider must know them.

They are looked up among the models of this process's settings and among those that `db upgrade` recorded. No provider
is called.
"""

from collections.abc import Mapping
from typing import Any

from models.queue.pipelines import read_configs
from models.schema.settings import recorded_setting
from pipelines.errors import InvalidOptionsError, UnknownModelError
from pipelines.options import GenerationOptions, PipelineOptions, resolve
from pipelines.providers.catalogue import ModelCatalogue
from pipelines.providers.terms import model_terms
from workers.operations.errors import InvalidInputError
from workers.process.runtime import Runtime


async def require_known_models(runtime: Runtime, configs: Mapping[str, Any]) -> None:
    """Check that a configured provider knows each model in a pipeline's JSON, which has passed all other rules.

    Raises:
        InvalidInputError: none knows a model; the message has the JSON path, the model and the reason.
    """
    try:
        await _require(runtime, resolve(configs))
    except UnknownModelError as error:
        raise InvalidInputError(f"pipeline is invalid: {error}") from error


async def require_known_models_of(runtime: Runtime, pipeline_id: str) -> None:
    """Check that a configured provider knows each model of a pipeline.

    A missing or invalid pipeline is left to the SQL functions.

    Raises:
        InvalidInputError: none knows a model; the message names the pipeline, the model and the reason.
    """
    configs = await runtime.database.run(lambda connection: read_configs(connection, pipeline_id))
    if configs is None:
        return
    try:
        await _require(runtime, resolve(configs))
    except InvalidOptionsError:
        return
    except UnknownModelError as error:
        raise InvalidInputError(f"pipeline {pipeline_id} is invalid: {error}") from error


async def require_known_model(runtime: Runtime, model: str) -> None:
    """Check that a configured provider makes pictures by a model.

    Raises:
        InvalidInputError: no configured provider does; the message has the reason.
    """
    try:
        await _require(runtime, PipelineOptions(generation=GenerationOptions(model=model)))
    except UnknownModelError as error:
        raise InvalidInputError(str(error).removeprefix("generationConfig.model: ")) from error


async def known_models(runtime: Runtime) -> list[str]:
    """Return the names of the models by which a configured provider makes pictures, in order."""
    recorded = await runtime.database.run(lambda connection: recorded_setting(connection, "models"))
    terms = model_terms(runtime.settings)
    catalogues = [ModelCatalogue(one) for one in (terms, recorded) if one is not None]
    names = terms["generate"]
    assert isinstance(names, list)  # noqa: S101 - `model_terms` makes a list of it
    return [name for name in names if all(one.fault("generate", name) is None for one in catalogues)]


async def _require(runtime: Runtime, options: PipelineOptions) -> None:
    recorded = await runtime.database.run(lambda connection: recorded_setting(connection, "models"))
    for terms in (model_terms(runtime.settings), recorded):
        if terms is not None:
            ModelCatalogue(terms).require_known(options)
