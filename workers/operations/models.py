"""Which models an operator may name: those that this environment may ask, and those that `db upgrade` has recorded."""

from collections.abc import Mapping
from typing import Any, Final

from config.model_terms import model_terms
from pipelines.errors import InvalidOptionsError, UnknownModelError
from pipelines.options import GenerationOptions, PipelineOptions, resolve
from pipelines.providers.catalogue import ModelCatalogue
from workers.operations.errors import InvalidInputError
from workers.process.compose import Runtime

_CONFIGS: Final = """
SELECT p."analysisConfig", p."autoCropConfig", p."promptConfig", p."generationConfig"
FROM public.enhancement_pipelines p WHERE p.id = $1
"""


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
    row = await runtime.database.fetchrow(_CONFIGS, pipeline_id)
    if row is None:
        return
    try:
        await _require(runtime, resolve(dict(row)))
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
    recorded = await runtime.database.fetchval("SELECT darkroom.setting('models')")
    for terms in (model_terms(runtime.settings), recorded):
        if terms is not None:
            ModelCatalogue(terms).require_known(options)
