"""The money promises, proved every night over every user."""

from collections.abc import Mapping
from typing import Final

from workers.periodic.schedule import Schedule
from workers.periodic.task import Chunk, Task, Work

MOST_WRITTEN: Final = 1_000
"""Findings that one audit writes down; its counts have them all."""

PATIENCE_S: Final = 1_800
"""The audit reads the whole ledger, and locks nothing."""

# the id is made of tick and finding, so that an audit that is run again writes none twice
_AUDIT: Final = """
WITH found AS MATERIALIZED (SELECT v.* FROM darkroom.money_violations v),
written AS (
    INSERT INTO public.error_logs
        (id, "timestamp", message, "userId", route, environment, "errorType", "callerName", metadata)
    SELECT 'c' || left(md5(f.promise || coalesce(f.user_id, '') || coalesce(f.job_id, '') || f.finding || $1), 24),
           darkroom.utc_now(), f.promise || ': ' || f.finding, f.user_id, 'audit-ledger', 'BACKEND', 'LedgerViolation',
           'darkroom', jsonb_build_object('promise', f.promise, 'jobId', f.job_id, 'tick', $1::text)
    FROM (SELECT * FROM found LIMIT $2) f ON CONFLICT (id) DO NOTHING)
SELECT count(*) FROM found
"""


async def audit(work: Work) -> Chunk:
    """Write every breach of I3 and I7 to error_logs; the count is the metric."""
    found = await work.connection.fetchval(_AUDIT, work.at.isoformat(), MOST_WRITTEN, timeout=PATIENCE_S)
    return Chunk(None, {"violations": found})


async def count(work: Work) -> Mapping[str, int]:
    """Count the breaches."""
    return {
        "violations": await work.connection.fetchval(
            "SELECT count(*) FROM darkroom.money_violations", timeout=PATIENCE_S
        )
    }


TASK: Final = Task("audit-ledger", Schedule("10 2 * * *"), audit, count, moves_money=True)
