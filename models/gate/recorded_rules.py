"""The providers that workers ask, with their limits: recorded for estimates (models/queue/progress.sql)."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from models.connections import Connection

_RECORD: Final = """
INSERT INTO darkroom.settings AS s (key, value) VALUES ('provider_rules', $1)
ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = now() WHERE s.value <> excluded.value
"""


async def record_provider_rules(connection: Connection, providers: Sequence[Mapping[str, Any]]) -> None:
    """Record what a worker knows of its providers; of workers that differ, the last one to start is believed.

    Each has a `name`, `is_paid`, and `rules` as the gate takes them.
    """
    await connection.execute(_RECORD, list(providers))
