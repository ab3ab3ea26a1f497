"""Which models an operator may name: those that this environment may ask, and those that `db upgrade` has recorded."""

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
    """See that each model of a pipeline's JSON, which breaks no rule, can be asked.

    Raises:
        InvalidInputError: one can't; has the JSON path, the model and the reason.
    """
    try:
        await _require(runtime, resolve(configs))
    except UnknownModelError as error:
        raise InvalidInputError(f"pipeline is invalid: {error}") from error


async def require_known_models_of(runtime: Runtime, pipeline_id: str) -> None:
    """See that each model of a pipeline can be asked. One that isn't there, or breaks a rule, is for SQL to refuse.

    Raises:
        InvalidInputError: one can't; names the pipeline, the model and the reason.
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
    """See that a model can be asked for pictures.

    Raises:
        InvalidInputError: it can't; names it and the reason.
    """
    try:
        await _require(runtime, PipelineOptions(generation=GenerationOptions(model=model)))
    except UnknownModelError as error:
        raise InvalidInputError(str(error).removeprefix("generationConfig.model: ")) from error


async def _require(runtime: Runtime, options: PipelineOptions) -> None:
    recorded = await runtime.database.run(lambda connection: recorded_setting(connection, "models"))
    for terms in (model_terms(runtime.settings), recorded):
        if terms is not None:
            ModelCatalogue(terms).require_known(options)
