"""Regeneration of tokens: for the next chunk of users, for one user, and how much of it is due."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from models.connections import Connection
from models.money.chunks import UserChunk

_CHUNK: Final = "SELECT * FROM darkroom.regenerate_chunk($1, $2, $3)"
_ONE: Final = "SELECT darkroom.regenerate_at($1, $2)"
_NEXT: Final = """
SELECT d.user_id FROM darkroom.due_regenerations($1) d WHERE d.user_id > $2 ORDER BY d.user_id LIMIT $3
"""
_COUNT: Final = """
SELECT count(*) FILTER (WHERE d.tokens > 0) AS users, coalesce(sum(d.tokens), 0)::bigint AS tokens
FROM darkroom.due_regenerations($1) d
"""


async def regenerate_next(connection: Connection, at_utc: datetime, after: str, most: int) -> UserChunk:
    """Add the tokens that are due at time `at` to the balances of the next users after `after`.

    The result counts `users` and `tokens`.
    """
    return UserChunk.of(await connection.fetchrow(_CHUNK, at_utc, after, most))


async def regenerate_user(connection: Connection, user_id: str, at_utc: datetime) -> int:
    """Add the tokens that are due at a time to one user's balance; return how many.

    Raises:
        asyncpg.LockNotAvailableError: another transaction holds the user's rows.
        asyncpg.NoDataFoundError: the user no longer exists.
    """
    tokens: int = await connection.fetchval(_ONE, user_id, at_utc)
    return tokens


async def users_to_regenerate(connection: Connection, at_utc: datetime, after: str, most: int) -> Sequence[str]:
    """Return the ids of the next users after `after` to whom tokens are due."""
    return [row["user_id"] for row in await connection.fetch(_NEXT, at_utc, after, most)]


async def count_regenerations(connection: Connection, at_utc: datetime) -> dict[str, int]:
    """Count the `users` to whom tokens are due at a time, and the `tokens`."""
    return dict(await connection.fetchrow(_COUNT, at_utc) or {})
