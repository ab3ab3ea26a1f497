"""Pipelines as operators list, create and copy them."""

import secrets
from collections.abc import Mapping
from typing import Any, Final

from config.pipeline_rules import CONFIGS
from models.applications.registry import has_pictures
from models.connections import Connection
from models.history.actions import record_action
from models.queue import pipelines as rows
from models.queue.pipelines import NewPipeline, Pipeline, PipelineRow, find_pipelines, insert_pipeline, read_pipeline
from pipelines import keys
from pipelines.errors import InvalidOptionsError
from pipelines.options import check
from workers.operations.errors import InvalidInputError, NotFoundError, NotYoursError, translated
from workers.operations.models import require_known_models
from workers.process.runtime import Runtime

NEWEST: Final = 50
"""So many pipelines a page shows."""


async def list_pipelines(
    runtime: Runtime, *, user_id: str | None = None, visibility: str | None = None, limit: int = 50
) -> list[Pipeline]:
    """Return pipelines, newest first."""
    return await runtime.database.run(lambda connection: find_pipelines(connection, user_id, visibility, limit))


async def count_pipelines(runtime: Runtime, *, user_id: str | None = None, visibility: str | None = None) -> int:
    """Count pipelines."""
    return await runtime.database.run(lambda connection: rows.count_pipelines(connection, user_id, visibility))


async def newest_pipelines(runtime: Runtime) -> list[PipelineRow]:
    """Return the newest pipelines, reading few rows; none where `pictures` isn't drained."""
    if not has_pictures():
        return []
    return await runtime.database.run(lambda connection: rows.newest_pipelines(connection, NEWEST))


async def get_pipeline(runtime: Runtime, pipeline_id: str) -> Pipeline:
    """Return a pipeline.

    Raises:
        NotFoundError: it doesn't exist.
    """
    pipeline = None
    if has_pictures():
        pipeline = await runtime.database.run(lambda connection: read_pipeline(connection, pipeline_id))
    if pipeline is None:
        raise NotFoundError(f"pipeline {pipeline_id} not found; `darkroom pipelines list` shows them")
    return pipeline


async def create_pipeline(
    runtime: Runtime,
    name: str,
    configs: Mapping[str, Any],
    *,
    user_id: str | None,
    tier: str,
    visibility: str,
    description: str | None = None,
    actor: str,
) -> Pipeline:
    """Create a pipeline and return it.

    Args:
        runtime: an open runtime.
        name: its name, for people.
        configs: JSON by some names of CONFIGS; what is missing or null has the system's default.
        user_id: its owner; None for a pipeline of the system's, which everyone may use.
        tier: the tier of jobs that name none.
        visibility: PRIVATE, PUBLIC or LINK; with LINK it gets a share token.
        description: its description, for people.
        actor: who creates it.

    Raises:
        InvalidInputError: a rule is broken, or no provider knows a model; the message has the JSON path and the reason.
        NotFoundError: the owner doesn't exist.
    """
    require_valid(configs, user_id)
    await require_known_models(runtime, configs)
    new = NewPipeline(name, description, user_id, visibility, _share_token(visibility), tier, configs)
    with translated():
        return await runtime.database.commit(
            "create_pipeline", lambda connection: _insert(connection, new, actor=actor, action="pipeline_create")
        )


async def fork_pipeline(
    runtime: Runtime, pipeline_id: str, *, user_id: str | None, name: str | None = None, actor: str
) -> Pipeline:
    """Copy a pipeline for another owner, PRIVATE, and return the copy.

    Reference pictures under the first owner's prefix aren't copied, since the copy's jobs couldn't read them.

    Raises:
        InvalidInputError: the pipeline breaks a rule of this version, or no provider knows a model any more.
        NotFoundError: the pipeline or the new owner doesn't exist.
        NotYoursError: it is PRIVATE and another user's.
    """
    source = await get_pipeline(runtime, pipeline_id)
    if source.visibility == "PRIVATE" and source.user_id not in {None, user_id}:
        raise NotYoursError(f"pipeline {pipeline_id} is private and another user's; only its owner can fork it")
    prompt_config = _without_foreign_references(source.configs["promptConfig"], user_id)
    configs = {**source.configs, "promptConfig": prompt_config}
    require_valid(configs, user_id)
    await require_known_models(runtime, configs)
    new = NewPipeline(
        name or f"{source.name} (copy)", source.description, user_id, "PRIVATE", None, source.tier, configs
    )
    with translated():
        return await runtime.database.commit(
            "fork_pipeline",
            lambda connection: _insert(
                connection, new, actor=actor, action="pipeline_fork", before={"id": pipeline_id}
            ),
        )


def require_valid(configs: Mapping[str, Any], user_id: str | None) -> None:
    """Check a pipeline's JSON against the rules, and its reference pictures against its owner's prefix.

    Raises:
        InvalidInputError: the message has the JSON path and the reason.
    """
    if unknown := sorted(configs.keys() - set(CONFIGS)):
        raise InvalidInputError(f"pipeline has {', '.join(unknown)}; known are {', '.join(CONFIGS)}")
    try:
        check(configs)
    except InvalidOptionsError as error:
        raise InvalidInputError(f"pipeline is invalid: {error}") from error
    for number, reference in enumerate(_references(configs.get("promptConfig"))):
        key = reference.get("r2Key")
        if key and not (user_id and keys.is_users(key, user_id)):
            raise InvalidInputError(
                f"pipeline is invalid: promptConfig.referenceImages[{number}].r2Key: {key} is not under the "
                "prefix of the pipeline's owner"
            )


async def _insert(
    connection: Connection, new: NewPipeline, *, actor: str, action: str, before: Mapping[str, Any] | None = None
) -> Pipeline:
    async with connection.transaction():
        made = await insert_pipeline(connection, new)
        await record_action(
            connection, actor=actor, action=action, target=made.id, before=before, after={"name": new.name}
        )
    return made


def _share_token(visibility: str) -> str | None:
    return secrets.token_urlsafe(16) if visibility == "LINK" else None


def _references(prompt_config: Any) -> list[dict[str, Any]]:
    return [one or {} for one in (prompt_config or {}).get("referenceImages") or []]


def _without_foreign_references(prompt_config: Any, user_id: str | None) -> Any:
    def is_usable(reference: Mapping[str, Any]) -> bool:
        key = reference.get("r2Key")
        return not key or (user_id is not None and keys.is_users(key, user_id))

    references = _references(prompt_config)
    kept = [one for one in references if is_usable(one)]
    return prompt_config if len(kept) == len(references) else {**prompt_config, "referenceImages": kept}
