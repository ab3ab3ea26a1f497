"""Unfinished jobs without a queue row: another worker left them, or a restore, or a truncated queue."""

from typing import Final

import asyncpg

from models.connections import ContentionError
from models.database import Database
from workers.operations.checks.check import Check

_OUTSIDE: Final = """
SELECT darkroom.takes_over() AS takes_over, count(*) FILTER (WHERE j.status = 'PENDING') AS pending,
       count(*) FILTER (WHERE j.status = 'PROCESSING') AS processing, min(j.id) AS example
FROM darkroom.job_rows('{PENDING,PROCESSING}') j
WHERE (j.status = 'PROCESSING' OR (j.status = 'PENDING' AND j."createdAt" < darkroom.utc_now() - interval '1 minute'))
  AND NOT EXISTS (SELECT FROM darkroom.job_queue q WHERE q.job_id = j.id AND q.job_type = j.type)
  AND NOT EXISTS (SELECT FROM darkroom.refused_ends r
                  WHERE r.job_id = j.id AND r.job_type = j.type AND r.label IS NOT NULL)
"""


async def check_outside_the_queue(database: Database) -> Check:
    """Count unfinished jobs that nobody will run: a failure where only an operator's word lets them be taken in."""
    name = "jobs outside the queue"
    try:
        row = await database.fetchrow(_OUTSIDE)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, ContentionError, OSError) as error:
        return Check(name, "fail", f"couldn't be looked at: {error}", "see the PostgreSQL log")
    if row is None or not row["pending"] + row["processing"]:
        return Check(name, "ok", "every unfinished job is in the queue")
    message = (
        f"{row['pending']:,} PENDING and {row['processing']:,} PROCESSING jobs have no queue row, "
        f"one is job {row['example']}"
    )
    if row["takes_over"]:
        return Check(name, "warn", message, "start `darkroom scheduler`, which takes them in, or ends those too old")
    advice = "stop the worker that was here before, then `darkroom db upgrade --take-over`"
    return Check(name, "fail", f"{message}; these tables were made by another tool", advice)
