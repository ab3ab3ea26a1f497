"""Result of a chunk of a periodic task that works through users, as the tasks' database functions return it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import asyncpg


@dataclass(frozen=True, slots=True)
class UserChunk:
    """What a periodic task did for the next few users.

    Attributes:
        last: the last user of this chunk, after whom the next chunk begins; None when no users are left.
        late: users who were skipped because another transaction had locked their rows.
        counts: what was done, by the names under which the tick counts it.
    """

    last: str | None
    late: Sequence[str]
    counts: Mapping[str, int]

    @staticmethod
    def of(row: asyncpg.Record | None) -> "UserChunk":
        """Build the result from a row of the database function."""
        values = dict(row or {})
        return UserChunk(values.pop("last", None), values.pop("late", None) or [], values)
