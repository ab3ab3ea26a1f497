"""What `db upgrade` and operators have recorded in `darkroom.settings`, for every process and producer alike."""

from typing import Any, Final, Literal

from models.connections import Connection

Recorded = Literal["models", "regeneration", "installation", "buying"]
"""The settings that Python reads as they are; pauses and schedules have modules of their own."""

_SETTING: Final = "SELECT darkroom.setting($1)"
_MONEY_MODE: Final = "SELECT darkroom.money_mode()"
_LINK_PIPELINES: Final = "SELECT darkroom.link_pipelines()"


async def recorded_setting(connection: Connection, name: Recorded) -> Any:
    """Return the JSON value of a setting; None where none is recorded."""
    return await connection.fetchval(_SETTING, name)


async def money_mode(connection: Connection) -> str:
    """Return who keeps the balances, as TOKENS names it: `managed`, or the application itself."""
    mode: str = await connection.fetchval(_MONEY_MODE)
    return mode


async def is_managed(connection: Connection) -> bool:
    """Say whether balances are Darkroom's to change."""
    return await money_mode(connection) == "managed"


async def link_pipelines(connection: Connection) -> str:
    """Return who may use pipelines that are shared by link, as DARKROOM_LINK_PIPELINES names it and as is recorded."""
    recorded: str = await connection.fetchval(_LINK_PIPELINES)
    return recorded
