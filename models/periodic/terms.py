"""The terms of token regeneration, recorded in darkroom.settings for the SQL functions."""

from collections.abc import Mapping

from models.connections import Connection


async def record_terms(connection: Connection, terms: Mapping[str, object]) -> bool:
    """Record the terms of token regeneration; return whether they differ from what was recorded until then."""
    changed = await connection.fetchval(
        """INSERT INTO darkroom.settings AS s (key, value) VALUES ('regeneration', $1::jsonb)
           ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = now() WHERE s.value <> excluded.value
           RETURNING true""",
        dict(terms),
    )
    return changed is True
