"""Check of PostgreSQL's queue of notifications, which one session that listens and dawdles fills for everybody."""

from typing import Final

from models.database import Database
from workers.operations.checks.check import Check

FULL_FRACTION: Final = 0.25
"""From here on somebody is to look; at three quarters ours are left out, and when it is full commits fail."""

_USAGE: Final = """
SELECT pg_notification_queue_usage() AS used_fraction,
       (SELECT a.pid FROM pg_stat_activity a
        WHERE a.datname = current_database() AND a.state LIKE 'idle in transaction%' AND a.pid <> pg_backend_pid()
        ORDER BY a.xact_start LIMIT 1) AS idle_pid
"""


async def check_notify_queue(database: Database) -> Check:
    """Say how full the queue is, and which session has been idle in a transaction for longest."""
    row = await database.fetchrow(_USAGE)
    used_fraction, idle_pid = (0.0, None) if row is None else (row["used_fraction"], row["idle_pid"])
    if used_fraction < FULL_FRACTION:
        return Check("notifications", "ok", f"the queue is {used_fraction:.0%} full")
    culprit = "the session that listens and stays in a transaction (pg_stat_activity)"
    if idle_pid is not None:
        culprit += f"; idle in a transaction for longest is process {idle_pid}: SELECT pg_terminate_backend({idle_pid})"
    return Check(
        "notifications", "warn", f"PostgreSQL's queue of notifications is {used_fraction:.0%} full", f"end {culprit}"
    )
