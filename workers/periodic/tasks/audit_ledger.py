"""The money promises, proved every night over every user."""

from collections.abc import Mapping, Sequence
from typing import Final

from workers.periodic.refusals import permitted_rows
from workers.periodic.schedule import Schedule
from workers.periodic.task import Chunk, Task, Work

MOST_WRITTEN: Final = 1_000
"""Findings that one audit writes down; its counts have them all."""

PATIENCE_S: Final = 1_800
"""The audit reads the whole ledger, and locks nothing."""

# the id is made of tick and finding, so that an audit that is run again writes none twice
_FIND: Final = """
SELECT f.* FROM (
    SELECT 'c' || left(md5(v.promise || coalesce(v.user_id, '') || coalesce(v.job_id, '') || v.finding || $1::text), 24)
               AS id, v.promise, v.user_id, v.job_id, v.finding, count(*) OVER () AS violations
    FROM darkroom.money_violations v) f LIMIT $2
"""
_WRITE: Final = """
INSERT INTO public.error_logs
    (id, "timestamp", message, "userId", route, environment, "errorType", "callerName", metadata)
SELECT f.id, darkroom.utc_now(), f.promise || ': ' || f.finding, f.user_id, 'audit-ledger', 'BACKEND',
       'LedgerViolation', 'darkroom', jsonb_build_object('promise', f.promise, 'jobId', f.job_id, 'tick', $1::text)
FROM jsonb_to_recordset($2) AS f (id text, promise text, user_id text, job_id text, finding text)
ON CONFLICT (id) DO NOTHING
"""


async def audit(work: Work) -> Chunk:
    """Write every breach of I3 and I7 to error_logs; the count is the metric."""
    tick = work.at.isoformat()
    found = [dict(row) for row in await work.connection.fetch(_FIND, tick, MOST_WRITTEN, timeout=PATIENCE_S)]

    async def write(some: Sequence[Mapping[str, object]]) -> Mapping[str, int]:
        await work.connection.execute(_WRITE, tick, some)
        return {}

    named = {f"{one['promise']}: {one['finding']} ({one['job_id'] or one['user_id']})": one for one in found}
    refused = await permitted_rows(work, TASK.name, named, write)
    return Chunk(None, {"violations": found[0]["violations"] if found else 0, **refused})


async def count(work: Work) -> Mapping[str, int]:
    """Count the breaches."""
    return {
        "violations": await work.connection.fetchval(
            "SELECT count(*) FROM darkroom.money_violations", timeout=PATIENCE_S
        )
    }


TASK: Final = Task("audit-ledger", Schedule("10 2 * * *"), audit, count, moves_money=True)
