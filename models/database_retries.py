"""Work on the database that is repeated until it succeeds, and how long each kind of failure is retried."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol, TypeVar

from config.logger import EventLogger
from models.connections import DATABASE_ERRORS, Connection, ContentionError, DatabaseLostError, is_cancelled
from models.database import Database

T = TypeVar("T")

log = EventLogger(__name__)

DATABASE_GONE_S = 0.5
"""Seconds between tries while PostgreSQL is unreachable. The result that waits was paid for, so it isn't given up."""

CONTENTION_RETRY_S = 120.0
"""How long, in seconds, a job's result waits for a row that another program holds; other jobs use its lane meanwhile.

After that the job goes back to the queue without a claim, and the attempt isn't counted.
"""

LANE_RETRY_S = 5.0
"""How long, in seconds, such a wait keeps its lane.

It is also how long one of its statements is repeated before the claim is prolonged.
"""

CANCELLED_RETRY_S = 2.0
"""How long, in seconds, a statement is repeated that PostgreSQL cancels, such as by a role's statement_timeout."""


class Waiting(Protocol):
    """Interface of a job that waits for rows which another program holds, and can leave its lane while it waits."""

    def leave_lane(self) -> None:
        """Leave the lane, so that another job runs meanwhile."""

    def take_lane(self) -> None:
        """Use a lane again."""


async def read_with_retries(database: Database, work: Callable[[Connection], Awaitable[T]]) -> T:
    """Run work that reads, as `Database.run` does. While PostgreSQL is unreachable, wait and repeat it."""
    return await with_database_retries(partial(database.run, work))


async def commit_with_retries(
    database: Database, name: str, work: Callable[[Connection], Awaitable[T]], *, waiting: Waiting | None = None
) -> T:
    """Commit as `Database.commit` does.

    While PostgreSQL is unreachable or another program holds the rows, wait and repeat it.

    Args:
        database: where the rows are.
        name: name of the commit's failpoint.
        work: one statement or one transaction.
        waiting: the job that leaves its lane while rows are held; None for work that uses no lane.
    """
    return await with_database_retries(partial(database.commit, name, work, retry_for_s=LANE_RETRY_S), waiting=waiting)


async def with_database_retries(
    trip: Callable[[], Awaitable[T]],
    *,
    contention_s: float | None = None,
    waiting: Waiting | None = None,
) -> T:
    """Run `trip`, a call that only works on the database. While PostgreSQL is unreachable, wait and repeat it.

    An OSError of the call means that this machine can't open a connection now. A call that meets locks, or is
    cancelled, again and again fails in the end; if only a trigger reports a lock, the call fails at once, because then
    the lock isn't a real one.

    Args:
        trip: the call, which must be repeatable.
        contention_s: how long it may meet locks; None for CONTENTION_RETRY_S.
        waiting: the job that leaves its lane once the call has met locks for LANE_RETRY_S, until the call is over.

    Raises:
        DatabaseLostError, ContentionError, asyncpg.PostgresError: the last error of the call.
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
    """Return for how many seconds a call that raised this error is repeated; infinity if PostgreSQL is unreachable."""
    if isinstance(error, DatabaseLostError | OSError):
        return math.inf
    if isinstance(error, ContentionError):
        return contention_s
    return CANCELLED_RETRY_S if is_cancelled(error) else 0
