"""Chunks of many rows of which the database refuses one: the other rows are changed, and that row is tried alone."""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final, TypeVar

import asyncpg

from config.logger import EventLogger
from models.money.chunks import UserChunk
from models.queue.refusal import CHECK_CONSTRAINTS_NOW, is_of_a_row, refusal_text
from workers.periodic.task import Work

log = EventLogger(__name__)

T = TypeVar("T")

FEW: Final = 50
"""How many rows are treated one by one when one of them is refused."""


def log_refused(task: str, row: str, error: asyncpg.PostgresError) -> None:
    """Log a row that a periodic task couldn't change, and why."""
    log.error("periodic_row_refused", task=task, row=row, error=refusal_text(error))


async def permitted(
    work: Work, write: Callable[[], Awaitable[T]], *, refused: Callable[[asyncpg.PostgresError], None] | None = None
) -> T | None:
    """Run `write` in the tick's transaction.

    Return None, with nothing written, if the database refuses one of the rows.

    Args:
        work: the tick's work.
        write: function that writes; it returns anything but None.
        refused: called with PostgreSQL's error.
    """
    try:
        async with work.connection.transaction():
            await work.connection.execute(CHECK_CONSTRAINTS_NOW)
            return await write()
    except asyncpg.PostgresError as error:
        if not is_of_a_row(error):
            raise
        if refused is not None:
            refused(error)
        return None


async def permitted_rows(
    work: Work,
    task: str,
    rows: Mapping[str, T],
    write: Callable[[Sequence[T]], Awaitable[Mapping[str, int]]],
) -> Mapping[str, int]:
    """Write rows together, or one by one if the database refuses that.

    Return the counts, and as `refused` the refused rows.

    Args:
        work: the tick's work.
        task: its name.
        rows: what to write, by the name that the log gives it.
        write: function that writes some of them, and returns what it counted.
    """
    counts = await permitted(work, partial(write, list(rows.values())))
    if counts is not None:
        return counts
    total: Counter[str] = Counter()
    for name, row in rows.items():
        one = await permitted(work, partial(write, [row]), refused=partial(log_refused, task, name))
        total.update({"refused": 1} if one is None else one)
    return total


async def refusable_chunk(
    work: Work,
    chunk: Callable[[int], Awaitable[UserChunk]],
    next_users: Callable[[int], Awaitable[Sequence[str]]],
    counts: Mapping[str, int],
) -> UserChunk:
    """Run a chunk; if the database refuses it, run a smaller one; if it refuses that too, postpone that one's users.

    Args:
        work: the tick's work.
        chunk: function that works on the next users, as many as given.
        next_users: function that returns the ids of these users.
        counts: the counts of a chunk in which nothing was done.

    Returns:
        What the chunk did, or a chunk in which the next few users are `late`: each of them is tried alone later.
    """
    for size in dict.fromkeys((work.size, FEW)):
        done = await permitted(work, partial(chunk, size))
        if done is not None:
            return done
    users = await next_users(FEW)
    return UserChunk(users[-1] if users else None, users, counts)
