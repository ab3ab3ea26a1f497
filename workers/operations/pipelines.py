"""Pipelines: the ways in which pictures are treated."""

import secrets
from collections.abc import Mapping
from typing import Any

from config.pipeline_rules import CONFIGS
from models.connections import Connection
from pipelines import keys
from pipelines.errors import InvalidOptionsError
from pipelines.options import check
from workers.operations.actions import record_action
from workers.operations.errors import InvalidInputError, NotFoundError, NotYoursError, translated
from workers.operations.models import require_known_models
from workers.process.compose import Runtime

_LIST = """
SELECT p.* FROM public.enhancement_pipelines p
WHERE ($1::text IS NULL OR p."userId" = $1) AND ($2::text IS NULL OR p.visibility::text = $2)
ORDER BY p."createdAt" DESC, p.id DESC LIMIT $3
"""
_INSERT = """
INSERT INTO public.enhancement_pipelines
    (id, name, description, "userId", visibility, "shareToken", tier, "analysisConfig", "autoCropConfig",
     "promptConfig", "generationConfig", "createdAt", "updatedAt")
VALUES (darkroom.new_id(), $1, $2, $3, $4::text::public."PipelineVisibility", $5,
        $6::text::public."EnhancementTier", $7, $8, $9, $10, darkroom.utc_now(), darkroom.utc_now())
RETURNING *
"""


async def list_pipelines(
    runtime: Runtime, *, user_id: str | None = None, visibility: str | None = None, limit: int = 50
) -> list[dict[str, Any]]:
    """Return pipelines, newest first."""
    return [dict(row) for row in await runtime.database.fetch(_LIST, user_id, visibility, limit)]


async def get_pipeline(runtime: Runtime, pipeline_id: str) -> dict[str, Any]:
    """Return a pipeline's row.

    Raises:
        NotFoundError: there is none.
    """
    row = await runtime.database.fetchrow("SELECT p.* FROM public.enhancement_pipelines p WHERE p.id = $1", pipeline_id)
    if row is None:
        raise NotFoundError(f"pipeline {pipeline_id} not found; `darkroom pipelines list` shows them")
    return dict(row)


async def default_tier(runtime: Runtime, pipeline_id: str | None) -> str:
    """Return the tier of a new picture's job that names none: its pipeline's, else 1K."""
    tier: str = await runtime.database.fetchval("SELECT darkroom.default_tier(NULL, NULL, $1)", pipeline_id)
    return tier


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
) -> dict[str, Any]:
    """Make a pipeline and return its row.

    Args:
        runtime: open.
        name: for people.
        configs: some of CONFIGS; what is missing or null means the system's default.
        user_id: its owner; None makes it nobody's, which everyone may use.
        tier: of its jobs, where they don't say.
        visibility: PRIVATE, PUBLIC or LINK; LINK gets a share token.
        description: for people.
        actor: who makes it.

    Raises:
        InvalidInputError: a rule is broken, or a model can't be asked; names the JSON path and the reason.
        NotFoundError: the owner doesn't exist.
    """
    require_valid(configs, user_id)
    await require_known_models(runtime, configs)
    values = (name, description, user_id, visibility, tier)
    with translated():
        return await runtime.database.commit(
            "create_pipeline",
            lambda connection: _insert(connection, values, configs, actor=actor, action="pipeline_create"),
        )


async def fork_pipeline(
    runtime: Runtime, pipeline_id: str, *, user_id: str | None, name: str | None = None, actor: str
) -> dict[str, Any]:
    """Copy a pipeline for another owner, PRIVATE, and return the copy's row.

    Reference pictures under the first owner's prefix stay behind, since the copy's jobs couldn't read them.

    Raises:
        InvalidInputError: a rule is broken by now, or a model can't be asked any more.
        NotFoundError: the pipeline or the new owner doesn't exist.
        NotYoursError: it is PRIVATE and another user's.
    """
    source = await get_pipeline(runtime, pipeline_id)
    if source["visibility"] == "PRIVATE" and source["userId"] not in {None, user_id}:
        raise NotYoursError(f"pipeline {pipeline_id} is private and another user's; only its owner can fork it")
    configs = {name: source[name] for name in CONFIGS}
    configs["promptConfig"] = _without_foreign_references(configs["promptConfig"], user_id)
    require_valid(configs, user_id)
    await require_known_models(runtime, configs)
    values = (name or f"{source['name']} (copy)", source["description"], user_id, "PRIVATE", source["tier"])
    with translated():
        return await runtime.database.commit(
            "fork_pipeline",
            lambda connection: _insert(
                connection, values, configs, actor=actor, action="pipeline_fork", before={"id": pipeline_id}
            ),
        )


def require_valid(configs: Mapping[str, Any], user_id: str | None) -> None:
    """Hold a pipeline's JSON against the rules, and its reference pictures against its owner's prefix.

    Raises:
        InvalidInputError: names the JSON path and the reason.
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
    connection: Connection,
    values: tuple[str, str | None, str | None, str, str],
    configs: Mapping[str, Any],
    *,
    actor: str,
    action: str,
    before: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    name, description, user_id, visibility, tier = values
    share_token = secrets.token_urlsafe(16) if visibility == "LINK" else None
    async with connection.transaction():
        row = await connection.fetchrow(
            _INSERT, name, description, user_id, visibility, share_token, tier, *(configs.get(one) for one in CONFIGS)
        )
        assert row is not None  # noqa: S101 - an INSERT without a conflict clause returns its row
        await record_action(
            connection, actor=actor, action=action, target=row["id"], before=before, after={"name": name}
        )
    return dict(row)


def _references(prompt_config: Any) -> list[dict[str, Any]]:
    return [one or {} for one in (prompt_config or {}).get("referenceImages") or []]


def _without_foreign_references(prompt_config: Any, user_id: str | None) -> Any:
    def is_usable(reference: Mapping[str, Any]) -> bool:
        key = reference.get("r2Key")
        return not key or (user_id is not None and keys.is_users(key, user_id))

    references = _references(prompt_config)
    kept = [one for one in references if is_usable(one)]
    return prompt_config if len(kept) == len(references) else {**prompt_config, "referenceImages": kept}
