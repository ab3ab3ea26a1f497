"""Violations of the money promises over all users, and the rows of error_logs that report them to the application."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final

from models.applications.registry import has_pictures
from models.connections import Connection

TIMEOUT_S: Final = 1_800
"""Time limit for finding violations: the query reads the whole ledger, but locks nothing."""

_ALL: Final = """
SELECT v.promise, v.violation, v.user_id, v.job_type, v.job_id, v.finding
FROM darkroom.money_violations v ORDER BY v.promise DESC, v.violation, v.user_id, v.job_id
"""
_COUNT: Final = "SELECT count(*) FROM darkroom.money_violations"

# The id is made of tick and finding, so that an audit that is repeated writes no finding twice.
_NUMBERED: Final = """
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


@dataclass(frozen=True, slots=True)
class Violation:
    """A violation of a money promise: the promise, how it is broken, the user, and the numbers that were found."""

    promise: str
    violation: str
    user_id: str
    job_type: str | None
    job_id: str | None
    finding: str


@dataclass(frozen=True, slots=True)
class Finding:
    """A violation as an audit records it; `id` is the same whenever the same audit finds it."""

    id: str
    promise: str
    user_id: str | None
    job_id: str | None
    finding: str


@dataclass(frozen=True, slots=True)
class Findings:
    """What an audit found: the first violations, and how many there are."""

    first: Sequence[Finding]
    violations: int


async def list_violations(connection: Connection) -> list[Violation]:
    """Return every violation."""
    return [Violation(**row) for row in await connection.fetch(_ALL, timeout=TIMEOUT_S)]


async def count_violations(connection: Connection) -> int:
    """Count the violations."""
    count: int = await connection.fetchval(_COUNT, timeout=TIMEOUT_S)
    return count


async def audit(connection: Connection, at: datetime, most: int) -> Findings:
    """Return up to `most` violations, and the number of all violations, for the audit of a tick."""
    rows = await connection.fetch(_NUMBERED, at.isoformat(), most, timeout=TIMEOUT_S)
    first = [Finding(row["id"], row["promise"], row["user_id"], row["job_id"], row["finding"]) for row in rows]
    return Findings(first, rows[0]["violations"] if rows else 0)


async def write_findings(connection: Connection, at: datetime, findings: Sequence[Finding]) -> None:
    """Write what an audit found into the error log of `pictures`, each violation only if it isn't there already.

    Other applications have no such log: the tick's counts tell of their violations.
    """
    if not has_pictures():
        return
    await connection.execute(_WRITE, at.isoformat(), [asdict(one) for one in findings])
