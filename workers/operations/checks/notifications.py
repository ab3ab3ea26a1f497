"""Check of PostgreSQL's queue of notifications. All programs share it, and one listening session can fill it.

A session does so if it stays in a transaction for long.
"""

from typing import Final

from models.database import Database
from models.schema.server import ending_statement, notify_queue
from workers.operations.checks.check import Check

FULL_FRACTION: Final = 0.25
"""Fraction from which on the check warns.

From three quarters on Darkroom sends no notifications; when full, commits fail.
"""


async def check_notify_queue(database: Database) -> Check:
    """Return how full the queue is, and which session has been idle in a transaction for longest."""
    queue = await database.run(notify_queue)
    if queue.used_fraction < FULL_FRACTION:
        return Check("notifications", "ok", f"the queue is {queue.used_fraction:.0%} full")
    culprit = "the session that listens and stays in a transaction (pg_stat_activity)"
    if queue.idle_pid is not None:
        culprit += (
            f"; idle in a transaction for longest is process {queue.idle_pid}: {ending_statement(queue.idle_pid)}"
        )
    return Check(
        "notifications",
        "warn",
        f"PostgreSQL's queue of notifications is {queue.used_fraction:.0%} full",
        f"end {culprit}",
    )
