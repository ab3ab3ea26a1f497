"""The record of what operators change."""

import getpass
import os
from collections.abc import Mapping
from typing import Any

from models.database import Connection

_INSERT = """
INSERT INTO darkroom.operator_actions (actor, action, target, before, after, reason) VALUES ($1, $2, $3, $4, $5, $6)
"""


def os_user() -> str:
    """Name who runs this process; a container's bare number where there is no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


async def record_action(
    connection: Connection,
    *,
    actor: str,
    action: str,
    target: str,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    reason: str | None = None,
) -> None:
    """Write one change down; the caller's transaction holds the change and this row."""
    await connection.execute(_INSERT, actor, action, target, before, after, reason)
