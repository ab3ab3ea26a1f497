"""Listing, reading and inserting of pipelines, and the defaults that a job takes from its pipeline or its album's."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg

from config.pipeline_rules import CONFIGS
from models.connections import Connection
from models.schema.newest import newest_rows

_LIST: Final = """
SELECT p.* FROM public.enhancement_pipelines p
WHERE ($1::text IS NULL OR p."userId" = $1) AND ($2::text IS NULL OR p.visibility::text = $2)
ORDER BY p."createdAt" DESC, p.id DESC LIMIT $3
"""
_ONE: Final = "SELECT p.* FROM public.enhancement_pipelines p WHERE p.id = $1"
_COLUMNS: Final = 'r.id, r.name, r.description, r."userId", r.visibility, r.tier, r."createdAt"'
_NEWEST: Final = """
SELECT r.id, r.name, r.description, r."userId" AS user_id, r.visibility::text, r.tier::text, r."createdAt" AS created_at
FROM {newest} r ORDER BY r."createdAt" DESC, r.id DESC
"""
_CONFIGS: Final = """
SELECT p."analysisConfig", p."autoCropConfig", p."promptConfig", p."generationConfig"
FROM public.enhancement_pipelines p WHERE p.id = $1
"""
_INSERT: Final = """
INSERT INTO public.enhancement_pipelines
    (id, name, description, "userId", visibility, "shareToken", tier, "analysisConfig", "autoCropConfig",
     "promptConfig", "generationConfig", "createdAt", "updatedAt")
VALUES (darkroom.new_id(), $1, $2, $3, $4::text::public."PipelineVisibility", $5,
        $6::text::public."EnhancementTier", $7, $8, $9, $10, darkroom.utc_now(), darkroom.utc_now())
RETURNING *
"""
_DEFAULT_TIER: Final = "SELECT darkroom.default_tier($1, $2, $3)"
_MODEL: Final = """
SELECT p."generationConfig" ->> 'model' FROM public.enhancement_pipelines p
WHERE p.id = coalesce($3, darkroom.album_pipeline($1, $2))
"""


@dataclass(frozen=True, slots=True)
class NewPipeline:
    """A pipeline that is to be created.

    Attributes:
        name: its name, for people.
        description: its description, for people.
        user_id: its owner; None for a pipeline of the system's, which everyone may use.
        visibility: PRIVATE, PUBLIC or LINK.
        share_token: the token that a user must show to use a pipeline with visibility LINK.
        tier: the tier of jobs that name none.
        configs: JSON by some names of CONFIGS; what is missing or null has the system's default.
    """

    name: str
    description: str | None
    user_id: str | None
    visibility: str
    share_token: str | None
    tier: str
    configs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A pipeline as its row has it; `columns` is the whole row by column name, for printing."""

    id: str
    name: str
    description: str | None
    user_id: str | None
    visibility: str
    tier: str
    configs: Mapping[str, Any]
    columns: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PipelineRow:
    """A pipeline as a list shows it; `created_at` is UTC without a zone."""

    id: str
    name: str
    description: str | None
    user_id: str | None
    visibility: str
    tier: str
    created_at: datetime


async def newest_pipelines(connection: Connection, most: int) -> list[PipelineRow]:
    """Return pipelines that were probably added last, the newest first, reading few rows however many there are."""
    newest = await newest_rows(connection, "public.enhancement_pipelines", _COLUMNS, most)
    return [PipelineRow(**row) for row in await connection.fetch(_NEWEST.format(newest=newest))]


async def find_pipelines(
    connection: Connection, user_id: str | None, visibility: str | None, most: int
) -> list[Pipeline]:
    """Return pipelines, newest first, filtered by owner and visibility where these are given."""
    return [_pipeline(row) for row in await connection.fetch(_LIST, user_id, visibility, most)]


async def count_pipelines(connection: Connection, user_id: str | None, visibility: str | None) -> int:
    """Count pipelines, filtered by owner and visibility where these are given."""
    return int(await connection.fetchval(f"SELECT count(*) FROM ({_LIST}) p", user_id, visibility, None))


async def read_pipeline(connection: Connection, pipeline_id: str) -> Pipeline | None:
    """Return a pipeline; None if there is none."""
    row = await connection.fetchrow(_ONE, pipeline_id)
    return None if row is None else _pipeline(row)


async def read_configs(connection: Connection, pipeline_id: str) -> Mapping[str, Any] | None:
    """Return a pipeline's JSON by the names of CONFIGS; None if there is no such pipeline."""
    row = await connection.fetchrow(_CONFIGS, pipeline_id)
    return None if row is None else dict(row)


async def insert_pipeline(connection: Connection, new: NewPipeline) -> Pipeline:
    """Insert a pipeline, and return it.

    Raises:
        asyncpg.ForeignKeyViolationError: the owner doesn't exist.
    """
    row = await connection.fetchrow(
        _INSERT,
        *(new.name, new.description, new.user_id, new.visibility, new.share_token, new.tier),
        *(new.configs.get(one) for one in CONFIGS),
    )
    assert row is not None  # noqa: S101 - an INSERT without a conflict clause returns its row
    return _pipeline(row)


async def default_tier(
    connection: Connection, pipeline_id: str | None, user_id: str | None = None, image_id: str | None = None
) -> str:
    """Return the tier of a job that names none: its pipeline's, else that of its picture's album, else TIER_1K."""
    tier: str = await connection.fetchval(_DEFAULT_TIER, user_id, image_id, pipeline_id)
    return tier


async def wished_model(connection: Connection, pipeline_id: str | None, user_id: str, image_id: str) -> str | None:
    """Return the model that a job's pipeline names, else the model of its picture's album.

    The result is None if neither names a model.
    """
    model: str | None = await connection.fetchval(_MODEL, user_id, image_id, pipeline_id)
    return model


def _pipeline(row: asyncpg.Record) -> Pipeline:
    columns = dict(row)
    return Pipeline(
        id=columns["id"],
        name=columns["name"],
        description=columns["description"],
        user_id=columns["userId"],
        visibility=columns["visibility"],
        tier=columns["tier"],
        configs={name: columns[name] for name in CONFIGS},
        columns=columns,
    )
