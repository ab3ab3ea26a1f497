"""Trips to the database that are worth waiting for: how long each kind of failure is waited out."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol, TypeVar

import structlog

from models.connections import DATABASE_ERRORS, Connection, ContentionError, DatabaseLostError, is_cancelled
from models.database import Database

T = TypeVar("T")

log = structlog.get_logger(__name__)

DATABASE_GONE_S = 0.5
"""How long to wait between tries while PostgreSQL is gone: the result in hand is worth the wait."""

CONTENTION_RETRY_S = 120.0
"""How long a result waits for a row that another program holds; its lane is free meanwhile. After that the job waits
without a claim, and has used no attempt."""

LANE_RETRY_S = 5.0
"""How long such a wait keeps its lane, and how long a statement of it is repeated before the claim is prolonged."""

CANCELLED_RETRY_S = 2.0
"""How long a statement is repeated that PostgreSQL cancels (a role's statement_timeout in a busy hour)."""


class Waiting(Protocol):
    """A job that waits for rows which another program holds, and may do so outside of its lane."""

    def leave_lane(self) -> None:
        """Let another job run meanwhile."""

    def take_lane(self) -> None:
        """Take the lane again."""


async def read_with_retries(database: Database, work: Callable[[Connection], Awaitable[T]]) -> T:
    """Read as `Database.run` does, and wait while PostgreSQL is gone."""
    return await with_database_retries(partial(database.run, work))


async def commit_with_retries(
    database: Database, name: str, work: Callable[[Connection], Awaitable[T]], *, waiting: Waiting | None = None
) -> T:
    """Commit as `Database.commit` does; wait while PostgreSQL is gone, and outside of a lane for rows held."""
    return await with_database_retries(partial(database.commit, name, work, retry_for_s=LANE_RETRY_S), waiting=waiting)


async def with_database_retries(
    trip: Callable[[], Awaitable[T]],
    *,
    contention_s: float | None = None,
    waiting: Waiting | None = None,
) -> T:
    """Make a trip; while PostgreSQL is gone, wait: nothing is bought meanwhile, and on return the token decides.

    A trip does nothing but work on the database, so that an OSError of it is a connection that this machine can't open
    now. What loses races for locks, or is cancelled, again and again is refused in the end; at once where a trigger
    says so, because no lock is waited for.

    Args:
        trip: is repeated.
        contention_s: how long it may lose races for locks; None for CONTENTION_RETRY_S.
        waiting: leaves its lane when it has lost them for LANE_RETRY_S, until the trip is over.

    Raises:
        DatabaseLostError, ContentionError, asyncpg.PostgresError: what the trip raised at last.
    """
    contention_s = CONTENTION_RETRY_S if contention_s is None else contention_s
    began_s = time.monotonic()
    try:
        while True:
            try:
                return await trip()
            except DATABASE_ERRORS as error:
                waited_s = time.monotonic() - began_s
                if waited_s >= _retry_for_s(error, contention_s):
                    raise
                if waiting is not None and isinstance(error, ContentionError) and waited_s >= LANE_RETRY_S:
                    waiting.leave_lane()
                log.warning("database_awaited", error=str(error), error_type=type(error).__name__)
                await asyncio.sleep(DATABASE_GONE_S)
    finally:
        if waiting is not None:
            waiting.take_lane()


def _retry_for_s(error: Exception, contention_s: float) -> float:
    """Return for how long a trip is repeated that fails with an error."""
    if isinstance(error, DatabaseLostError | OSError):
        return math.inf
    if isinstance(error, ContentionError):
        return contention_s
    return CANCELLED_RETRY_S if is_cancelled(error) else 0
