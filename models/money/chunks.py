"""Users of whom a periodic task has treated the next few: what the database functions of the tasks return."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import asyncpg


@dataclass(frozen=True, slots=True)
class UserChunk:
    """What became of the next users.

    Attributes:
        last: the last user looked at, behind whom the next chunk goes on; None when nobody is left.
        late: users who were locked by another transaction, and weren't treated.
        counts: what was done, by the names that the tick counts by.
    """

    last: str | None
    late: Sequence[str]
    counts: Mapping[str, int]

    @staticmethod
    def of(row: asyncpg.Record | None) -> "UserChunk":
        """Return the chunk that a row of the database function describes."""
        values = dict(row or {})
        return UserChunk(values.pop("last", None), values.pop("late", None) or [], values)
