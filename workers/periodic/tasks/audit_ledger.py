"""Task audit-ledger: checks the money promises for every user, each night."""

from collections.abc import Mapping, Sequence
from typing import Final

from models.money import violations
from models.money.violations import Finding
from workers.periodic.refusals import permitted_rows
from workers.periodic.schedule import Schedule
from workers.periodic.task import Chunk, Task, Work

MOST_WRITTEN: Final = 1_000
"""How many violations one audit writes to error_logs; its counts include all."""


async def audit(work: Work) -> Chunk:
    """Write every violation of the promises I3 and I7 to error_logs; return their number as the tick's count."""
    found = await violations.audit(work.connection, work.at, MOST_WRITTEN)

    async def write(some: Sequence[Finding]) -> Mapping[str, int]:
        await violations.write_findings(work.connection, work.at, some)
        return {}

    named = {f"{one.promise}: {one.finding} ({one.job_id or one.user_id})": one for one in found.first}
    refused = await permitted_rows(work, TASK.name, named, write)
    return Chunk(None, {"violations": found.violations, **refused})


async def count(work: Work) -> Mapping[str, int]:
    """Count the violations."""
    return {"violations": await violations.count_violations(work.connection)}


TASK: Final = Task("audit-ledger", Schedule("10 2 * * *"), audit, count, moves_money=True)
