"""Settings that `db upgrade` and operators recorded in `darkroom.settings`, for every process and producer alike."""

import secrets
from typing import Any, Final, Literal

from models.connections import Connection

Recorded = Literal["models", "regeneration", "installation", "buying"]
"""The settings whose recorded values Python uses unchanged; pauses and schedules have modules of their own."""

SECRET_KEY_BYTES: Final = 32

_SETTING: Final = "SELECT darkroom.setting($1)"
_MONEY_MODE: Final = "SELECT darkroom.money_mode()"
_MAKE_KEY: Final = """
INSERT INTO darkroom.settings (key, value, updated_at) VALUES ('secret_key', $1, now()) ON CONFLICT (key) DO NOTHING
"""
_KEPT_KEY: Final = "SELECT s.value FROM darkroom.settings s WHERE s.key = 'secret_key'"
_LINK_PIPELINES: Final = "SELECT darkroom.link_pipelines()"


async def recorded_setting(connection: Connection, name: Recorded) -> Any:
    """Return the JSON value of a setting; None if it isn't recorded."""
    return await connection.fetchval(_SETTING, name)


async def money_mode(connection: Connection) -> str:
    """Return the recorded mode of money, as TOKENS names it."""
    mode: str = await connection.fetchval(_MONEY_MODE)
    return mode


async def is_managed(connection: Connection) -> bool:
    """Return whether Darkroom manages the balances (mode managed)."""
    return await money_mode(connection) == "managed"


async def link_pipelines(connection: Connection) -> str:
    """Return the recorded value of DARKROOM_LINK_PIPELINES: who may use pipelines with visibility LINK."""
    recorded: str = await connection.fetchval(_LINK_PIPELINES)
    return recorded


async def kept_secret_key(connection: Connection) -> str:
    """Return the key that signs what dashboards give out; the first dashboard of a database makes it.

    Two that start at the same moment get the same one. It must never be printed or logged.
    """
    key: str | None = await connection.fetchval(_KEPT_KEY)
    if key is None:
        await connection.execute(_MAKE_KEY, secrets.token_urlsafe(SECRET_KEY_BYTES))
        key = await connection.fetchval(_KEPT_KEY)
    assert key is not None  # noqa: S101 - nobody deletes it
    return key
