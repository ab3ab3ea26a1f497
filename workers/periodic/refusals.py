"""A chunk of many users' rows of which the database refuses one: the others go on, and that one is tried alone."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import asyncpg

from models.refusals import SPEAK_NOW, is_refusal
from workers.periodic.task import Work

FEW: Final = 50
"""So many users go one by one when one of them is refused."""


async def refusable_chunk(
    work: Work,
    chunk: Callable[[int], Awaitable[Any]],
    next_users: Callable[[int], Awaitable[Sequence[Any]]],
    counts: Mapping[str, int],
) -> Mapping[str, Any]:
    """Run a chunk; where the database refuses it, a small one; where that is refused, too, put its users off.

    Args:
        work: the tick's.
        chunk: does the next so many users, and returns a row with `last`, `late` and the counts.
        next_users: returns these users, as rows with `user_id`.
        counts: what the row counts when nothing was done.

    Returns:
        The chunk's row, or one in which the next few users are `late`: each of them follows alone.
    """
    for size in dict.fromkeys((work.size, FEW)):
        try:
            async with work.connection.transaction():
                await work.connection.execute(SPEAK_NOW)
                row = await chunk(size)
        except asyncpg.PostgresError as error:
            if not is_refusal(error):
                raise
        else:
            assert row is not None  # noqa: S101 - a function with OUT parameters returns one row
            return dict(row)
    users = [one["user_id"] for one in await next_users(FEW)]
    return {"last": users[-1] if users else None, "late": users, **counts}
