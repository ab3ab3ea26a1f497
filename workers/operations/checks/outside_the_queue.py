"""Check for unfinished jobs without a queue row, from another worker, a restored backup, or a truncated queue."""

import asyncpg

from models.connections import ContentionError
from models.database import Database
from models.queue.waiting import jobs_outside_queue
from workers.operations.checks.check import Check


async def check_outside_the_queue(database: Database) -> Check:
    """Count unfinished jobs without a queue row. If their adoption needs an operator's permission, the check fails."""
    name = "jobs outside the queue"
    try:
        outside = await database.run(jobs_outside_queue)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, ContentionError, OSError) as error:
        return Check(name, "fail", f"couldn't be looked at: {error}", "see the PostgreSQL log")
    if not outside.pending + outside.processing:
        return Check(name, "ok", "every unfinished job is in the queue")
    message = (
        f"{outside.pending:,} PENDING and {outside.processing:,} PROCESSING jobs have no queue row, "
        f"one is job {outside.example}"
    )
    if outside.takes_over:
        return Check(name, "warn", message, "start `darkroom scheduler`, which takes them in, or ends those too old")
    advice = "stop the worker that was here before, then `darkroom db upgrade --take-over`"
    return Check(name, "fail", f"{message}; these tables were made by another tool", advice)
