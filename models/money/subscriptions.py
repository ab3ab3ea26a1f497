"""Renewal of subscriptions at the end of their period: for the next users in a chunk, for one, and how many are due."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from models.connections import Connection
from models.money.chunks import UserChunk

_CHUNK: Final = "SELECT * FROM darkroom.renew_chunk($1, $2, $3, $4)"
_NEXT: Final = """
SELECT d.user_id FROM darkroom.due_periods($1) d WHERE d.user_id > $2 ORDER BY d.user_id LIMIT $3
"""
_COUNT: Final = """
SELECT count(*) FILTER (WHERE NOT d.is_ending) AS renewed, count(*) FILTER (WHERE d.is_ending) AS ended
FROM darkroom.due_periods($1) d
"""


async def renew_next(connection: Connection, at_utc: datetime, after: str, most: int) -> UserChunk:
    """Renew or end one period for each of the users after `after`; the result counts `renewed` and `ended`."""
    return UserChunk.of(await connection.fetchrow(_CHUNK, at_utc, after, most, None))


async def renew_user(connection: Connection, at_utc: datetime, user_id: str) -> UserChunk:
    """Renew or end one period of one user; `last` is None once the user has no further period that is over.

    Raises:
        asyncpg.LockNotAvailableError: another transaction holds the user's rows.
    """
    return UserChunk.of(await connection.fetchrow(_CHUNK, at_utc, "", 1, user_id))


async def users_to_renew(connection: Connection, at_utc: datetime, after: str, most: int) -> Sequence[str]:
    """Return the ids of the users after `after` whose period is over."""
    return [row["user_id"] for row in await connection.fetch(_NEXT, at_utc, after, most)]


async def count_renewals(connection: Connection, at_utc: datetime) -> dict[str, int]:
    """Count the subscriptions that would be `renewed` and `ended`.

    One whose next periods are over too is counted once.
    """
    return dict(await connection.fetchrow(_COUNT, at_utc) or {})
